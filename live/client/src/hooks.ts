// Hooks: scripts of the page that live with an element.

import { push } from "./events";
import { all, attr, on } from "./page";
import { wait } from "./socket";

type Callback = "mounted" | "beforeUpdate" | "updated" | "destroyed" | "disconnected" | "reconnected";

export type Definition = { [name in Callback]?: () => void } & { [name: string]: unknown };

interface Hook {
  [name: string]: any;
  el: Element;
}

export const definitions: Record<string, Definition> = {};
const hooks = new Map<Element, Hook>();
const offs = new WeakMap<Hook, (() => void)[]>();
const touched = new Set<Hook>();

/** Runs what the author of the page wrote. Its errors are reported and never end the session. */
const call = (hook: Hook, name: Callback) => {
  try {
    hook[name]?.();
  } catch (e) {
    console.error(e);
  }
};

const mount = (el: Element) => {
  const definition = definitions[attr(el, "hook")!];
  if (!definition || hooks.has(el)) return;
  const hook: Hook = Object.create(definition);
  const mine: (() => void)[] = [];
  hook.el = el;
  hook.push = (name: string, payload: unknown, reply?: (value: any) => void) => {
    const answer = new Promise((done, fail) =>
      wait(push(el, name, "hook", payload ?? null), (value, isLost) =>
        isLost ? fail(Error("live: disconnected")) : done(value),
      ),
    );
    answer.then(reply, () => {}); // who does not wait for the answer need not care that it never came
    return answer;
  };
  hook.handle = (name: string, fn: (payload: any) => void) => mine.push(on(name, fn));
  offs.set(hook, mine);
  hooks.set(el, hook);
  call(hook, "mounted");
};

/** Says that el is about to change: itself, or when it is not exact, something inside it. */
export const touch = (el: Element, isExact?: boolean) => {
  for (const hook of hooks.values())
    if (!touched.has(hook) && (isExact ? hook.el === el : hook.el.contains(el))) {
      touched.add(hook);
      call(hook, "beforeUpdate");
    }
};

/** Lets the hooks know what became of their elements. */
export const settle = () => {
  for (const [el, hook] of hooks)
    if (!el.isConnected) {
      hooks.delete(el);
      for (const off of offs.get(hook)!) off();
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
