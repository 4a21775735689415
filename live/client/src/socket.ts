// The connection to the server: joining, coming back, heartbeats, and what waits for an answer.

import { callAll } from "./hooks";
import { unlock } from "./locks";
import { emit, kept, root, toggle } from "./page";

type Wait = (value?: unknown, isLost?: boolean) => void;

/** What the page wants to tell when it joins. */
export const params: { value: any } = { value: {} };

/** The position that the client was told last. */
export const position: { value?: string } = {};

/** How many views the page has gone to since it has joined: an event is for the view that is shown. */
export const views = { value: 0 };

let receive: (message: any[]) => void;
let ws: WebSocket | undefined;
let ref = 0;
let joins = 0;
let joined = 0; // when
let failures = 0; // connections in a row that came to nothing
let broken = 0; // those of them that the server did accept
let retry: number | undefined | 0; // the server's own wish
let stale = 0; // answers in a row that the token is stale
let isLeaving = false;
let connecting: ReturnType<typeof setTimeout>;
let beating: ReturnType<typeof setTimeout>;
let down: any = 0; // runs from the loss of the connection
let isOpen = false;
let queue: string[] = []; // what a simulated latency holds back
let isUnheard = false; // a heartbeat has not been answered

const waits = new Map<number, Wait>();

export const isConnected = () => joined > 0;
export const hasJoined = () => joins > 0;

const log = (...what: unknown[]) => kept("debug") && console.log("live", ...what);

/** Says something and returns its ref, or 0 when there is no connection. */
export const send = (kind: string, ...args: unknown[]): number => {
  if (ws?.readyState !== 1 || (!joined && kind !== "j")) return 0;
  const frame = [++ref, kind, ...args];
  log("->", frame);
  ws.send(JSON.stringify(frame));
  beat();
  return ref;
};

const beat = () => {
  clearTimeout(beating);
  beating = setTimeout(() => {
    if (isUnheard) return lost();
    isUnheard = true;
    send("h");
  }, 3e4);
};

/** Has done called when ref is done, or when the connection is lost before that, as it is when ref is 0. */
export const wait = (ref: number, done: Wait) => {
  if (ref) waits.set(ref, done);
  else done(0, true);
};

/** Ends the wait for ref. */
export const settleRef = (ref: number, value?: unknown, isLost?: boolean) => {
  const done = waits.get(ref);
  waits.delete(ref);
  done?.(value, isLost);
};

const join = () => {
  const of = (value: any) => (typeof value === "function" ? value() : value);
  const told: Record<string, string> = {};
  try {
    for (const [name, value] of Object.entries(of(params.value))) told[name] = "" + of(value);
  } catch (e) {
    console.error(e); // of the author's
  }
  emit("page-loading-start", { kind: "join" });
  send("j", { t: root.dataset.token, u: location.href, p: told, v: position.value, n: joins });
};

/** The server has mounted a view. The first on a connection is the answer to join: then it is counted. */
export const welcome = () => {
  if (joined) return 0;
  joined = Date.now();
  stale = views.value = 0;
  kept("reloads", 0);
  clearTimeout(down);
  down = 0;
  toggle("connected", true);
  for (const state of ["loading", "error"]) toggle(state, false);
  banner(false);
  emit("page-loading-stop", { kind: "join" });
  return ++joins;
};

const banner = (isShown: boolean) => {
  toggle("disconnected", isShown);
  for (const el of document.querySelectorAll<HTMLElement>("[live-banner]")) el.hidden = !isShown;
};

/** Leaves the page, by loading url if there is one. */
export const leave = (url?: string) => {
  isLeaving = true;
  ws?.close();
  clearTimeout(connecting);
  connecting = setTimeout(stay, 2e4); // it was only a file
  if (url) location.assign(url);
};

const stay = () => {
  isLeaving = false;
  lost(4408);
};

const reload = () => {
  leave();
  location.reload();
};

/** Loads the page again, later each time that this does not help. */
const despair = () => {
  const times = +kept("reloads") || 0;
  kept("reloads", times + 1);
  connecting = setTimeout(reload, (times < 10 ? 5e3 : 3e4) * (1 + Math.random()));
};

/** The token is no good any more: a new one is in the page as the server serves it now. */
export const refresh = async () => {
  const socket = ws;
  try {
    if (++stale > 3) throw 0;
    const answer = await fetch(location.href, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.querySelector<HTMLElement>("[data-live]");
    if (answer.redirected || (answer.ok && !found)) return reload(); // to log in, probably
    root.dataset.token = found!.dataset.token;
    if (socket === ws) join();
  } catch {
    if (socket === ws) lost();
  }
};

export const bye = (ms: number) => {
  retry = ms;
};

const lost = (code?: number) => {
  const socket = ws;
  ws = undefined;
  socket?.close();
  if (isLeaving) return;
  clearTimeout(beating);
  clearTimeout(connecting);
  if (code === 4401) return reload();
  const wasUp = joined;
  if (wasUp && Date.now() - wasUp > 5e3) failures = broken = 0;
  else if (isOpen) broken++;
  joined = 0;
  isOpen = false;
  queue = [];
  unlock();
  for (const ref of [...waits.keys()]) settleRef(ref, 0, true);
  toggle("connected", false);
  toggle("error", true);
  if (wasUp) callAll("disconnected");
  // Most connections are back before anyone needs to be told.
  down ||= setTimeout(() => {
    banner(true);
    emit("disconnected");
  }, 500);
  if (broken > 5) return despair();
  const ms =
    retry ?? (code === 4408 ? 0 : (code === 4400 ? 5e3 : Math.min(5e3, 50 * 2 ** failures)) * (0.5 + Math.random()));
  failures++;
  retry = undefined;
  emit("retry", ms);
  connecting = setTimeout(connect, ms);
};

const connect = () => {
  clearTimeout(connecting);
  const url = new URL(root.dataset.live!, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = (ws = new WebSocket(url.href));
  isUnheard = false;
  toggle("loading", true);
  const mine = (run: (e: any) => void) => (e: Event) => {
    if (socket === ws) run(e);
  };
  // A server that accepts and then says nothing is as good as none.
  connecting = setTimeout(() => joined || lost(), 3e4);
  socket.onopen = mine(() => {
    isOpen = true;
    join();
  });
  socket.onclose = mine((e) => lost(e.code));
  const next = mine(() => {
    const text = queue.shift()!;
    // Browsers slow down timers that start timers, in pages that are not seen. This one is started by an answer.
    if (isUnheard) beat();
    isUnheard = false;
    try {
      const message = JSON.parse(text);
      log("<-", message);
      receive(message);
    } catch (e) {
      // The page and the server disagree: only a full frame helps.
      console.error(e);
      lost(4400);
    }
  });
  socket.onmessage = mine((e) => {
    const ms = +kept("latency");
    const isDelayed = ms || queue.length;
    queue.push(e.data);
    if (isDelayed) setTimeout(next, ms);
    else next(e);
  });
};

/** Connects, and has receive called with each message of the server. */
export const start = (fn: (message: any[]) => void) => {
  receive = fn;
  // A page that may come back from the browser's cache must not hold a connection.
  addEventListener("pagehide", () => leave());
  addEventListener("pageshow", (e) => e.persisted && stay());
  // Another part of this same page is no load of it.
  addEventListener("hashchange", () => isLeaving && location.reload());
  addEventListener("online", () => !joined && !isOpen && !isLeaving && connect());
  connect();
};
