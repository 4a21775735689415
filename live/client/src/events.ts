// What the user does: the attributes that bind events, and how often they are sent.

import { changes, isResetting, isUsed, reset, unuse, use, values } from "./forms";
import { lock, locks } from "./locks";
import { all, attr, idOf, isPlain, root } from "./page";
import { hasJoined, isConnected, send, views, wait } from "./socket";

type Timer = { timer: ReturnType<typeof setTimeout>; run?: (() => void) | 0 };

// By element and kind of event.
const timers = new WeakMap<Element, Record<string, Timer>>();

/** Sends an event of el, which is locked until the server has answered, or of no element. Returns as send does. */
export const push = (el: Element | null, name: string, kind: string, value: unknown, cause?: Element | null) => {
  const ref = send("e", name, kind, value, ...(views.value ? [views.value] : []));
  if (ref && el) lock(el, ref, kind, cause);
  return ref;
};

/** Runs what el had put off, all kinds. */
const flush = (el: Element) => {
  for (const timer of Object.values(timers.get(el) || {})) {
    clearTimeout(timer.timer);
    const run = timer.run;
    timer.run = 0;
    if (run) run();
  }
  timers.delete(el);
};

/** Runs fn when el, or else form, wants it: at once, when things are quiet, or at most every so often. */
const pace = (el: Element, kind: string, fn: () => void, from: Element = el, isFresh = false) => {
  const of = (name: string) => attr(el, name) ?? attr(from, name);
  const debounce = of("debounce");
  const throttle = of("throttle");
  if (debounce === null && throttle === null) return fn();
  let kinds = timers.get(el);
  if (!kinds) timers.set(el, (kinds = {}));
  const old = kinds[kind];
  const ms = (value: string | null) => +(value || 300);
  if (debounce !== null) {
    clearTimeout(old?.timer);
    kinds[kind] = { run: fn, timer: debounce === "blur" ? 0 as any : setTimeout(() => flush(el), ms(debounce)) };
  } else if (old && !isFresh) {
    if (kind === "change") old.run = fn; // the last value counts
  } else {
    clearTimeout(old?.timer);
    const again = () => {
      const run = kinds![kind]?.run;
      delete kinds![kind];
      if (run) pace(el, kind, run, from);
    };
    kinds[kind] = { timer: setTimeout(again, ms(throttle)) };
    fn();
  }
  return;
};

const bound = (e: Event, name: string) => {
  const el = (e.target as Element).closest?.(`[live-${name}]`);
  return el && root.contains(el) ? el : null;
};

/** Whether what el has as its value counts. */
const isOn = (el: any) => el.checked || !/^(checkbox|radio)$/.test(el.type);

const valuesOf = (el: any, out: Record<string, string> = {}) => {
  if (el.value && typeof el.value === "string" && isOn(el)) out.value = el.value;
  for (const { name, value } of el.attributes) if (name.startsWith("live-value-")) out[name.slice(11)] = value;
  return out;
};

const change = (form: HTMLFormElement, name: string, target: string, cause?: Element) =>
  push(form, name, "change", changes(form, target), cause);

/** Sends again what the user has put into forms, to a view that has been mounted anew and knows nothing of it. */
export const recover = (page: Element) => {
  for (const form of all<HTMLFormElement>("form[id][live-change]")) {
    const name = attr(form, "change")!;
    const neu = page.querySelector("#" + CSS.escape(idOf(form)));
    const recovery = attr(form, "auto-recover");
    if (recovery !== "ignore" && isUsed(form) && neu && attr(neu, "change") === name) change(form, recovery || name, "");
  }
};

export const bind = () => {
  const on = (type: string, fn: (e: any) => void) => addEventListener(type, fn);

  on("click", (e: MouseEvent) => {
    const asking = bound(e, "confirm");
    if (asking && !confirm(attr(asking, "confirm")!)) {
      e.preventDefault();
      return e.stopImmediatePropagation();
    }
    for (const el of all("[live-click-away]"))
      if (!el.contains(e.target as Node) && (el as any).checkVisibility?.() !== false)
        pace(el, "away", () => push(null, attr(el, "click-away")!, "click", valuesOf(el)));
    const el = bound(e, "click");
    if (!el) return;
    if (el.localName === "a") {
      if (!isPlain(e) || !hasJoined()) return;
      e.preventDefault();
    }
    pace(el, "click", () => locks.has(el) || push(el, attr(el, "click")!, "click", valuesOf(el)));
  });

  on("submit", (e: SubmitEvent) => {
    const form = bound(e, "submit") as HTMLFormElement | null;
    if (!form || e.defaultPrevented) return;
    if (!hasJoined() && form.method === "post") return; // works without a script, too
    e.preventDefault();
    const button = e.submitter as HTMLButtonElement | null;
    if (!isConnected() || form.classList.contains("live-submit-loading")) return;
    for (const field of form.elements) flush(field);
    flush(form);
    use(form.elements);
    const sent = values(form, button);
    const names = sent.getAll("_event");
    const ref = push(form, attr(form, "submit") || names[names.length - 1] || "", "submit", "" + sent, button);
    wait(ref, (isHandled) => isHandled && reset(form));
  });

  on("input", (e: Event) => {
    const field = e.target as HTMLInputElement;
    const form = field.form;
    if (!field.localName || !root.contains(field)) return;
    use([field]);
    for (const other of form?.elements || []) if (other !== field) flush(other);
    const name = attr(field, "change") ?? (form && attr(form, "change"));
    if (!name) return;
    const send = () => {
      if (form) change(form, name, field.name, field);
      else {
        const value = new URLSearchParams({ _target: field.name });
        if (isOn(field)) value.append(field.name, field.value);
        push(field, name, "change", "" + value);
      }
    };
    pace(field, "change", send, form || field);
  });

  on("reset", (e: Event) => {
    const form = bound(e, "change") as HTMLFormElement | null;
    if (isResetting || !form || form.localName !== "form") return;
    setTimeout(() => {
      unuse(form);
      change(form, attr(form, "change")!, "");
    });
  });

  for (const kind of ["keydown", "keyup"])
    on(kind, (e: KeyboardEvent) => {
      if (!e.key) return; // the browser has filled in a field
      const key = (el: Element, name: string, locked: Element | null) => {
        const wanted = attr(el, "key");
        if (wanted && wanted.toLowerCase() !== e.key.toLowerCase()) return;
        const value = valuesOf(el, { key: e.key });
        pace(el, kind, () => push(locked, name, kind, value), el, kind === "keydown" && !e.repeat);
      };
      const el = bound(e, kind);
      if (el) key(el, attr(el, kind)!, el);
      for (const el of all(`[live-window-${kind}]`)) key(el, attr(el, "window-" + kind)!, null);
    });

  for (const kind of ["focus", "blur"]) {
    on(kind === "focus" ? "focusin" : "focusout", (e: FocusEvent) => {
      const el = e.target as Element;
      if (kind === "blur") flush(el);
      const name = el.localName && root.contains(el) && attr(el, kind);
      if (name) push(null, name, kind, valuesOf(el));
    });
    on(kind, (e: Event) => {
      if (e.target === window)
        for (const el of all(`[live-window-${kind}]`)) push(null, attr(el, "window-" + kind)!, kind, valuesOf(el));
    });
  }
};
