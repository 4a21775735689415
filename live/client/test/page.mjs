// A page in jsdom with the built client, a clock that tests turn, and a server that tests speak for.

import { readFileSync } from "node:fs";
import { JSDOM, VirtualConsole } from "jsdom";

const client = readFileSync(new URL("../client.js", import.meta.url), "utf8");

/** The clock of one page: timers run when the test says so. */
class Clock {
  now = 1_000_000;
  timers = new Map();
  last = 0;
  set(fn, ms = 0) {
    this.timers.set(++this.last, { at: this.now + (+ms || 0), fn });
    return this.last;
  }
  tick(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.now = Math.max(this.now, due[1].at);
      due[1].fn();
    }
    this.now = end;
  }
}

/** Splits `<p>{{0}}</p>` into the statics of a body. */
export const body = (id, text, shape = 0) => [id, shape, ...text.split(/\{\{\d*\}\}/)];

/**
 * Opens a page whose root holds html, and starts the client in it. Options: url, head, what is outside of the root,
 * before (called with the window before the client), fetch and random (what Math.random returns).
 */
export const open = (html = "", { url = "http://app.test/page", before, outside = "", head = "", fetch, random = 0.5 } = {}) => {
  const errors = [];
  const virtualConsole = new VirtualConsole();
  virtualConsole.on("jsdomError", (e) => errors.push(e.message));
  virtualConsole.on("error", (...e) => errors.push(e.map(String).join(" ")));
  const logs = [];
  virtualConsole.on("log", (...l) => logs.push(l));
  const dom = new JSDOM(
    `<!doctype html><html><head><title>first</title>${head}</head><body><div id="live" data-live="/_live/socket" data-token="T1">${html}</div>${outside}</body></html>`,
    { url, runScripts: "outside-only", pretendToBeVisual: false, virtualConsole },
  );
  const { window } = dom;
  const { document } = window;
  const clock = new Clock();
  window.setTimeout = (fn, ms) => clock.set(fn, ms);
  window.clearTimeout = (id) => clock.timers.delete(id);
  window.Date.now = () => clock.now;
  window.Math.random = () => random;
  window.CSS ||= {};
  window.CSS.escape ||= (s) => s.replace(/[^\w-]/g, (c) => "\\" + c);
  const scrolls = [];
  window.scrollTo = (x, y) => {
    scrolls.push(y);
    window.scrollY = y;
  };
  window.Element.prototype.scrollIntoView = function () {
    scrolls.push(this.id);
  };
  if (fetch) window.fetch = fetch;
  const sockets = [];
  window.WebSocket = class {
    readyState = 0;
    sent = [];
    constructor(url) {
      this.url = url;
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 3;
    }
  };
  before?.(window);
  window.eval(client);
  document.dispatchEvent(new window.Event("DOMContentLoaded", { bubbles: true }));

  const page = {
    window,
    document,
    clock,
    sockets,
    errors,
    logs,
    scrolls,
    live: window.live,
    get root() {
      return document.getElementById("live");
    },
    get html() {
      return document.getElementById("live").innerHTML;
    },
    $: (selector) => document.querySelector(selector),
    $$: (selector) => [...document.querySelectorAll(selector)],
    get socket() {
      return sockets[sockets.length - 1];
    },
    /** What the client said since the last call. */
    get heard() {
      return page.socket.sent.splice(0);
    },
    accept() {
      page.socket.readyState = 1;
      page.socket.onopen({});
      return page;
    },
    say(...message) {
      page.socket.onmessage({ data: JSON.stringify(message) });
      return page;
    },
    /** Ends the connection. */
    drop(code = 1006) {
      page.socket.readyState = 3;
      page.socket.onclose({ code });
      return page;
    },
    /** Accepts, and answers join with a full frame. */
    join(statics, row = [], more = {}) {
      if (page.socket.readyState !== 1) page.accept();
      const join = page.heard.find(([, kind]) => kind === "j");
      page.say("j", join[0], { d: { d: row, s: statics }, ...more });
      return page;
    },
    fire(target, type, init = {}) {
      const el = typeof target === "string" ? page.$(target) : target;
      const kinds = { key: "KeyboardEvent", cli: "MouseEvent", foc: "FocusEvent", sub: "SubmitEvent" };
      const Kind = window[kinds[type.slice(0, 3)]] || window.Event;
      return el.dispatchEvent(new Kind(type, { bubbles: true, cancelable: true, ...init }));
    },
    click: (selector, init) => page.fire(selector, "click", init),
    type(selector, text) {
      const el = page.$(selector);
      el.value = text;
      page.fire(el, "input");
    },
    submit(selector, button) {
      const form = page.$(selector);
      return form.dispatchEvent(
        new window.SubmitEvent("submit", { bubbles: true, cancelable: true, submitter: button ? page.$(button) : null }),
      );
    },
  };
  return page;
};
