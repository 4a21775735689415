// Hooks: scripts of the page that live with an element.

import { all, attr, emit, guard } from "./page";
import { push } from "./events";
import { wait } from "./socket";

type Callback = "mounted" | "beforeUpdate" | "updated" | "destroyed" | "disconnected" | "reconnected";
type Handler = (payload: any) => void;

export type Definition = { [name in Callback]?: () => void } & { [name: string]: unknown };

interface Hook {
  [name: string]: any;
  el: Element;
}

export const definitions: Record<string, Definition> = {};
const hooks = new Map<Element, Hook>();
const forgets = new WeakMap<Hook, (() => void)[]>();
const touched = new Set<Hook>();
const handlers = new Map<string, Set<Handler>>();

const call = (hook: Hook, name: Callback) => guard(() => hook[name]?.());

/** Calls fn for each event of that name that the server pushes, until the function that it returns is called. */
export const on = (name: string, fn: Handler) => {
  const set = handlers.get(name) || new Set();
  handlers.set(name, set.add(fn));
  return () => {
    set.delete(fn);
  };
};

export const hand = (events: [string, unknown][] = []) => {
  for (const [name, payload] of events) {
    for (const fn of [...(handlers.get(name) || [])]) guard(() => fn(payload));
    emit(name, payload);
  }
};

const mount = (el: Element) => {
  const definition = definitions[attr(el, "hook")!];
  if (!definition || hooks.has(el)) return;
  const hook: Hook = Object.create(definition);
  const offs: (() => void)[] = [];
  hook.el = el;
  hook.push = (name: string, payload: unknown, reply?: (value: any) => void) => {
    const answer = new Promise((done, fail) => wait(push(el, name, "hook", payload ?? null), done, fail));
    answer.then(reply, () => {}); // who does not wait for the answer need not care that it never came
    return answer;
  };
  hook.handle = (name: string, fn: Handler) => offs.push(on(name, fn));
  forgets.set(hook, offs);
  hooks.set(el, hook);
  call(hook, "mounted");
};

/** Says that el is about to change: itself, or when it is not exact, something inside it. */
export const touch = (el: Element, exact?: boolean) => {
  const about = (hook?: Hook) => {
    if (!hook || touched.has(hook)) return;
    touched.add(hook);
    call(hook, "beforeUpdate");
  };
  if (exact) about(hooks.get(el));
  else for (const hook of hooks.values()) if (hook.el.contains(el)) about(hook);
};

/** Lets the hooks know what became of their elements. */
export const settle = () => {
  for (const [el, hook] of hooks)
    if (!el.isConnected) {
      hooks.delete(el);
      for (const off of forgets.get(hook)!) off();
      call(hook, "destroyed");
    }
  for (const hook of touched) {
    touched.delete(hook);
    if (hooks.has(hook.el)) call(hook, "updated");
  }
  all("[live-hook]").forEach(mount);
};

export const callAll = (name: Callback) => {
  for (const hook of hooks.values()) call(hook, name);
};
