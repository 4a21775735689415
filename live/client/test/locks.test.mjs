import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

const view = (text, row) => {
  const page = open().join([body(0, text)], row);
  page.heard;
  return page;
};

test("an element whose event is on its way has loading classes, and drops clicks", () => {
  const page = view(`<button id="b" live-click="go">{{0}}</button>`, ["0"]);
  page.click("#b");
  page.click("#b");
  assert.deepEqual(page.heard, [[2, "e", "go", "click", {}]]);
  assert.equal(page.$("#b").className, "live-loading live-click-loading");
  page.say(2);
  assert.equal(page.$("#b").outerHTML, `<button id="b" live-click="go">0</button>`);
  page.click("#b");
  assert.equal(page.heard.length, 1);
});

test("what arrives for a locked element is shown when its event is done", () => {
  const page = view(`<div id="d"><button id="b" live-click="go">{{0}}</button></div><i>{{1}}</i>`, ["0", "a"]);
  page.click("#b");
  page.$("#b").textContent = "optimistic";
  page.say(0, { d: [0, "1", 1, "b"] });
  assert.equal(page.$("i").textContent, "b", "all else changes");
  assert.equal(page.$("#b").textContent, "optimistic");
  page.say(0, { d: [0, "2"] });
  page.say(99);
  assert.equal(page.$("#b").textContent, "optimistic");
  page.say(2, { d: [0, "3"] });
  assert.equal(page.$("#b").textContent, "3");
});

test("an older ref does not unlock what has sent another event since", () => {
  const page = view(`<input id="a" live-keydown="k" value="{{0}}" data-v="{{1}}">`, ["", ""]);
  page.fire("#a", "keydown", { key: "x" });
  page.fire("#a", "keydown", { key: "y" });
  page.say(2, { d: [1, "x"] });
  assert.equal(page.$("#a").dataset.v, "");
  page.say(3, { d: [1, "xy"] });
  assert.equal(page.$("#a").dataset.v, "xy");
  assert.equal(page.$("#a").className, "");
});

test("one message may acknowledge many refs", () => {
  const page = view(`<button id="a" live-click="x"></button><button id="b" live-click="y"></button>`, []);
  page.click("#a");
  page.click("#b");
  page.say([2, 3]);
  assert.equal(page.$$(".live-loading").length, 0);
});

test("scopes, rows and streams inside a locked element wait with it", () => {
  const page = open();
  const text = `<form id="f" live-change="c"><input name="q"><p id="p">{{0}}</p><ul id="l">{{1}}</ul><ol id="s" live-update="stream">{{2}}</ol></form>`;
  const parts = text.split(/\{\{\d\}\}/);
  page.join(
    [
      [0, [0, ["f", 0, 0, 3, parts[3].length], ["p", 0, parts[0].indexOf("<p"), 1, 4], ["l", 1, 4, 2, 5], ["s", 2, 5, 3, 5]], ...parts],
      body(1, `<li id="r{{0}}">{{1}}</li>`, 1),
    ],
    ["one", [1, ["1", "a"], ["2", "b"]], { o: [[2], [1, 1, -1, 0, ["7", "s"]]] }],
  );
  const before = page.html;
  page.type("input", "x");
  page.heard;
  page.say(0, { d: [0, "two"] });
  page.say(0, { d: [1, [[0, 0], [4, 0, [1, "B"]]]] });
  page.say(0, { d: [2, { o: [[1, 1, -1, 0, ["8", "t"]]] }] });
  page.say(0, { d: [1, [[1, 0, ["3", "c"]]], 2, { o: [[0, "r7"]] }] });
  assert.equal(page.$("#p").textContent, "one");
  assert.deepEqual(page.$$("#l li").map((li) => li.id), ["r1", "r2"]);
  assert.deepEqual(page.$$("#s li").map((li) => li.id), ["r7"]);
  page.say(2);
  assert.equal(page.$("#p").textContent, "two");
  assert.deepEqual(page.$$("#l li").map((li) => li.outerHTML), [`<li id="r3">c</li>`, `<li id="r2">B</li>`]);
  assert.deepEqual(page.$$("#s li").map((li) => li.id), ["r8"]);
  assert.equal(page.$("input").value, "x");
  assert.notEqual(page.html, before);
  assert.equal(page.$$("#live [class]").length, 0);
  assert.deepEqual(page.errors, []);
});

test("what waits for a lock is void after a new full frame", () => {
  const page = open();
  const head = `<form id="f" live-change="c"><input name="q">`;
  const shape = [0, [0, ["f", 0, 0, 1, 12], ["s", 0, head.length, 1, 5]], `${head}<ol id="s" live-update="stream">`, `</ol></form>`];
  const li = body(1, `<li id="r{{0}}">x</li>`, 1);
  // The bodies have other numbers now.
  const full = (...rows) => ({ d: { d: [{ o: [[2], [1, 5, -1, 0, ...rows]] }], s: [shape, [5, ...li.slice(1)]] } });
  page.join([shape, li], [{ o: [[2], [1, 1, -1, 0, ["1"]]] }]);
  page.type("input", "x");
  const [[ref]] = page.heard;
  page.say(0, { d: [0, { o: [[1, 1, -1, 0, ["old"]]] }] });
  page.say(0, full(["2"]));
  page.say(ref);
  assert.deepEqual(page.$$("li").map((el) => el.id), ["r2"]);
  assert.deepEqual(page.errors, []);
});

test("a locked element inside a locked element opens by itself", () => {
  const page = open();
  page.join([[0, [0, ["f", 0, 0, 2, 13]], `<form id="f" live-change="c"><input name="q"><button type="button" id="b" live-click="k">`, `</button><i>`, `</i></form>`.padEnd(13)]], ["0", "x"]);
  page.heard;
  page.click("#b");
  page.type("input", "z");
  assert.deepEqual(page.heard.map((f) => f[2]), ["k", "c"]);
  page.say(3, { d: [0, "1", 1, "y"] });
  assert.equal(page.$("i").textContent, "y");
  assert.equal(page.$("#b").textContent, "0");
  page.say(2);
  assert.equal(page.$("#b").textContent, "1");
});

test("a row that goes while it is locked is gone", () => {
  const page = open();
  page.join([[0, [0, ["l", 0, 0, 1, 5]], `<ul id="l">`, `</ul>`], body(1, `<li id="r{{0}}" live-click="x">{{1}}</li>`, 1)], [[1, ["1", "a"], ["2", "b"]]]);
  page.heard;
  page.click("#r1");
  page.say(0, { d: [0, [[0, 0]]] });
  assert.equal(page.html, `<ul id="l"><li id="r2" live-click="x">b</li></ul>`);
  page.say(2);
  assert.deepEqual(page.errors, []);
});

test("a form that is sent is locked until it is done, and its fields change even under the focus", () => {
  const page = view(
    `<form id="f" live-submit="send" live-change="c"><input id="a" name="a" value="{{0}}"><textarea name="t"></textarea><button id="b" live-disable-with="Sending…"><b>Send</b></button><button id="x" type="button" disabled>x</button></form>`,
    [""],
  );
  page.$("#a").focus();
  page.type("#a", "hello");
  page.say(2, { d: [0, "hello"] });
  page.heard;
  page.submit("#f", "#b");
  assert.deepEqual(page.heard, [[3, "e", "send", "submit", "a=hello&t="]]);
  assert.equal(page.$("#f").className, "live-loading live-submit-loading");
  assert.equal(page.$("#b").className, "live-loading live-submit-loading");
  assert.deepEqual([page.$("#a").readOnly, page.$("textarea").readOnly, page.$("#b").disabled, page.$("#b").innerHTML], [true, true, true, "Sending…"]);
  page.submit("#f", "#b");
  assert.deepEqual(page.heard, []);
  page.say(3, { d: [0, ""] });
  assert.deepEqual([page.$("#a").readOnly, page.$("textarea").readOnly, page.$("#b").disabled, page.$("#b").innerHTML], [false, false, false, "<b>Send</b>"]);
  assert.equal(page.$("#x").disabled, true);
  assert.equal(page.$("#a").value, "");
  assert.equal(page.document.activeElement, page.$("#a"));
  assert.equal(page.$("#f").hasAttribute("class") || page.$("#b").hasAttribute("class"), false);
});

test("disable-with of a click changes the text, or without text only disables", () => {
  const page = view(`<button id="a" live-click="x" live-disable-with="Wait">Go</button><button id="b" live-click="x" live-disable-with="">Go</button>`, []);
  page.click("#a");
  page.click("#b");
  assert.deepEqual(page.$$("button").map((b) => [b.disabled, b.textContent]), [[true, "Wait"], [true, "Go"]]);
  page.say([2, 3]);
  assert.deepEqual(page.$$("button").map((b) => [b.disabled, b.textContent]), [[false, "Go"], [false, "Go"]]);
});

test("a button that is disabled for a while has the focus again after it", () => {
  const page = view(`<form id="f" live-submit="s"><input name="a"><button id="b">ok</button></form>`, []);
  page.$("#b").focus();
  page.submit("#f", "#b");
  page.$("#b").blur(); // as browsers do
  page.say(2);
  assert.equal(page.document.activeElement, page.$("#b"));
  page.submit("#f", "#b");
  page.$("[name=a]").focus();
  page.say(3);
  assert.equal(page.document.activeElement, page.$("[name=a]"));
});

test("when the connection is lost the locks open and show nothing that was held back", () => {
  const page = view(`<button id="b" live-click="go">{{0}}</button>`, ["0"]);
  page.click("#b");
  page.say(0, { d: [0, "1"] });
  page.drop();
  assert.equal(page.$("#b").outerHTML, `<button id="b" live-click="go">0</button>`);
  page.clock.tick(1000);
  page.join([body(0, `<button id="b" live-click="go">{{0}}</button>`)], ["2"]);
  assert.equal(page.$("#b").textContent, "2");
});
