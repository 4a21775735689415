// The live page: starts when the document is there, and offers `live` to the scripts of the page.

import { bind as bindEvents } from "./events";
import { bind as bindHistory } from "./history";
import { type Definition, definitions, settle } from "./hooks";
import { kept, on, root, setRoot } from "./page";
import { remember } from "./patch";
import { isConnected, params, start } from "./socket";
import { receive } from "./view";

(window as any).live = {
  /** Defines what becomes of elements with live-hook="NAME". */
  hook(name: string, definition: Definition) {
    definitions[name] = definition;
    if (root) settle();
  },
  /** Calls fn with each payload that the server pushes as name, until the function that it returns is called. */
  on,
  /** Logs all frames to the console, for as long as the tab lives. */
  debug: (isOn: boolean) => kept("debug", isOn ? 1 : ""),
  /** Holds back what the server says for so many milliseconds, for as long as the tab lives. */
  latency: (ms: number) => kept("latency", ms || ""),
  get connected() {
    return isConnected();
  },
  get params() {
    return params.value;
  },
  /** What is told when joining: strings, or functions that return them, or a function that returns it all. */
  set params(value: any) {
    params.value = value;
  },
};

remember(document);

// Scripts that are deferred may define hooks before.
for (const type of ["DOMContentLoaded", "load"])
  addEventListener(type, () => {
    const el = document.querySelector<HTMLElement>("[data-live]");
    if (!el || root) return;
    setRoot(el);
    bindEvents();
    bindHistory();
    start(receive);
  });
