import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

const text = `<b>{{0}}</b><div id="book" live-region="book" class="{{1}}"></div>`;
const rows = body(1, `<li id="r{{0}}">{{1}}</li>`, 1);
const list = [0, [0, ["l", 0, 0, 1, 5]], `<ul id="l">`, `</ul>`];
const full = (...r) => ({ d: [r.length ? [1, ...r] : 0], s: [list, rows] });
const view = () => {
  const page = open().join([body(0, text)], ["a", "x"]);
  page.heard;
  return page;
};

test("a region has a tree of its own, which the view leaves alone", () => {
  const page = view();
  page.say("g", "book", 0, 5, full(["1", "a"], ["2", "b"]));
  const li = page.$("#r2");
  page.say(0, { d: [0, "b", 1, "y"] });
  assert.equal(page.$("#r2"), li);
  assert.equal(page.$("#book").className, "y");
  page.say("g", "book", 5, 6, [0, [[0, 0], [4, 0, [1, "B"]]]]);
  assert.equal(page.html, `<b>b</b><div id="book" live-region="book" class="y"><ul id="l"><li id="r2">B</li></ul></div>`);
  assert.equal(page.$("#r2"), li);
  assert.deepEqual(page.heard, []);
});

test("a gap is asked for once, and a full frame fills it", () => {
  const page = view();
  page.say("g", "book", 0, 5, full(["1", "a"]));
  page.say("g", "book", 6, 7, [0, [[4, 0, [1, "lost"]]]]);
  page.say("g", "book", 7, 8, [0, [[4, 0, [1, "lost"]]]]);
  assert.deepEqual(page.heard, [[2, "g", "book"]]);
  assert.equal(page.$("#r1").textContent, "a");
  page.say("g", "book", 0, 9, full(["1", "i"]));
  page.say("g", "book", 9, 10, [0, [[4, 0, [1, "j"]]]]);
  assert.equal(page.$("#r1").textContent, "j");
  assert.deepEqual(page.heard, []);
});

test("a region that was never seen whole is asked for", () => {
  const page = view();
  page.say("g", "book", 6, 7, [0, "x"]);
  assert.deepEqual(page.heard, [[2, "g", "book"]]);
  assert.deepEqual(page.errors, []);
});

test("after a new connection a gap is asked for again", () => {
  const page = view();
  page.say("g", "book", 6, 7, [0, "x"]);
  page.drop();
  page.clock.tick(1000);
  page.join([body(0, text)], ["a", "x"]);
  page.say("g", "book", 6, 7, [0, "x"]);
  assert.deepEqual(page.heard.map((f) => f[1]), ["g"]);
});

test("a region that comes before its element is shown with it, and goes with it", () => {
  const page = open().join([body(0, `<div>{{0}}</div>`)], [""]);
  page.heard;
  page.say("g", "book", 0, 5, full(["1", "a"]));
  page.say("g", "book", 5, 6, [0, [[4, 0, [1, "b"]]]]);
  const el = `<p live-region="book"></p>`;
  page.say(0, { d: [0, el] });
  assert.equal(page.$("#r1").textContent, "b");
  page.say(0, { d: [0, ""] });
  page.say(0, { d: [0, el] });
  page.say("g", "book", 6, 7, [0, [[4, 0, [1, "c"]]]]);
  assert.deepEqual(page.heard, [[2, "g", "book"]]);
});

test("a region inside a locked element waits with it", () => {
  const page = open().join([body(0, `<form live-change="c"><input name="a"><p live-region="book"></p></form>`)], []);
  page.say("g", "book", 0, 5, full(["1", "a"]));
  page.heard;
  page.type("input", "x");
  page.say("g", "book", 5, 6, [0, [[4, 0, [1, "b"]]]]);
  assert.equal(page.$("#r1").textContent, "a");
  page.say(2);
  assert.equal(page.$("#r1").textContent, "b");
});

test("two regions with the same scopes do not meet", () => {
  const page = open().join([body(0, `<p live-region="a"></p><p live-region="b"></p>`)], []);
  for (const name of ["a", "b"]) page.say("g", name, 0, 1, { d: [name], s: [body(0, `<i>{{0}}</i>`)] });
  page.say("g", "b", 1, 2, [0, "B"]);
  assert.equal(page.html, `<p live-region="a"><i>a</i></p><p live-region="b"><i>B</i></p>`);
});

test("the elements of a region that came over HTTP stay until its first frame", () => {
  const page = open(`<b>a</b><div id="book" live-region="book" class="x"><ul id="l"><li id="r1">a</li></ul></div>`);
  const li = page.$("li");
  page.join([body(0, text)], ["a", "x"]);
  assert.equal(page.$("li"), li);
  page.say("g", "book", 0, 5, full(["1", "b"]));
  assert.equal(page.$("li"), li);
  assert.equal(li.textContent, "b");
});
