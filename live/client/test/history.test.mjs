import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

const text = `<a id="p" href="/page?x=1" live-patch>p</a><a id="n" href="/other" live-navigate>n</a><input id="i" value="{{0}}"><h2 id="part">{{1}}</h2>`;
const view = (options) => {
  const page = open("", options).join([body(0, text)], ["", "a"]);
  page.heard;
  return page;
};

test("a patch changes the history at once and tells the server", () => {
  const page = view();
  const length = page.window.history.length;
  const seen = [];
  for (const name of ["page-loading-start", "page-loading-stop"]) page.window.addEventListener("live:" + name, (e) => seen.push(name + " " + e.detail.kind));
  page.window.scrollY = 120;
  page.click("#p");
  assert.equal(page.window.location.href, "http://app.test/page?x=1");
  assert.equal(page.window.history.length, length + 1);
  assert.deepEqual(page.heard, [[2, "p", "http://app.test/page?x=1"]]);
  assert.deepEqual(seen, ["page-loading-start patch"]);
  page.say(2, { d: [1, "b"] });
  assert.deepEqual(seen, ["page-loading-start patch", "page-loading-stop patch"]);
  assert.deepEqual(page.scrolls, [], "a patch keeps the scroll position");
});

test("a link is left to the browser when it opens something else", () => {
  const page = view();
  const stays = (init) => page.click("#p", init);
  assert.equal(stays({ ctrlKey: true }), true);
  assert.equal(stays({ metaKey: true }), true);
  assert.equal(stays({ shiftKey: true }), true);
  assert.equal(stays({ button: 1 }), true);
  page.$("#p").target = "_blank";
  assert.equal(stays(), true);
  page.$("#p").target = "_self";
  page.$("#p").href = "http://elsewhere.test/";
  assert.equal(stays(), true);
  page.$("#p").href = "/page";
  page.$("#p").setAttribute("download", "");
  assert.equal(stays(), true);
  assert.deepEqual(page.heard, []);
  page.$("#p").removeAttribute("download");
  page.drop();
  assert.equal(stays(), true, "without a connection");
});

test("a link with a click of its own only does that", () => {
  const page = view();
  page.$("#p").setAttribute("live-click", "x");
  page.click("#p");
  assert.deepEqual(page.heard.map((f) => f[1]), ["e"]);
  assert.equal(page.window.location.search, "");
});

test("a navigation shows another view, from the top, with nothing kept of what was typed", () => {
  const page = view();
  const input = page.$("#i");
  page.type("#i", "typed");
  input.focus();
  page.click("#n");
  assert.deepEqual(page.heard, [[2, "n", "http://app.test/other"]]);
  page.say("j", 2, { d: { d: ["", "other"], s: [body(0, text)] }, t: "Other" });
  assert.equal(page.$("#part").textContent, "other");
  assert.equal(page.$("#i").value, "");
  assert.equal(page.document.title, "Other");
  assert.deepEqual(page.scrolls, [0]);
});

test("a navigation to a part of a page scrolls there", () => {
  const page = view();
  page.$("#n").href = "/other#part";
  page.click("#n");
  page.say("j", 2, { d: { d: ["", "other"], s: [body(0, text)] } });
  assert.deepEqual(page.scrolls, ["part"]);
});

test("going back patches and scrolls to where the page stood", () => {
  const page = view();
  page.window.scrollY = 120;
  page.click("#p");
  page.say(2);
  page.heard;
  page.window.history.back();
  page.clock.tick(1);
  assert.deepEqual(page.heard, [[3, "p", "http://app.test/page"]]);
  assert.deepEqual(page.scrolls, []);
  page.say(3, { d: [1, "b"] });
  assert.deepEqual(page.scrolls, [120]);
});

test("going back to another view shows it anew, whatever its URL", () => {
  const page = view();
  page.click("#n");
  page.say("j", 2, { d: { d: ["", "other"], s: [body(0, text)] } });
  page.click("#p");
  page.say(3, { d: [1, "b"] });
  page.heard;
  page.window.history.back();
  page.clock.tick(1);
  assert.deepEqual(page.heard, [[4, "p", "http://app.test/other"]], "within the view");
  page.say(4, { d: [1, "other"] });
  page.window.history.back();
  page.clock.tick(1);
  assert.deepEqual(page.heard, [[5, "n", "http://app.test/page"]]);
  page.say("j", 5, { d: { d: ["", "a"], s: [body(0, text)] } });
  page.say("j", 0, { d: { d: ["", "sent"], s: [body(0, text)] }, u: ["/page", 0] });
  page.window.history.back();
  page.clock.tick(1);
  page.window.history.forward();
  page.clock.tick(1);
  assert.ok(page.heard.every((f) => f[1] === "n"), "also when the server had gone there");
});

test("the scroll position is remembered while the user scrolls", () => {
  const page = view();
  page.window.scrollY = 77;
  page.window.dispatchEvent(new page.window.Event("scroll"));
  page.clock.tick(100);
  assert.equal(page.window.history.state.live, 77);
});

test("going to a fragment is none of the server's business", () => {
  const page = view();
  page.window.location.hash = "#part";
  page.clock.tick(1);
  assert.equal(page.window.location.hash, "#part");
  page.window.history.back();
  page.clock.tick(1);
  assert.equal(page.window.location.hash, "");
  assert.deepEqual(page.heard, []);
});

test("the server may change the URL, with and without a new entry", () => {
  const page = view();
  const length = page.window.history.length;
  page.say(0, { u: ["/page?y=1", 0] });
  assert.equal(page.window.location.search, "?y=1");
  assert.equal(page.window.history.length, length + 1);
  page.say(0, { u: ["/page?y=2", 1] });
  page.say(0, { u: ["/page?y=2", 0] });
  assert.equal(page.window.location.search, "?y=2");
  assert.equal(page.window.history.length, length + 1);
});

test("where the server sends a user on, the place he went to is no entry of its own", () => {
  const page = view();
  const length = page.window.history.length;
  page.click("#p");
  page.say(2, { u: ["/page?x=2", 0] });
  assert.equal(page.window.location.search, "?x=2");
  assert.equal(page.window.history.length, length + 1);
  page.drop();
  page.clock.tick(1000);
  page.join([body(0, text)], ["", "a"], { u: ["/page?x=3", 0] });
  assert.equal(page.window.location.search, "?x=3");
  assert.equal(page.window.history.length, length + 1);
});

test("a view that the server goes to is another one, and is shown from the top", () => {
  const page = open().join([body(0, `<form id="f" live-change="c"><input name="a"></form>`)], []);
  page.type("input", "typed");
  page.heard;
  page.say("j", 0, { d: { d: [], s: [body(0, `<form id="f" live-change="c"><input name="a"></form>`)] }, u: ["/other", 0] });
  assert.deepEqual(page.heard, []);
  assert.equal(page.$("input").value, "");
  assert.equal(page.$("form").className, "");
  assert.deepEqual(page.scrolls, [0]);
});

test("a patch that got lost with the connection is made up for by the join", () => {
  const page = view();
  page.click("#p");
  page.drop();
  page.clock.tick(1000);
  page.accept();
  assert.equal(page.heard[0][2].u, "http://app.test/page?x=1");
});

test("where the server sends the page is an entry of the history, but not where a join leads", () => {
  const page = view();
  const length = page.window.history.length;
  page.say("j", 0, { d: { d: ["", "other"], s: [body(0, text)] }, u: ["/other", 0] });
  assert.equal(page.window.location.pathname, "/other");
  assert.equal(page.window.history.length, length + 1);
  page.say("j", 0, { d: { d: ["", "third"], s: [body(0, text)] }, u: ["/third", 1] });
  assert.equal(page.window.history.length, length + 1);
});

test("an event says to how many views the page has gone", () => {
  const button = `<button id="b" live-click="x"></button><a id="n" href="/other" live-navigate>n</a>`;
  const page = open().join([body(0, button)], []);
  page.click("#b");
  page.say(2);
  page.click("#n");
  page.say("j", 3, { d: { d: [], s: [body(0, button)] } });
  page.click("#b");
  page.say("j", 0, { d: { d: [], s: [body(0, button)] }, u: ["/third", 0] });
  page.click("#b");
  page.say("j", 0, { d: { d: [], s: [body(0, button)] } });
  page.click("#b");
  assert.deepEqual(page.heard.filter((f) => f[1] === "e").map((f) => f[5]), [undefined, 1, 2, 2]);
  page.drop();
  page.clock.tick(1000);
  page.join([body(0, button)], []);
  page.heard;
  page.click("#b");
  assert.deepEqual(page.heard.filter((f) => f[1] === "e").map((f) => f[5]), [undefined], "since it has joined");
});
