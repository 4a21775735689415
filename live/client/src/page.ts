// The page as the other files see it: its root element, its events, its errors.

/** The element that holds the view. It is set once, before anything else happens. */
export let root: HTMLElement;

export const setRoot = (el: HTMLElement) => {
  root = el;
};

/** Dispatches `live:NAME` on window. */
export const emit = (name: string, detail?: unknown) => {
  dispatchEvent(new CustomEvent("live:" + name, { detail }));
};

/** Calls fn with what comes with each event `live:NAME`, until the function that it returns is called. */
export const on = (name: string, fn: (detail: any) => void) => {
  const listener = (e: any) => fn(e.detail);
  addEventListener("live:" + name, listener);
  return () => removeEventListener("live:" + name, listener);
};

/** Whether a click of a link is to be followed in this page. */
export const isPlain = (e: MouseEvent) => !(e.button || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey);

/** The id of el, also where el is a form with a field that is called id. */
export const idOf = (el: Element) => el.getAttribute("id")!;

export const byId = (id: string) => document.getElementById(id);

export const all = <E extends Element>(selector: string) => [...root.querySelectorAll<E>(selector)];

/** The value of the attribute `live-NAME`. */
export const attr = (el: Element, name: string) => el.getAttribute("live-" + name);

/** Reads, or with a value writes, what shall outlive the page in this tab. */
export const kept = (key: string, value?: string | number): string => {
  try {
    if (value !== undefined) sessionStorage.setItem("live:" + key, "" + value);
    return sessionStorage.getItem("live:" + key) || "";
  } catch {
    return ""; // storage may be forbidden
  }
};

export const toggle = (state: string, on: boolean) => {
  for (const el of [root, document.documentElement]) el.classList.toggle("live-" + state, on);
};
