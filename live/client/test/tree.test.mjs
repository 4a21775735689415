import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

/** Counts the changes of the document while run runs. */
const changes = (page, run) => {
  const seen = new page.window.MutationObserver(() => {});
  seen.observe(page.root, { subtree: true, childList: true, characterData: true, attributes: true });
  run();
  const records = seen.takeRecords();
  seen.disconnect();
  return records;
};

// A table whose rows are elements with an id, in a scope that is the tbody.
const tableText = `<h1>{{0}}</h1><table id="t"><tbody id="rows">{{1}}</tbody></table>`;
const tableStatics = () => [
  [0, [0, ["rows", 1, 19, 2, 8]], `<h1>`, `</h1><table id="t"><tbody id="rows">`, `</tbody></table>`],
  body(1, `\n<tr id="r-{{0}}"><td>{{1}}</td></tr>\n`, 1),
];
const table = (n) => {
  const page = open();
  page.join(tableStatics(), ["title", n ? [1, ...Array.from({ length: n }, (_, i) => ["" + i, "v" + i])] : 0]);
  return page;
};
const ids = (page) => page.$$("tbody tr").map((tr) => tr.id.slice(2)).join(" ");

test("the scope of the test begins where its tag does", () => {
  assert.equal(tableText.split(/\{\{\d\}\}/)[1].slice(5).indexOf(`<tbody`), 14);
  assert.equal(tableStatics()[0][3].slice(19, 25), "<tbody");
});

test("a change of one row of a thousand touches that row alone", () => {
  const page = table(1000);
  const rows = page.$$("tr");
  const records = changes(page, () => page.say(0, { d: [1, [[4, 500, [1, "new"]]]] }));
  assert.deepEqual([...new Set(records.map((r) => r.target.parentNode.parentNode))], [rows[500]]);
  assert.equal(rows[500].textContent, "new");
  assert.equal(page.$$("tr")[500], rows[500]);
});

test("rows are inserted, removed and moved as elements", async (t) => {
  const cases = [
    ["insert in front", [[1, 0, ["9", "x"]]], "9 0 1 2 3 4", 1],
    ["insert two in the middle", [[1, 2, ["8", "x"], ["9", "x"]]], "0 1 8 9 2 3 4", 2],
    ["append", [[1, 5, ["9", "x"]]], "0 1 2 3 4 9", 1],
    ["append two", [[1, 5, ["8", "x"], ["9", "x"]]], "0 1 2 3 4 8 9", 2],
    ["delete the last", [[0, 4]], "0 1 2 3", 1],
    ["delete some", [[0, 3, 2], [0, 0]], "1 2", 3],
    ["roll", [[0, 4], [1, 0, ["9", "x"]]], "9 0 1 2 3", 2],
    ["move to the front", [[2, 4, 0]], "4 0 1 2 3", 1],
    ["move to the end", [[2, 0, 4]], "1 2 3 4 0", 1],
    ["move two to the end", [[2, 0, 3, 2]], "2 3 4 0 1", 2],
    ["move two to the front", [[2, 3, 0, 2]], "3 4 0 1 2", 2],
    ["move, then insert at both ends", [[2, 1, 3], [1, 0, ["8", "x"]], [1, 6, ["9", "x"]]], "8 0 2 3 1 4 9", 3],
    ["reverse", [[3, 4, 3, 2, 1, 0]], "4 3 2 1 0", 4],
    ["rotate", [[3, 1, 2, 3, 4, 0]], "1 2 3 4 0", 1],
    ["permute and update", [[3, 1, 0, 2, 3, 4], [4, 0, [1, "upd"]]], "1 0 2 3 4", 1],
  ];
  for (const [name, ops, want, moved] of cases)
    await t.test(name, () => {
      const page = table(5);
      const before = new Map(page.$$("tr").map((tr) => [tr.id, tr]));
      const records = changes(page, () => page.say(0, { d: [1, ops] }));
      assert.equal(ids(page), want);
      for (const tr of page.$$("tr")) if (before.has(tr.id)) assert.equal(tr, before.get(tr.id), "the element stays");
      const touched = new Set(
        records.filter((r) => r.target.id === "rows").flatMap((r) => [...r.addedNodes, ...r.removedNodes]).filter((n) => n.id).map((n) => n.id),
      );
      assert.equal(touched.size, moved, [...touched].join());
      if (name === "permute and update") assert.equal(page.$("#r-1").textContent, "upd");
      assert.deepEqual(page.errors, []);
    });
});

test("an update may change the id of a row", () => {
  const page = open();
  const statics = [
    [0, [0, ["l", 0, 0, 1, 5]], `<ul id="l">`, `</ul>`],
    body(1, `<li id="a-{{0}}-{{1}}">{{2}}</li>`, 1),
  ];
  page.join(statics, [[1, ["1", "x", "one"], ["2", "x", "two"]]]);
  page.say(0, { d: [0, [[4, 0, [1, "y"]]]] });
  page.say(0, { d: [0, [[4, 0, [2, "ONE"]]]] });
  page.say(0, { d: [0, [[2, 0, 1]]] });
  assert.equal(page.html, `<ul id="l"><li id="a-2-x">two</li><li id="a-1-y">ONE</li></ul>`);
  // The list is drawn as a whole together with the update of a row.
  page.say(0, { d: [0, [[4, 0, [1, "z"]]]] });
  page.say(0, { d: [0, [[0, 0]]] });
  assert.equal(page.html, `<ul id="l"><li id="a-1-y">ONE</li></ul>`);
});

test("rows may be forms with a field that is called id", () => {
  const page = open();
  page.join([[0, [0, ["l", 0, 0, 1, 6]], `<div id="l">`, `</div>`], body(1, `<form id="f{{0}}"><input name="id"><b>{{1}}</b></form>`, 1)], [[1, ["1", "a"], ["2", "b"]]]);
  const form = page.$("#l").children[1];
  page.say(0, { d: [0, [[2, 1, 0], [4, 0, [1, "B"]]]] });
  page.say(0, { d: [0, [[2, 0, 1]]] });
  assert.equal(page.$("#l").children[1], form);
  assert.equal(page.$$("b").map((b) => b.textContent).join(), "a,B");
  assert.deepEqual(page.errors, []);
});

test("a list that becomes empty, and full again", () => {
  const page = table(2);
  page.say(0, { d: [1, 0] });
  assert.equal(ids(page), "");
  page.say(0, { d: [1, [1, ["7", "x"]]] });
  assert.equal(ids(page), "7");
  page.say(0, { d: [1, [[0, 0]]] });
  page.say(0, { d: [1, [[1, 0, ["8", "x"]]]] });
  assert.equal(ids(page), "8");
});

test("rows without ids are drawn with their scope", () => {
  const page = open();
  page.join([[0, [0, ["l", 0, 3, 1, 5]], `<p><ul id="l">`, `</ul><b>{{`.slice(0, 8)], body(1, `<li>{{0}}</li>`)], [[1, ["a"], ["b"]]]);
  page.say(0, { d: [0, [[0, 0], [1, 1, ["c"], ["d"]], [4, 0, [0, "B"]]]] });
  assert.deepEqual(page.$$("li").map((li) => li.textContent), ["B", "c", "d"]);
});

test("a slot changes only the innermost scope that holds it, through bodies", () => {
  const page = open();
  const text = `<section id="s"><p id="p">{{0}}</p><div id="d">{{1}}</div></section><i>{{2}}</i>`;
  const parts = text.split(/\{\{\d\}\}/);
  page.join(
    [[0, [0, ["s", 0, 0, 2, parts[2].indexOf("</section>") + 10], ["p", 0, 16, 1, 4], ["d", 1, 4, 2, 6]], ...parts], body(1, `<em>{{0}}</em>`)],
    ["one", [1, ["x"]], "out"],
  );
  const targets = (d) => changes(page, () => page.say(0, { d })).map((r) => r.target.closest?.("[id]")?.id || r.target.parentNode.closest("[id]").id);
  assert.deepEqual(new Set(targets([0, "two"])), new Set(["p"]));
  assert.deepEqual(new Set(targets([1, [[4, 0, [0, "y"]]]])), new Set(["d"]));
  assert.deepEqual(new Set(targets([1, 0])), new Set(["d"]));
  assert.deepEqual(new Set(targets([2, "OUT"])), new Set(["live"]));
  assert.equal(page.html, `<section id="s"><p id="p">two</p><div id="d"></div></section><i>OUT</i>`);
});

test("a slot in the tag of a scope or a row changes its attributes", () => {
  const page = open();
  page.join(
    [[0, [0, ["s", 0, 0, 2, 5]], `<ul id="s" class="`, `">`, `</ul>`], body(1, `<li id="r{{0}}" data-x="{{1}}">x</li>`, 1)],
    ["a", [1, ["1", "one"], ["2", "two"]]],
  );
  const li = page.$("#r2");
  page.say(0, { d: [0, "b", 1, [[4, 1, [1, "TWO"]]]] });
  assert.equal(page.html, `<ul id="s" class="b"><li id="r1" data-x="one">x</li><li id="r2" data-x="TWO">x</li></ul>`);
  assert.equal(page.$("#r2"), li);
});

test("a patch may bring statics that were not needed before", () => {
  const page = open();
  page.join([body(0, `<div>{{0}}</div>`)], [0]);
  page.say(0, { d: { p: [0, [5, ["x"]]], s: [body(5, `<b>{{0}}</b>`)] } });
  assert.equal(page.html, `<div><b>x</b></div>`);
});

test("rows inside svg are svg", () => {
  const page = open();
  page.join([[0, [0, ["g", 0, 5, 1, 4]], `<svg><g id="g">`, `</g></svg>`], body(1, `<circle id="c{{0}}" r="{{1}}"></circle>`, 1)], [[1, ["1", "4"]]]);
  page.say(0, { d: [0, [[1, 1, ["2", "5"]], [4, 0, [1, "6"]]]] });
  assert.deepEqual(page.$$("circle").map((c) => [c.namespaceURI, c.getAttribute("r")]), [
    ["http://www.w3.org/2000/svg", "6"],
    ["http://www.w3.org/2000/svg", "5"],
  ]);
});

test("a frame that does not fit ends the connection, and the next full frame heals", () => {
  const page = open();
  page.join([body(0, `<p>{{0}}</p>`)], ["a"]);
  page.say(0, { d: [0, [77, ["x"]]] });
  assert.equal(page.live.connected, false);
  assert.equal(page.errors.length, 1);
  page.clock.tick(8000);
  assert.equal(page.sockets.length, 2);
  page.join([body(0, `<p>{{0}}</p>`)], ["b"]);
  assert.equal(page.html, "<p>b</p>");
});

// Streams.

const feed = (rows = []) => {
  const page = open();
  page.join(
    [[0, [0, ["f", 1, 4, 2, 5]], `<b>`, `</b><ul id="f" live-update="stream">`, `</ul>`], body(1, `<li id="m{{0}}">{{1}}</li>`, 1)],
    ["x", { o: [[2], ...(rows.length ? [[1, 1, -1, 0, ...rows]] : [])] }],
  );
  return page;
};
const feedIds = (page) => page.$$("#f > li").map((li) => li.id.slice(1)).join(" ");

test("the ops of a stream change the elements of its list", async (t) => {
  const cases = [
    ["append", [[1, 1, -1, 0, ["9", "x"]]], "1 2 3 9"],
    ["append two", [[1, 1, -1, 0, ["8", "x"], ["9", "x"]]], "1 2 3 8 9"],
    ["prepend", [[1, 1, 0, 0, ["8", "x"], ["9", "x"]]], "8 9 1 2 3"],
    ["insert", [[1, 1, 1, 0, ["9", "x"]]], "1 9 2 3"],
    ["insert beyond the end", [[1, 1, 17, 0, ["9", "x"]]], "1 2 3 9"],
    ["what is there stays where it stands", [[1, 1, 0, 0, ["8", "x"], ["2", "new"], ["9", "x"]]], "8 9 1 2 3"],
    ["a limit keeps the first", [[1, 1, 0, 3, ["9", "x"]]], "9 1 2"],
    ["a limit keeps the last", [[1, 1, -1, -3, ["9", "x"]]], "2 3 9"],
    ["a limit alone", [[1, 1, -1, 2]], "1 2"],
    ["delete, also what is not there", [[0, "m2", "m7"]], "1 3"],
    ["remove all", [[2]], ""],
    ["reset", [[2], [1, 1, -1, 0, ["3", "new"], ["9", "x"]]], "3 9"],
    ["update, also what is not there", [[3, 1, ["2", "new"], ["7", "x"]]], "1 2 3"],
    ["several", [[0, "m1"], [1, 1, 0, 0, ["9", "x"]], [3, 1, ["3", "new"]], [1, 1, -1, -3, ["8", "x"]]], "2 3 8"],
  ];
  for (const [name, ops, want] of cases)
    await t.test(name, () => {
      const page = feed([["1", "a"], ["2", "b"], ["3", "c"]]);
      const before = new Map(page.$$("li").map((li) => [li.id, li]));
      page.say(0, { d: [1, { o: ops }] });
      assert.equal(feedIds(page), want);
      const [op] = ops;
      if (JSON.stringify(op).includes("new")) assert.equal(page.$("#m2").textContent, "new");
      for (const li of page.$$("li")) if (before.has(li.id)) assert.equal(li, before.get(li.id), "the element stays");
      assert.deepEqual(page.errors, []);
    });
});

test("other changes leave the elements of a stream alone", () => {
  const page = feed([["1", "a"], ["2", "b"]]);
  const [li] = page.$$("li");
  page.say(0, { d: [0, "y"] });
  assert.equal(page.$("b").textContent, "y");
  assert.equal(feedIds(page), "1 2");
  assert.equal(page.$("li"), li);
});

test("a stream that comes with a group is filled after the group is there", () => {
  const page = open();
  page.join([body(0, `<div>{{0}}</div>`)], [0]);
  page.say(0, {
    d: {
      p: [0, [1, [{ o: [[2], [1, 2, -1, 0, ["1", "a"]]] }]]],
      s: [[1, [1, ["f", 0, 0, 1, 5]], `<ul id="f" live-update="stream">`, `</ul>`], body(2, `<li id="m{{0}}">{{1}}</li>`, 1)],
    },
  });
  assert.equal(page.html, `<div><ul id="f" live-update="stream"><li id="m1">a</li></ul></div>`);
});

test("the page that came over HTTP keeps the elements of its streams when it joins", () => {
  const page = open(`<b>x</b><ul id="f" live-update="stream"><li id="m1">a</li><li id="m2">b</li></ul>`);
  const before = page.$$("li");
  page.join(
    [[0, [0, ["f", 1, 4, 2, 5]], `<b>`, `</b><ul id="f" live-update="stream">`, `</ul>`], body(1, `<li id="m{{0}}">{{1}}</li>`, 1)],
    ["x", { o: [[2], [1, 1, -1, 0, ["1", "a"], ["2", "B"]]] }],
  );
  assert.deepEqual(page.$$("li"), before);
  assert.equal(page.$("#m2").textContent, "B");
});
