import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

/** A page with the hook Spy, which writes down what happens to it. */
const spied = (text, row, more = {}) => {
  const seen = [];
  const spy = { mounted() {
    this.count = 0;
    seen.push("mounted " + this.el.id);
    more.mounted?.call(this);
  } };
  for (const name of ["beforeUpdate", "updated", "destroyed", "disconnected", "reconnected"])
    spy[name] = function () {
      this.count++;
      seen.push(`${name} ${this.el.id} ${this.el.textContent}`);
    };
  const page = open("", { before: (window) => window.addEventListener("DOMContentLoaded", () => window.live.hook("Spy", spy), { capture: true, once: true }) });
  page.live.hook("Spy", spy);
  page.join(text.startsWith?.("<") ? [body(0, text)] : text, row);
  return { page, seen: () => seen.splice(0) };
};

test("a hook lives with its element", () => {
  const { page, seen } = spied(`<div>{{0}}</div><i>{{1}}</i>`, ["", "x"]);
  assert.deepEqual(seen(), []);
  page.say(0, { d: [0, `<p id="h" live-hook="Spy">a</p>`] });
  assert.deepEqual(seen(), ["mounted h"]);
  page.say(0, { d: [1, "y"] });
  assert.deepEqual(seen(), []);
  page.say(0, { d: [0, `<p id="h" live-hook="Spy">b</p>`] });
  assert.deepEqual(seen(), ["beforeUpdate h a", "updated h b"]);
  page.say(0, { d: [0, ""] });
  assert.deepEqual(seen(), ["destroyed h b"]);
});

test("a hook hears of changes inside its element that touch nothing else", () => {
  const { page, seen } = spied(
    [[0, [0, ["h", 0, 0, 2, 5]], `<ul id="h" live-hook="Spy" live-update="stream">`, ``, `</ul>`].filter((x, i) => i !== 3).map((x, i) => (i === 1 ? [0, ["h", 0, 0, 1, 5]] : x)), body(1, `<li id="m{{0}}">{{0}}</li>`.replace("{{0}}</li>", "{{1}}</li>"), 1)],
    [{ o: [[2]] }],
  );
  assert.deepEqual(seen(), ["mounted h"]);
  page.say(0, { d: [0, { o: [[1, 1, -1, 0, ["1", "a"]], [1, 1, -1, 0, ["2", "b"]]] }] });
  assert.deepEqual(seen(), ["beforeUpdate h ", "updated h ab"]);
});

test("a hook hears of rows that are inserted, removed, moved and updated inside it", () => {
  const { page, seen } = spied([[0, [0, ["l", 0, 28, 1, 5]], `<div id="h" live-hook="Spy"><ul id="l">`, `</ul></div>`], body(1, `<li id="r{{0}}">{{1}}</li>`, 1)], [[1, ["1", "a"], ["2", "b"]]]);
  seen();
  for (const [ops, want] of [
    [[[1, 2, ["3", "c"]]], ["beforeUpdate h ab", "updated h abc"]],
    [[[2, 2, 0]], ["beforeUpdate h abc", "updated h cab"]],
    [[[3, 2, 1, 0]], ["beforeUpdate h cab", "updated h bac"]],
    [[[0, 0]], ["beforeUpdate h bac", "updated h ac"]],
    [[[4, 0, [1, "A"]]], ["beforeUpdate h ac", "updated h Ac"]],
  ]) {
    page.say(0, { d: [0, ops] });
    assert.deepEqual(seen(), want);
  }
});

test("an ignored element is told when its data changes, and only then", () => {
  const { page, seen } = spied(`<div id="h" live-hook="Spy" live-update="ignore" data-x="{{0}}"></div><i>{{1}}</i>`, ["1", ""]);
  page.$("#h").textContent = "mine";
  seen();
  page.say(0, { d: [1, "y"] });
  assert.deepEqual(seen(), []);
  page.say(0, { d: [0, "2"] });
  assert.deepEqual(seen(), ["beforeUpdate h mine", "updated h mine"]);
});

test("a hook pushes and gets an answer", async () => {
  let hook;
  const { page } = spied(`<div id="h" live-hook="Spy"></div>`, [], { mounted() { hook = this; } });
  page.heard;
  const replies = [];
  const answer = hook.push("ask", { a: [1] }, (r) => replies.push(r));
  assert.deepEqual(page.heard, [[2, "e", "ask", "hook", { a: [1] }]]);
  assert.equal(page.$("#h").className, "live-loading live-hook-loading");
  page.say(2, { r: [[2, "yes"]] });
  assert.equal(await answer, "yes");
  assert.deepEqual(replies, ["yes"]);
  const none = hook.push("tell");
  assert.deepEqual(page.heard, [[3, "e", "tell", "hook", null]]);
  page.say(3);
  assert.equal(await none, undefined);
});

test("an answer that never comes is an error for who waits", async () => {
  let hook;
  const { page } = spied(`<div id="h" live-hook="Spy"></div>`, [], { mounted() { hook = this; } });
  const answer = hook.push("ask", 1);
  hook.push("nobody waits");
  page.drop();
  await assert.rejects(answer, /disconnected/);
  await assert.rejects(hook.push("ask", 1), /disconnected/);
});

test("events of the server go to hooks, to handlers and to the window", () => {
  const got = [];
  const { page } = spied(`<div id="h" live-hook="Spy">{{0}}</div>`, ["old"], { mounted() {
    this.handle("tick", (p) => got.push(["hook", p, page?.$("#h").textContent]));
  } });
  const off = page.live.on("tick", (p) => got.push(["on", p]));
  page.window.addEventListener("live:tick", (e) => got.push(["window", e.detail]));
  page.say(0, { d: [0, "new"], e: [["tick", 2]], f: [["tick", 1]] });
  assert.deepEqual(got, [["hook", 1, "old"], ["on", 1], ["window", 1], ["hook", 2, "new"], ["on", 2], ["window", 2]]);
  got.length = 0;
  off();
  page.say("j", 0, { d: { d: [], s: [body(0, "")] } });
  page.say(0, { e: [["tick", 3]] });
  assert.deepEqual(got, [["window", 3]]);
});

test("hooks hear that the connection is lost and back", () => {
  const { page, seen } = spied(`<div id="h" live-hook="Spy"></div>`, []);
  assert.deepEqual(seen(), ["mounted h"]);
  page.drop();
  assert.deepEqual(seen(), ["disconnected h "]);
  page.clock.tick(1000);
  page.join([body(0, `<div id="h" live-hook="Spy"></div>`)], []);
  assert.deepEqual(seen(), ["reconnected h "]);
});

test("a hook that fails harms nobody", () => {
  const { page } = spied(`<div id="h" live-hook="Spy"></div><b>{{0}}</b>`, ["1"], { mounted() { throw new Error("oh"); } });
  page.live.on("x", () => { throw new Error("ah"); });
  page.say(0, { d: [0, "2"], e: [["x", 0]] });
  assert.equal(page.$("b").textContent, "2");
  assert.equal(page.live.connected, true);
  assert.equal(page.errors.length, 2);
});

test("a hook that is defined late is mounted then", () => {
  const page = open().join([body(0, `<div id="h" live-hook="Late"></div>`)], []);
  let el;
  page.live.hook("Late", { mounted() { el = this.el; } });
  assert.equal(el, page.$("#h"));
});
