// The tree of rows that the server keeps the page's data in step with, and how a frame changes it.
// The grammar of frames is in the package documentation of live/internal/render. A tree is the JSON of
// its full frame: a row is the array of its dynamics, a group the array of its body and its rows.

import { covered, locks } from "./locks";
import { byId, idOf } from "./page";
import { drawn, holding, move } from "./patch";
import { touch } from "./hooks";

type Row = Dynamic[] & { id?: string };
type Group = 0 | [body: number, ...rows: Row[]];
type Stream = { o: any[][] };
type Dynamic = string | Group | Stream;
type Scope = [id: string, text: number, offset: number, text: number, offset: number];
type Body = [body: number, shape: number | [number, ...Scope[]], ...texts: string[]];
export type Frame = any[] | { d?: Row; p?: any[]; s: Body[] };

/** A part of the page that can be drawn by itself: a scope of a row, a row, or all. */
interface Place {
  up?: Place;
  row: Row;
  body: number;
  scope?: Scope;
  id: string;
}

// What waits for an element that is locked or not there yet: each says whether it is done.
let late: (() => unknown)[] = [];

/** Does what had to wait and can be done now. */
export const catchUp = () => {
  late = late.filter((run) => !run() && locks.size);
};

/** A tree whose top row is drawn inside the element that host returns. The result applies a frame to it. */
export const newTree = (host: () => Element | undefined) => {
  let bodies: Record<number, Body> = {};
  let top: Row;
  let jobs: Map<string, Place>;

  /** Prints a row, or only a scope of it. */
  const html = (body: number, row: Row, scope?: Scope) => {
    const [, first, from, last, to] = scope || ["", 0, 0, row.length];
    let out = "";
    for (let i = first; i <= last; i++) {
      const dynamic = row[i];
      out += (bodies[body][i + 2] as string).slice(i === first ? from : 0, i === last ? to : undefined);
      if (i < last) out += typeof dynamic === "string" ? dynamic : rows(dynamic as Group);
    }
    return out;
  };
  const rows = (group: Group): string =>
    group ? (group.slice(1) as Row[]).map((row) => html(group[0], row)).join("") : "";

  const isKeyed = ([, shape]: Body) => [shape].flat()[0] === 1;

  /** The innermost place that holds a slot of a row which is at place. */
  const inside = (place: Place, body: number, row: Row, slot: number) => {
    for (const scope of [bodies[body][1]].flat().slice(1) as unknown as Scope[])
      if (scope[1] <= slot && slot < scope[3]) place = { up: place, row, body, scope, id: scope[0] };
    return place;
  };

  /** Takes a dynamic into the tree. Streams do not stay. */
  const take = (dynamic: Dynamic, place: Place): Dynamic => {
    if (Array.isArray(dynamic)) for (const row of dynamic.slice(1) as Row[]) takeRow(dynamic[0], row, place);
    else if (typeof dynamic === "object") {
      const known = bodies; // a full frame meanwhile makes the ops void
      late.push(() => known !== bodies || stream(place.id, dynamic.o));
      return 0;
    }
    return dynamic;
  };
  const takeRow = (body: number, row: Row, place: Place) =>
    row.forEach((dynamic, slot) => {
      if (typeof dynamic === "object") row[slot] = take(dynamic, inside(place, body, row, slot));
    });

  const rowId = (body: number, row: Row) => {
    if (row.id === undefined) {
      const template = document.createElement("template");
      template.innerHTML = html(body, row);
      row.id = idOf(template.content.firstElementChild!);
    }
    return row.id;
  };

  const patch = (body: number, row: Row, changes: any[], place: Place) => {
    for (let i = 0; i < changes.length; i += 2) {
      const [slot, value] = changes.slice(i);
      const at = inside(place, body, row, slot);
      if (Array.isArray(value) && Array.isArray(value[0])) edit(row[slot] as any, value, at);
      else {
        row[slot] = take(value, at);
        if (!value.o) jobs.set(at.id, at);
      }
    }
  };

  const edit = (group: [number, ...Row[]], ops: any[][], place: Place) => {
    const body = group[0];
    let direct = isKeyed(bodies[body]);
    // The element of a row, if it can be moved about by itself. Should one not be found, the place is drawn.
    const element = (index: number) => {
      const row = group[index + 1] as Row | undefined;
      const el = direct && row && byId(rowId(body, row));
      return el && !covered(el) ? el : null;
    };
    const elements = (indexes: number[]) => {
      const els = indexes.map(element) as HTMLElement[];
      direct = direct && els.every((el) => el);
      if (direct) touch(els[0].parentElement!);
      return direct ? els : [];
    };
    const put = (index: number, els: Iterable<Element>) => {
      const next = element(index);
      let last: Element | null = next ? null : element(index - 1);
      if (!next && !last) direct = false;
      else
        for (const el of [...els]) {
          const ref = next || last!.nextSibling;
          if (ref !== el) move((next || last!).parentNode!, el, ref);
          if (last) last = el;
        }
    };
    const run = (from: number, n = 1) => [...Array(n).keys()].map((i) => from + i);
    for (const [op, ...args] of ops) {
      const [at, to] = args;
      if (op === 0) {
        for (const el of elements(run(at, to))) el.remove();
        group.splice(at + 1, to ?? 1);
      } else if (op === 1) {
        const added: Row[] = args.slice(1);
        for (const row of added) takeRow(body, row, place);
        const [beside] = elements([at && at - 1]);
        if (beside) put(at, holding(beside.parentElement!, rows([body, ...added])).children);
        group.splice(at + 1, 0, ...added);
      } else if (op === 2) {
        const els = elements(run(at, args[2]));
        const moved = group.splice(at + 1, args[2] ?? 1) as Row[];
        put(to, els);
        group.splice(to + 1, 0, ...moved);
      } else if (op === 3) {
        let ref = elements([args.length - 1])[0]?.nextElementSibling;
        const els = elements(args);
        group.splice(1, args.length, ...args.map((i) => group[i + 1] as Row));
        for (const el of els.reverse()) {
          if (el.nextElementSibling !== ref) move(el.parentNode!, el, ref);
          ref = el;
        }
      } else
        for (let i = 0; i < args.length; i += 2) {
          const row = group[args[i] + 1] as Row;
          if (isKeyed(bodies[body])) {
            patch(body, row, args[i + 1], { up: place, row, body, id: rowId(body, row) });
            row.id = undefined;
          } else patch(body, row, args[i + 1], place);
        }
    }
    if (!direct) jobs.set(place.id, place);
  };

  const stream = (id: string, ops: any[][]) => {
    const el = byId(id);
    if (!el || locks.has(el) || covered(el)) return false;
    let list: Element = el;
    touch(el);
    for (const [op, ...args] of ops) {
      if (op === 0) for (const id of args) list.children.namedItem(id)?.remove();
      else if (op === 2) list = holding(el, "");
      else {
        const [body, at, limit] = args;
        const added: Row[] = args.slice(op === 1 ? 3 : 1);
        const ref = list.children[at] || null;
        for (const neu of [...holding(list, rows([body, ...added])).children]) {
          const old = list.children.namedItem(idOf(neu));
          if (old) drawn(old, neu);
          else if (op === 1) list.insertBefore(list.ownerDocument.adoptNode(neu), ref);
        }
        if (op === 1 && limit)
          while (list.children.length > Math.abs(limit)) list[limit > 0 ? "lastElementChild" : "firstElementChild"]!.remove();
      }
    }
    if (list !== el) drawn(el, list);
    return true;
  };

  const elementOf = (place: Place) => (place.up ? byId(place.id) : host());

  const draw = (place: Place, anew?: boolean, before?: (page: Element) => void): unknown => {
    const { row, body, scope } = place;
    const el = elementOf(place);
    if (!el) return;
    if (!place.up) {
      if (covered(el)) return late.push(() => !covered(el) && (draw(place), 1));
      const neu = holding(el, html(0, top));
      before?.(neu);
      return drawn(el, neu, false, anew);
    }
    const neu = holding(el.parentElement!, html(body, row, scope)).firstElementChild!;
    drawn(el, neu);
    if (!scope) row.id = idOf(neu);
    return;
  };

  /**
   * Applies a frame. Without one all is drawn again, as when the element came later than the frame.
   * With anew nothing is kept of what was typed. The whole of a full frame is shown to before.
   */
  return (frame?: Frame, anew?: boolean, before?: (page: Element) => void) => {
    jobs = new Map();
    const place: Place = { row: top, body: 0, id: "" };
    if (!frame) return top && draw(place);
    const isPatch = Array.isArray(frame);
    const full = !isPatch && frame.d;
    if (full) bodies = {};
    if (!isPatch) for (const body of frame.s) bodies[body[0]] = body;
    if (full) {
      top = full;
      takeRow(0, top, place);
      jobs.set("", place);
    } else patch(0, top, isPatch ? frame : frame.p!, place);
    // What is inside a lock is drawn with the element that is locked.
    const drawing = new Map<string, Place>();
    for (let job of jobs.values()) {
      for (let el; job.up && (!(el = elementOf(job)) || covered(el)); ) job = job.up;
      drawing.set(job.id, job);
    }
    // A row that is printed by another has the same element.
    const isDrawnAbove = (id: string, up?: Place): unknown =>
      up && ((up.id !== id && drawing.has(up.id)) || isDrawnAbove(id, up.up));
    for (const job of drawing.values()) isDrawnAbove(job.id, job.up) || draw(job, anew, before);
    catchUp();
    return;
  };
};
