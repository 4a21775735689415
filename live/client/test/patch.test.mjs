import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

const view = (text, row) => open().join([body(0, text)], row);

test("what the user typed stays until the server renders something else", () => {
  const page = view(`<input id="a" class="{{0}}" value="{{1}}"><textarea id="t" class="{{2}}">{{3}}</textarea><i>{{4}}</i>`, ["", "one", "", "text", "x"]);
  page.$("#a").value = "typed";
  page.$("#t").value = "written";
  page.say(0, { d: [4, "y"] });
  page.say(0, { d: [0, "red", 2, "red"] });
  assert.deepEqual([page.$("#a").className, page.$("#t").className], ["red", "red"]);
  assert.deepEqual([page.$("#a").value, page.$("#t").value], ["typed", "written"]);
  page.say(0, { d: [1, "two", 3, "TEXT"] });
  assert.deepEqual([page.$("#a").value, page.$("#t").value], ["two", "TEXT"]);
});

test("boxes and choices follow the server when it changes them", () => {
  const page = view(
    `<input type="checkbox" id="c"{{0}}><select id="s"><option value="a"{{1}}>a</option><option value="b"{{2}}>b</option><option value="c">c</option></select><i>{{3}}</i>`,
    ["", " selected", "", "x"],
  );
  page.$("#c").checked = true;
  page.$("#s").value = "c";
  page.say(0, { d: [3, "y"] });
  assert.equal(page.$("#c").checked, true);
  assert.equal(page.$("#s").value, "c");
  page.say(0, { d: [0, " checked", 1, "", 2, " selected"] });
  assert.equal(page.$("#s").value, "b");
  page.say(0, { d: [0, ""] });
  assert.equal(page.$("#c").checked, false);
});

test("the field with the focus keeps its value and selection, and takes other attributes", () => {
  const page = view(`<input id="a" class="{{0}}" value="{{1}}"><textarea id="t">{{2}}</textarea>`, ["c", "one", "text"]);
  const input = page.$("#a");
  input.focus();
  input.value = "typing";
  input.setSelectionRange(2, 4);
  page.say(0, { d: [0, "bad", 1, "two"] });
  assert.deepEqual([input.value, input.className, input.selectionStart, input.selectionEnd], ["typing", "bad", 2, 4]);
  assert.equal(page.document.activeElement, input);
  page.$("#t").focus();
  page.$("#t").value = "writing";
  page.say(0, { d: [2, "other"] });
  assert.equal(page.$("#t").value, "writing");
  assert.equal(input.value, "typing");
  page.say(0, { d: [1, "three"] });
  assert.equal(input.value, "three", "without the focus it is the server's");
});

test("a field with the focus in which nothing was typed keeps its value, too", () => {
  const page = view(`<input id="a" value="{{0}}"><textarea id="t">{{1}}</textarea>`, ["one", "text"]);
  page.$("#a").focus();
  page.$("#a").setSelectionRange(1, 1);
  page.say(0, { d: [0, "two"] });
  assert.deepEqual([page.$("#a").value, page.$("#a").selectionStart], ["one", 1]);
  page.$("#t").focus();
  page.say(0, { d: [1, "other"] });
  assert.equal(page.$("#t").value, "text");
});

test("a box with the focus follows the server", () => {
  const page = view(`<input type="checkbox" id="c"{{0}}>`, [""]);
  page.$("#c").focus();
  page.say(0, { d: [0, " checked"] });
  assert.equal(page.$("#c").checked, true);
});

test("a select with the focus changes only with its options", () => {
  const page = view(`<select id="s" class="{{0}}"><option>a</option>{{1}}</select>`, ["x", "<option>b</option>"]);
  const select = page.$("#s");
  select.focus();
  select.value = "b";
  page.say(0, { d: [0, "y"] });
  assert.equal(select.value, "b");
  assert.equal(select.className, "y");
  page.say(0, { d: [1, "<option>b</option><option>c</option>"] });
  assert.equal(select.options.length, 3);
  assert.equal(select.value, "b");
});

test("a number that is not one yet is left alone", () => {
  const page = view(`<input type="number" id="n" value="{{0}}">`, ["1"]);
  const set = [];
  Object.defineProperty(page.$("#n"), "validity", { value: { badInput: true } });
  Object.defineProperty(page.$("#n"), "value", { get: () => "", set: (v) => set.push(v) });
  page.say(0, { d: [0, "2"] });
  page.$("#n").focus();
  page.say(0, { d: [0, "3"] });
  assert.deepEqual(set, []);
});

test("the focus stays with an element that moves", () => {
  const page = open();
  page.join(
    [[0, [0, ["l", 0, 0, 1, 5]], `<ul id="l">`, `</ul>`], body(1, `<li id="r{{0}}"><input id="i{{0}}"></li>`.replace("i{{0}}", "i{{1}}"), 1)],
    [[1, ["1", "1"], ["2", "2"], ["3", "3"]]],
  );
  const input = page.$("#i3");
  input.focus();
  input.value = "abc";
  input.setSelectionRange(1, 2);
  input.focus = () => {
    page.window.HTMLElement.prototype.focus.call(input);
    input.setSelectionRange(0, 0); // as browsers do with an element that was put elsewhere
  };
  page.say(0, { d: [0, [[2, 2, 0]]] });
  assert.equal(page.document.activeElement, input);
  assert.deepEqual([input.selectionStart, input.selectionEnd], [1, 2]);
  page.say(0, { d: [0, [1, ["3", "3"], ["4", "4"]]] });
  assert.equal(page.document.activeElement, input);
});

test("moveBefore is used where it is there", () => {
  const moved = [];
  const page = open("", {
    before: (window) => {
      window.Element.prototype.moveBefore = function (el, ref) {
        if (!el.isConnected) throw new Error("must be connected");
        moved.push(el.id);
        this.insertBefore(el, ref);
      };
    },
  });
  page.join([[0, [0, ["l", 0, 0, 1, 5]], `<ul id="l">`, `</ul>`], body(1, `<li id="r{{0}}"></li>`, 1)], [[1, ["1"], ["2"], ["3"]]]);
  page.say(0, { d: [0, [[2, 2, 0], [1, 3, ["4"]]]] });
  assert.deepEqual(moved, ["r3"]);
  assert.deepEqual(page.$$("li").map((li) => li.id), ["r3", "r1", "r2", "r4"]);
});

test("an ignored element keeps its children and takes its data", () => {
  const page = view(`<div id="c" live-update="ignore" data-x="{{0}}" class="{{1}}"><b>{{2}}</b></div>`, ["1", "a", "old"]);
  page.$("#c").innerHTML = "<canvas></canvas>";
  page.$("#c").className = "mine";
  page.say(0, { d: [0, "2", 1, "b", 2, "new"] });
  assert.equal(page.$("#c").outerHTML, `<div id="c" live-update="ignore" data-x="2" class="mine"><canvas></canvas></div>`);
});

// That scripts which come with a frame do not run is a rule of the standard for what is parsed as a fragment.
test("a script that is there does not change, and so does not run", () => {
  const page = view(`<div>{{0}}</div><script id="s">{{1}}</script>`, ["", ""]);
  const script = page.$("#s");
  page.say(0, { d: [0, "x", 1, "window.hit++"] });
  assert.equal(page.$("div").textContent, "x");
  assert.equal(page.$("#s"), script);
  assert.equal(script.textContent, "");
});

test("an element that becomes another is replaced", () => {
  const page = open();
  page.join([[0, [0, ["l", 0, 0, 1, 6]], `<div id="l">`, `</div>`], body(1, `<{{0}} id="r{{1}}">{{2}}</{{3}}>`, 1)], [[1, ["p", "1", "x", "p"], ["p", "2", "y", "p"]]]);
  page.say(0, { d: [0, [[4, 0, [0, "b", 3, "b"]]]] });
  assert.equal(page.html, `<div id="l"><b id="r1">x</b><p id="r2">y</p></div>`);
});

test("a custom element is made once, when it is shown", () => {
  const page = view(`<div id="d">{{0}}</div>`, [""]);
  const made = [];
  page.window.customElements.define("x-live", class extends page.window.HTMLElement {
    constructor() {
      super();
      made.push("made");
    }
    connectedCallback() {
      made.push("shown");
    }
  });
  page.say(0, { d: [0, "<x-live></x-live>"] });
  assert.deepEqual(made, ["made", "shown"]);
  page.say(0, { d: [0, "<x-live a='1'></x-live>"] });
  assert.deepEqual(made, ["made", "shown"]);
});

test("elements with an id move between parents and keep their state", () => {
  const page = view(`<div>{{0}}</div><section>{{1}}</section>`, [`<input id="k"><b>x</b>`, ""]);
  const input = page.$("#k");
  input.value = "kept";
  page.say(0, { d: [0, "<b>x</b>", 1, `<p><input id="k"></p>`] });
  assert.equal(page.$("section input"), input);
  assert.equal(input.value, "kept");
});

test("a range takes a value beyond the limits that it had", () => {
  const page = open().join([body(0, `<input id="r" type="range" min="1" max="{{0}}" value="{{1}}">`)], ["6", "6"]);
  page.say(0, { d: [0, "7", 1, "7"] });
  assert.equal(page.$("#r").value, "7");
  page.say(0, { d: [0, "3", 1, "2"] });
  assert.equal(page.$("#r").value, "2");
});

const owned = `<section id="{{0}}"><details id="d"{{1}}><summary>{{2}}</summary></details><dialog id="g"{{3}}></dialog><textarea id="t"{{4}}></textarea></section>`;

test("what the user opened or dragged larger stays until the server renders something else", () => {
  const page = view(owned, ["s", "", "x", "", ` style="height: 2em"`]);
  const [details, dialog, area] = ["#d", "#g", "#t"].map(page.$);
  details.open = dialog.open = true;
  area.style.height = "9em";
  page.say(0, { d: [0, "z", 2, "y"] });
  page.say(0, { d: [0, "s"] });
  assert.deepEqual([details.open, dialog.open, area.style.height], [true, true, "9em"]);
  assert.equal(details.textContent, "y");
  page.say(0, { d: [1, " open", 3, " open", 4, ` style="height: 3em"`] });
  assert.deepEqual([details.open, dialog.open, area.style.height], [true, true, "3em"]);
  page.say(0, { d: [1, "", 4, ""] });
  assert.deepEqual([details.open, dialog.open, area.style.height], [false, true, ""]);
});

test("what the user closed stays closed until the server has closed and opens it", () => {
  const page = view(owned, ["s", " open", "x", "", ""]);
  page.$("#d").open = false;
  page.say(0, { d: [2, "y"] });
  page.say(0, { d: [0, "z"] });
  assert.equal(page.$("#d").open, false);
  page.say(0, { d: [1, ""] });
  page.say(0, { d: [1, " open"] });
  assert.equal(page.$("#d").open, true);
});

test("a dialog that the server does not render open any more is closed as one", () => {
  const page = view(owned, ["s", "", "x", " open", ""]);
  let closed = 0;
  page.$("#g").close = () => closed++;
  page.say(0, { d: [0, "z"] });
  assert.equal(closed, 0);
  page.say(0, { d: [3, ""] });
  assert.equal(closed, 1);
  assert.equal(page.$("#g").open, false);
});

test("what is rendered when the page joins counts against what came over HTTP", () => {
  const page = open(`<details id="a"></details><details id="b"></details>`);
  page.$("#a").open = true;
  page.join([body(0, `<details id="a"></details><details id="b"{{0}}></details>`)], [" open"]);
  assert.deepEqual(page.$$("details").map((el) => el.open), [true, true]);
});

test("what a script opened when it was mounted stays open", () => {
  const page = open("", {
    before: (window) => window.addEventListener("DOMContentLoaded", () => window.live.hook("Modal", { mounted() { this.el.open = true; } })),
  });
  page.join([body(0, `<p id="p">{{0}}</p>{{1}}`)], ["x", ""]);
  page.say(0, { d: [1, `<dialog id="m" live-hook="Modal"></dialog>`] });
  assert.equal(page.$("#m").open, true);
  page.say(0, { d: [1, `<dialog id="m" live-hook="Modal">!</dialog>`] });
  assert.equal(page.$("#m").outerHTML, `<dialog id="m" live-hook="Modal" open="">!</dialog>`);
});

test("another element is as it is rendered, and so is another view", () => {
  const page = view(`<details id="d{{0}}"></details>`, ["1"]);
  page.$("details").open = true;
  page.say(0, { d: [0, "2"] });
  assert.equal(page.$("#d2").open, false);
  page.$("#d2").open = true;
  page.say("j", 7, { d: { d: ["2"], s: [body(0, `<details id="d{{0}}"></details>`)] } });
  assert.equal(page.$("#d2").open, false);
});

test("attributes that only parsers can name change, too", () => {
  const page = view(`<b @click="{{0}}"></b>{{1}}`, ["x", ""]);
  page.say(0, { d: [0, "y"] });
  assert.equal(page.$("b").getAttribute("@click"), "y");
});
