// What the server says: views, updates, regions.

import { recover } from "./events";
import { callAll, settle } from "./hooks";
import { unlock } from "./locks";
import { all, attr, emit, root } from "./page";
import { followed, go, scroll, turn } from "./history";
import { bye, leave, position, refresh, send, settleRef, views, welcome } from "./socket";
import { remember } from "./patch";
import { catchUp, type Frame, newTree } from "./tree";

interface Body {
  d?: Frame;
  e?: [string, unknown][];
  f?: [string, unknown][];
  r?: [number, unknown][];
  t?: string;
  u?: [string, number];
  v?: string;
}

// Versions that no frame begins from.
const UNKNOWN = 0;
const ASKED = -1;

interface Region {
  version: number;
  el?: Element;
  apply: ReturnType<typeof newTree>;
}

const apply = newTree(() => root);
const regions = new Map<string, Region>();

const find = (name: string) => all("[live-region]").find((el) => attr(el, "region") === name);

/** Does what belongs after every change of the page. */
const finish = () => {
  for (const [name, region] of regions) {
    const el = find(name);
    if (el && el !== region.el) region.apply();
    else if (!el && region.el) regions.delete(name);
    region.el = el;
  }
  catchUp();
  remember(root);
  settle();
  for (const form of all<HTMLFormElement>("form[live-trigger-action]")) {
    leave();
    HTMLFormElement.prototype.submit.call(form);
  }
};

const hand = (events: [string, unknown][] = []) => {
  for (const event of events) emit(...event);
};

const update = (body: Body, refs: number[], anew?: boolean, before?: (page: Element) => void, joins?: number) => {
  hand(body.f);
  if (body.t !== undefined) document.title = body.t;
  // Where the user went, or came, there is an entry of the history already.
  if (body.u) go(body.u[0], body.u[1] || joins || refs.includes(followed || -1));
  if (body.v) position.value = body.v;
  if (body.d) apply(body.d, anew, before);
  for (const ref of refs) unlock(ref);
  finish();
  hand(body.e);
  for (const [ref, value] of body.r || []) settleRef(ref, value);
  for (const ref of refs) settleRef(ref);
};

const mounted = (ref: number, body: Body) => {
  const joins = welcome();
  // Only who goes to another view leaves behind what was typed: by a link, or because the server says so.
  const anew = !joins && (ref > 0 || !!body.u);
  if (anew) {
    views.value++;
    unlock();
    if (!ref) turn();
  }
  if (joins) for (const region of regions.values()) region.version = UNKNOWN;
  update(body, [ref], anew, anew ? undefined : recover, joins);
  if (anew && !ref) scroll();
  if (joins) emit("connected");
  if (joins > 1) callAll("reconnected");
};

const region = (name: string, from: number, to: number, frame: Frame) => {
  let known = regions.get(name);
  if (!known) regions.set(name, (known = { version: UNKNOWN, apply: newTree(() => find(name)) }));
  if (from && known.version !== from) {
    if (known.version !== ASKED && send("g", name)) known.version = ASKED;
    return;
  }
  known.version = to;
  known.el = find(name);
  known.apply(frame);
  finish();
};

/** Does what a message of the server says. */
export const receive = (message: any[]) => {
  const [kind, a, b, c, d] = message;
  if (kind === "j") mounted(a, b);
  else if (kind === "g") region(a, b, c, d);
  else if (kind === "l") leave(a);
  else if (kind === "s") refresh();
  else if (kind === "b") bye(a);
  else update(a || {}, [kind].flat().filter((ref) => ref));
};
