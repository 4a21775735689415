// Changes of the document. Idiomorph matches old nodes with new ones; what belongs to the user, to
// hooks, to streams and to regions is kept here.

import { Idiomorph } from "idiomorph";
import { touch } from "./hooks";
import { locks } from "./locks";
import { attr } from "./page";

type Field = HTMLInputElement & HTMLTextAreaElement & HTMLOptionElement;

// Whatever is parsed is parsed here, where no image loads, no script runs and no custom element wakes up.
const inert = document.implementation.createHTMLDocument("");

/** A copy of el without its children that holds html, parsed as inside el. */
export const holding = (el: Element, html: string) => {
  const copy = inert.importNode(el, false);
  inert.createElement("div").append(copy);
  copy.innerHTML = html;
  return copy;
};

/** Runs what may take the focus from an element that stays, and gives it back. */
const withFocus = (run: () => void) => {
  const active = (document.activeElement || {}) as HTMLInputElement;
  const { selectionStart, selectionEnd } = active;
  run();
  if (active === document.activeElement || !active.isConnected) return;
  active.focus({ preventScroll: true });
  if (selectionEnd !== null) active.setSelectionRange?.(selectionStart, selectionEnd);
};

/** Moves el, or puts it in, before ref. */
export const move = (parent: Node, el: Node, ref: Node | null) => {
  try {
    // Keeps frames, animations and the focus, but is not everywhere and takes no new elements.
    (parent as any).moveBefore(el, ref);
  } catch {
    withFocus(() => parent.insertBefore(el, ref));
  }
};

/** Gives old the attributes of neu whose names are wanted. */
const attributes = (old: Element, neu: Element, wanted: (name: string) => unknown) => {
  for (const attribute of neu.attributes) {
    const { name, value } = attribute;
    // Names that parsers take and setAttribute does not, such as @click, go with their node.
    if (wanted(name) && old.getAttribute(name) !== value) old.setAttributeNode(attribute.cloneNode() as Attr);
  }
  for (const { name } of [...old.attributes])
    if (wanted(name) && !neu.hasAttribute(name)) old.removeAttribute(name);
};

const isData = (name: string) => name.startsWith("data-");

// What browsers change by themselves: what is open, and the size of what can be dragged larger.
const owned = ["open", "style"];

const ownedOf = (el: Element) => owned.map((name) => el.getAttribute(name));

// What was rendered last of it.
const rendered = new WeakMap<Element, (string | null)[]>();

/** Remembers what is rendered in page: what neu, which is equal to it, says, or else what new elements say themselves. */
export const remember = (page: ParentNode, neu?: ParentNode) => {
  const owners = (within: ParentNode) => within.querySelectorAll("details,dialog,textarea");
  const said = neu && owners(neu);
  owners(page).forEach((el, i) => (said || !rendered.has(el)) && rendered.set(el, ownedOf(said ? said[i] : el)));
};

/** What the morph under way is about. */
let top: Element;
let sent: boolean; // the user has sent the form: its fields may change though they have the focus
let anew: boolean; // another view: nothing that was typed is kept

/** Whether the user is writing in old, or choosing from the same options that neu has. */
const isBusy = (old: Field, neu: Field) =>
  !anew &&
  (old.validity?.badInput ||
    (!sent &&
      old === document.activeElement &&
      (isText(old) || (old.localName === "select" && old.innerHTML === neu.innerHTML))));

const isText = (el: Field) =>
  el.localName === "textarea" ||
  (el.localName === "input" && !/^(checkbox|radio|button|submit|reset|image|file)$/.test(el.type));

const beforeNodeMorphed = (before: Node, after: Node) => {
  if (before.nodeType !== 1) {
    if (before.nodeValue !== after.nodeValue) before.nodeValue = after.nodeValue;
    return true;
  }
  const old = before as Field;
  const neu = after as Field;
  const lock = locks.get(old);
  if (lock) {
    lock.next = neu;
    return false;
  }
  const known = rendered.get(old);
  let mine: string[] = []; // what the user changed, and the server did not
  if (known) {
    const now = ownedOf(neu);
    rendered.set(old, now);
    if (!anew) mine = owned.filter((_, i) => known[i] === now[i]);
    // Without its attribute a modal dialog would still be one.
    if (!neu.hasAttribute("open") && !mine.includes("open")) (old as any).close?.();
  }
  const isNotMine = (name: string) => !mine.includes(name);
  if (old.localName === "script") return false;
  if (!anew && old.isEqualNode(neu)) {
    remember(old, neu);
    return false;
  }
  const update = attr(neu, "update");
  if (update === "ignore") {
    if (JSON.stringify(old.dataset) !== JSON.stringify(neu.dataset)) {
      touch(old, true);
      attributes(old, neu, isData);
    }
    return false;
  }
  touch(old, true);
  if (old !== top && (update === "stream" || attr(neu, "region") !== null)) {
    attributes(old, neu, () => true);
    return false;
  }
  if (isBusy(old, neu)) {
    // What is set once does not follow what is rendered any more, and a number that is none must not be set.
    if (isText(old) && !old.validity?.badInput) {
      old.value = old.value;
      old.defaultValue = neu.defaultValue;
    }
    attributes(old, neu, (name) => name !== "value" && isNotMine(name));
    return false;
  }
  // A range keeps a new value within the limits that it has.
  attributes(old, neu, (name) => /^(min|max|step)$/.test(name));
  // What the user typed or chose stays until the server renders something else than before.
  if (old.type !== "file")
    for (const name of ["Value", "Checked", "Selected"] as const) {
      const rendered = `default${name}` as const;
      if (rendered in old && (anew || old[rendered] !== neu[rendered])) (old as any)[name.toLowerCase()] = neu[rendered];
    }
  attributes(old, neu, isNotMine);
  return true;
};

/** Makes el like neu. Of a form that was sent even the field with the focus changes, of another view all. */
export const drawn = (el: Element, neu: Element, isSent = false, isAnew = false) => {
  top = el;
  sent = isSent;
  anew = isAnew;
  touch(el);
  withFocus(() => {
    if (el.localName === neu.localName) Idiomorph.morph(el, neu, { beforeNodeMorphed, move } as any);
    else el.replaceWith(neu);
  });
};
