// Locks: an element whose event is on its way to the server is not changed until the server has
// answered, so that a rendering which does not know of the event yet cannot undo what the user sees.

import { attr } from "./page";
import { drawn } from "./patch";

interface Lock {
  /** The newest event of the element. */
  ref: number;
  /** Takes back what the lock changed, the newest first. */
  undo: (() => void)[];
  /** What the element has become meanwhile. */
  next?: Element;
}

export const locks = new Map<Element, Lock>();

/** Whether a lock stands strictly above el. */
export const covered = (el: Element) => {
  if (locks.size) for (let up = el.parentElement; up; up = up.parentElement) if (locks.has(up)) return true;
  return false;
};

const mark = (el: Element, lock: Lock, kind: string) => {
  const had = el.hasAttribute("class");
  const names = ["live-loading", `live-${kind}-loading`].filter((name) => !el.classList.contains(name));
  el.classList.add(...names);
  lock.undo.unshift(() => {
    el.classList.remove(...names);
    had || el.getAttribute("class") || el.removeAttribute("class");
  });
};

const disable = (el: HTMLButtonElement, lock: Lock) => {
  const text = attr(el, "disable-with");
  if (el.disabled || (text === null && el.type !== "submit" && el.localName !== "button")) return;
  const nodes = [...el.childNodes];
  const active = document.activeElement;
  if (text) el.textContent = text;
  el.disabled = true;
  lock.undo.unshift(() => {
    if (text) el.replaceChildren(...nodes);
    el.disabled = false;
    // An element loses the focus when it is disabled.
    if (el === active && document.activeElement === document.body) el.focus();
  });
};

/** Locks el until ref is done. Of a form, cause is the button that sent it or the field that changed. */
export const lock = (el: Element, ref: number, kind: string, cause?: Element | null) => {
  let lock = locks.get(el);
  if (!lock) locks.set(el, (lock = { ref, undo: [] }));
  lock.ref = ref;
  mark(el, lock, kind);
  if (cause) mark(cause, lock, kind);
  if (kind === "submit") {
    for (const field of (el as HTMLFormElement).elements as Iterable<any>) {
      disable(field, lock);
      if (field.readOnly === false) {
        field.readOnly = true;
        lock.undo.unshift(() => (field.readOnly = false));
      }
    }
  } else if (attr(el, "disable-with") !== null) disable(el as HTMLButtonElement, lock);
};

/** Opens the locks of ref, or all without one, and shows what was held back. */
export const unlock = (ref?: number) => {
  for (const [el, lock] of [...locks])
    if (!ref || lock.ref === ref) {
      locks.delete(el);
      const sent = el.classList.contains("live-submit-loading");
      for (const undo of lock.undo) undo();
      if (ref && lock.next && el.isConnected) drawn(el, lock.next, sent);
    }
};
