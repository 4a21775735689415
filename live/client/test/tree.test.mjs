import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

test("a click is sent and its patch is shown", () => {
  const page = open(`<b id="n">0</b><button live-click="up" live-value-by="2">+</button>`);
  page.accept();
  assert.deepEqual(page.heard, [[1, "j", { t: "T1", u: "http://app.test/page", p: {}, n: 0 }]]);
  page.say("j", 1, { d: { d: ["0"], s: [body(0, `<b id="n">{{0}}</b><button live-click="up" live-value-by="2">+</button>`)] } });
  assert.ok(page.live.connected);
  page.click("button");
  assert.deepEqual(page.heard, [[2, "e", "up", "click", { by: "2" }]]);
  page.say(2, { d: [0, "2"] });
  assert.equal(page.html, `<b id="n">2</b><button live-click="up" live-value-by="2">+</button>`);
  assert.deepEqual(page.errors, []);
});

test("a form is sent", () => {
  const html = `<form live-submit="save"><input name="a"><button name="_event" value="x">ok</button></form><p>{{}}</p>`;
  const page = open(html.replace("{{}}", "")).join([body(0, html)], [""]);
  page.$("input").value = "ü 1";
  page.submit("form", "button");
  assert.deepEqual(page.heard, [[2, "e", "save", "submit", "a=%C3%BC+1&_event=x"]]);
  assert.ok(page.$("input").readOnly && page.$("button").disabled);
  page.say(2, { d: [0, "saved"] });
  assert.ok(!page.$("input").readOnly && !page.$("button").disabled);
  assert.equal(page.$("p").textContent, "saved");
  assert.deepEqual(page.errors, []);
});
