import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

const view = (text, row = []) => {
  const page = open().join([body(0, text)], row);
  page.heard;
  return page;
};
const events = (page) => page.heard.filter(([, kind]) => kind === "e").map((f) => f.slice(2));

test("a form without the name of its event takes that of the button or the field _event", () => {
  const page = view(`<form id="f" live-submit><input name="_event" type="hidden" value="a"><button id="b" name="_event" value="b"></button></form>`);
  page.submit("#f");
  page.say(2);
  page.submit("#f", "#b");
  assert.deepEqual(events(page), [
    ["a", "submit", "_event=a"],
    ["b", "submit", "_event=a&_event=b"],
  ]);
});

test("before the first join a form that posts is left to the browser", () => {
  const page = open(`<form id="f" method="post" live-submit="s"></form><form id="g" live-submit="s"></form>`);
  assert.equal(page.submit("#f"), true);
  assert.equal(page.submit("#g"), false);
});

test("a change tells its target and what has not been touched", () => {
  const page = view(`<form live-change="c"><input name="a"><input name="b"><input type="hidden" name="h" value="1"><input type="checkbox" name="k"><select name="s"><option>x</option></select><button name="z">z</button></form>`);
  page.type("[name=a]", "1");
  assert.deepEqual(events(page), [["c", "change", "a=1&b=&h=1&s=x&_target=a&_unused_b=&_unused_k=&_unused_s="]]);
  assert.equal(page.$("form").className, "live-loading live-change-loading");
  assert.equal(page.$("[name=a]").className, "live-loading live-change-loading");
  page.say(2);
  page.$("[name=k]").click();
  assert.deepEqual(events(page), [["c", "change", "a=1&b=&h=1&k=on&s=x&_target=k&_unused_b=&_unused_s="]]);
});

test("a form that the view has dealt with shows what is rendered", () => {
  const page = view(`<form id="f" live-change="c" live-submit="s"><input id="a" name="a" value="{{0}}"><textarea id="t" name="t">{{1}}</textarea><input id="k" type="checkbox" name="k"></form><form id="g" live-keep live-submit="s"><input id="b" name="b"></form>`, ["", "draft"]);
  const fill = () => {
    page.type("#a", "one");
    page.type("#t", "two");
    page.$("#k").checked = true;
    page.type("#b", "kept");
    page.$("#a").focus();
    page.submit("#f");
    page.submit("#g");
    return page.heard.filter((f) => f[3] === "submit").map((f) => f[0]);
  };
  const shown = () => [page.$("#a").value, page.$("#t").value, page.$("#k").checked, page.$("#b").value];
  let [f, g] = fill();
  page.say([f, g], {});
  assert.deepEqual(shown(), ["one", "two", true, "kept"], "with errors");
  [f, g] = fill();
  page.say([f, g], { d: [0, "next"], r: [[f, 1], [g, 1]] });
  assert.deepEqual(shown(), ["next", "draft", false, "kept"]);
  assert.deepEqual(page.heard, [], "which is no change");
  page.type("#a", "x");
  assert.match(page.heard[0][4], /_unused_t=/, "and nothing has been touched");
});

test("after a submit nothing is untouched", () => {
  const page = view(`<form id="f" live-change="c" live-submit="s"><input name="a"><input name="b"></form>`);
  page.submit("#f");
  page.say(2);
  page.type("[name=a]", "1");
  assert.deepEqual(events(page)[1][2], "a=1&b=&_target=a");
});

test("a reset is a change without a target after which all is untouched", () => {
  const page = view(`<form id="f" live-change="c"><input name="a"></form>`);
  page.type("[name=a]", "1");
  page.say(2);
  page.heard;
  page.$("#f").reset();
  page.clock.tick(0);
  assert.deepEqual(events(page), [["c", "change", "a=&_target=&_unused_a="]]);
});

test("a field may have a change of its own, with and without a form", () => {
  const page = view(`<form live-change="c"><input name="a" live-change="own"></form><input id="b" name="b" live-change="alone"><input type="checkbox" id="k" name="k" live-change="box">`);
  page.type("[name=a]", "1");
  page.type("#b", "x y");
  page.$("#k").click();
  page.$("#k").click();
  assert.deepEqual(events(page), [
    ["own", "change", "a=1&_target=a"],
    ["alone", "change", "_target=b&b=x+y"],
    ["box", "change", "_target=k&k=on"],
    ["box", "change", "_target=k"],
  ]);
});

test("live-trigger-action sends the form to the server without us", () => {
  const page = view(`<form id="f" action="/login" method="post"{{0}}><input name="submit"></form>`, [""]);
  let sent = 0;
  page.window.HTMLFormElement.prototype.submit = function () {
    sent += this.id === "f";
  };
  page.say(0, { d: [0, " live-trigger-action"] });
  assert.equal(sent, 1);
  assert.equal(page.socket.readyState, 3);
  page.drop();
  page.clock.tick(19_999);
  assert.equal(page.sockets.length, 1);
});

// Recovery.

const text = `<form id="f" live-change="c"{{0}}><input name="a" value="{{1}}"></form><p>{{2}}</p>`;
const back = (page, row, name = "c") => {
  page.drop();
  page.clock.tick(10000);
  page.accept();
  page.heard;
  page.say("j", 9, { d: { d: row, s: [body(0, text.replace(`"c"`, `"${name}"`))] } });
};

test("what the user typed is sent to the view that knows nothing of it before the form changes", () => {
  const page = view(text, ["", "", "x"]);
  page.type("input", "typed");
  page.say(2, { d: [1, "typed"] });
  page.heard;
  back(page, ["", "", "y"]);
  const [[ref, ...event]] = page.heard;
  assert.deepEqual(event, ["e", "c", "change", "a=typed&_target="]);
  assert.equal(page.$("p").textContent, "y");
  assert.equal(page.$("input").value, "typed");
  page.say(ref, { d: [1, "typed"] });
  assert.equal(page.$("input").value, "typed");
  assert.equal(page.$("input").getAttribute("value"), "typed");
  assert.equal(page.$("form").className, "");
});

test("a form recovers with another event, or not at all", () => {
  for (const [attribute, want] of [[` live-auto-recover="again"`, [["again", "change", "a=typed&_target="]]], [` live-auto-recover="ignore"`, []]]) {
    const page = view(text, [attribute, "", "x"]);
    page.type("input", "typed");
    page.say(2);
    page.heard;
    back(page, [attribute, "", "y"]);
    assert.deepEqual(events(page), want);
  }
});

test("a form does not recover when it was not used or is another now", () => {
  const page = view(text, ["", "", "x"]);
  back(page, ["", "", "y"]);
  assert.deepEqual(events(page), []);
  page.type("input", "typed");
  page.heard;
  back(page, ["", "", "y"], "other");
  assert.deepEqual(events(page), []);
  assert.equal(page.$("input").value, "typed");
});

test("what was typed before the first join is sent, too", () => {
  const page = open(text.replace(/\{\{\d\}\}/g, ""));
  page.type("input", "early");
  page.join([body(0, text)], ["", "", "x"]);
  assert.deepEqual(events(page), [["c", "change", "a=early&_target="]]);
  assert.equal(page.$("input").value, "early");
});

test("a view that the server mounts by itself recovers forms, too", () => {
  const page = view(text, ["", "", "x"]);
  page.type("input", "typed");
  page.say(2);
  page.heard;
  page.say("j", 0, { d: { d: ["", "", "y"], s: [body(0, text)] } });
  assert.deepEqual(events(page), [["c", "change", "a=typed&_target="]]);
});
