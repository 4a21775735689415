import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

const view = (text, options) => {
  const page = open("", options).join([body(0, text)], []);
  page.heard;
  return page;
};
/** The events heard, as [name, kind, value], and all of them done. */
const events = (page) => {
  const heard = page.heard.filter(([, kind]) => kind === "e");
  if (heard.length) page.say(heard.map(([ref]) => ref));
  return heard.map((f) => f.slice(2));
};

test("a click tells the values of its element", () => {
  const page = view(
    `<button id="a" live-click="x" value="v" live-value-id="7" live-value-a-b="c"></button>
     <button id="b" live-click="x" value="v" live-value-value="w"><i>x</i></button>
     <input type="checkbox" id="c" live-click="x" value="on"><li id="d" live-click="x" value="3"></li>`,
  );
  for (const id of ["#a", "#b i", "#c", "#c", "#d"]) page.click(id);
  page.$("#c").checked = false;
  assert.deepEqual(page.heard.map((f) => f.slice(2)), [
    ["x", "click", { value: "v", id: "7", "a-b": "c" }],
    ["x", "click", { value: "w" }],
    ["x", "click", { value: "on" }],
    ["x", "click", {}],
  ]);
});

test("a click on a link with live-click stays on the page, unless it opens another", () => {
  const page = view(`<a id="a" href="/x" live-click="x">x</a>`);
  assert.equal(page.click("#a"), false);
  assert.equal(page.click("#a", { ctrlKey: true }), true);
  assert.equal(events(page).length, 1);
});

test("clicks outside the view are none of ours", () => {
  const page = open("", { outside: `<button id="o" live-click="x"></button>` }).join([body(0, "")], []);
  page.heard;
  page.click("#o");
  assert.deepEqual(events(page), []);
});

test("a click elsewhere tells what can be seen", () => {
  const page = view(`<div id="m" live-click-away="close" live-value-id="1"><i>x</i></div><div id="h" live-click-away="no"></div><b>y</b>`);
  page.$("#h").checkVisibility = () => false;
  page.click("#m i");
  assert.deepEqual(events(page), []);
  page.click("b");
  assert.deepEqual(events(page), [["close", "click", { id: "1" }]]);
  assert.equal(page.$("#m").className, "");
});

test("keys are told with their value, and may be chosen", () => {
  const page = view(`<input id="a" live-keydown="d" live-keyup="u" value="v"><input id="e" live-keydown="enter" live-key="Enter"><p id="p" live-window-keydown="w" live-key="Escape"></p>`);
  page.fire("#a", "keydown", { key: "a" });
  assert.deepEqual(events(page), [["d", "keydown", { key: "a", value: "v" }]]);
  page.fire("#a", "keyup", { key: "a" });
  assert.deepEqual(events(page), [["u", "keyup", { key: "a", value: "v" }]]);
  page.fire("#e", "keydown", { key: "x" });
  page.fire("#e", "keydown", { key: "enter" });
  assert.deepEqual(events(page), [["enter", "keydown", { key: "enter" }]]);
  page.fire(page.document.body, "keydown", { key: "Escape" });
  page.fire(page.document.body, "keyup", { key: "Escape" });
  page.fire(page.document.body, "keydown", { key: "x" });
  assert.deepEqual(events(page), [["w", "keydown", { key: "Escape" }]]);
});

test("a field that the browser fills in is no key", () => {
  const page = view(`<input id="a" live-keydown="d">`);
  page.fire("#a", "keydown", {});
  assert.deepEqual(events(page), []);
});

test("focus and blur are those of the element, or of the window", () => {
  const page = view(`<input id="a" live-focus="f" live-blur="b" live-value-x="1"><input id="c"><p live-window-focus="wf" live-window-blur="wb"></p>`);
  page.$("#a").focus();
  assert.deepEqual(events(page), [["f", "focus", { x: "1" }]]);
  page.$("#c").focus();
  assert.deepEqual(events(page), [["b", "blur", { x: "1" }]]);
  page.window.dispatchEvent(new page.window.Event("focus"));
  page.window.dispatchEvent(new page.window.Event("blur"));
  assert.deepEqual(events(page), [["wf", "focus", {}], ["wb", "blur", {}]]);
});

test("debounce sends the last when things are quiet", () => {
  const page = view(`<form id="f" live-change="c"><input name="a" live-debounce="200"><input name="b" live-debounce></form>`);
  page.type("[name=a]", "1");
  page.clock.tick(199);
  page.type("[name=a]", "12");
  page.clock.tick(199);
  assert.deepEqual(events(page), []);
  page.clock.tick(1);
  assert.deepEqual(events(page), [["c", "change", "a=12&b=&_target=a&_unused_b="]]);
  page.type("[name=b]", "x");
  page.clock.tick(299);
  assert.deepEqual(events(page), []);
  page.clock.tick(1);
  assert.equal(events(page).length, 1);
});

test("what is put off is sent with the blur, with a change of another field, and before the form", () => {
  const page = view(`<form id="f" live-change="c" live-submit="s" live-debounce="5000"><input name="a"><input name="b" live-debounce="blur"></form>`);
  page.$("[name=a]").focus();
  page.type("[name=a]", "1");
  page.$("[name=b]").focus();
  assert.deepEqual(events(page).map((e) => e[2]), ["a=1&b=&_target=a&_unused_b="]);
  page.type("[name=b]", "2");
  page.clock.tick(10000);
  assert.deepEqual(events(page), []);
  page.type("[name=a]", "3");
  assert.deepEqual(events(page).map((e) => e[2]), ["a=3&b=2&_target=b"]);
  page.submit("#f");
  assert.deepEqual(page.heard.map((f) => f.slice(2)), [
    ["c", "change", "a=3&b=2&_target=a"],
    ["s", "submit", "a=3&b=2"],
  ]);
  page.clock.tick(10000);
  assert.deepEqual(page.heard, []);
});

test("throttle sends the first, and of changes the last", () => {
  const page = view(`<button id="b" live-click="x" live-throttle="100"></button><form live-change="c"><input name="a" live-throttle></form>`);
  page.click("#b");
  assert.equal(events(page).length, 1);
  page.click("#b");
  page.clock.tick(100);
  assert.equal(events(page).length, 0);
  page.click("#b");
  assert.equal(events(page).length, 1);
  for (const v of ["1", "2", "3"]) page.type("[name=a]", v);
  assert.deepEqual(events(page).map((e) => e[2]), ["a=1&_target=a"]);
  page.clock.tick(300);
  assert.deepEqual(events(page).map((e) => e[2]), ["a=3&_target=a"]);
  page.clock.tick(300);
  assert.deepEqual(events(page), []);
});

test("throttle of keys holds back only what repeats", () => {
  const page = view(`<input id="a" live-keydown="k" live-throttle="100">`);
  page.fire("#a", "keydown", { key: "x" });
  page.fire("#a", "keydown", { key: "x", repeat: true });
  page.fire("#a", "keydown", { key: "y" });
  assert.deepEqual(events(page).map((e) => e[2].key), ["x", "y"]);
  page.clock.tick(100);
  page.fire("#a", "keydown", { key: "y", repeat: true });
  assert.equal(events(page).length, 1);
});

test("live-confirm asks first, whatever the click would do", () => {
  const page = view(`<button id="a" live-click="x" live-confirm="Sure?"></button><form live-submit="s"><button id="b" live-confirm="Really?"></button></form><a id="l" href="/page?x" live-patch live-confirm="Go?">x</a>`);
  const asked = [];
  let answer = false;
  page.window.confirm = (text) => {
    asked.push(text);
    return answer;
  };
  for (const id of ["#a", "#b", "#l"]) page.$(id).click();
  assert.deepEqual(asked, ["Sure?", "Really?", "Go?"]);
  assert.deepEqual(page.heard, []);
  answer = true;
  for (const id of ["#a", "#b", "#l"]) page.$(id).click();
  assert.deepEqual(page.heard.map((f) => f[1]), ["e", "e", "p"]);
});

test("nothing is sent without a connection", () => {
  const page = view(`<button id="b" live-click="x"></button><form id="f" method="post" live-submit="s"></form>`);
  page.drop();
  page.click("#b");
  assert.equal(page.submit("#f"), false);
  assert.deepEqual(page.heard, []);
  assert.equal(page.$$(".live-loading").filter((el) => el.id !== "live" && el.localName !== "html").length, 0);
});

test("a link with an event is a plain link until the page has joined", () => {
  const page = open(`<a id="a" href="/x" live-click="x">x</a>`);
  assert.equal(page.click("#a"), true);
  page.join([body(0, `<a id="a" href="/x" live-click="x">x</a>`)], []);
  page.heard;
  assert.equal(page.click("#a"), false);
  assert.deepEqual(page.heard.map((f) => f[1]), ["e"]);
});
