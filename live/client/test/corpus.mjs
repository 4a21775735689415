// Follows the frames of a corpus and compares the document with what html/template printed: once frame by frame, and once
// with clicks and changes at random whose events are done late, so that much is locked when it changes.

import { readFileSync } from "node:fs";
import { open } from "./page.mjs";

/** The document below el without the white space between elements, which rows do not bring along. */
const plain = (el) => {
  const copy = el.cloneNode(true);
  copy.normalize();
  const walker = copy.ownerDocument.createTreeWalker(copy, 4);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const text of texts) {
    text.data = text.data.replace(/\s+/g, " ").trim();
    if (!text.data) text.remove();
  }
  copy.normalize();
  return copy.innerHTML;
};

const compare = (page, step, when) => {
  const want = page.document.createElement("div");
  want.innerHTML = step.html;
  const got = plain(page.root);
  if (got !== plain(want)) throw new Error(`${when}\nframe ${JSON.stringify(step.frame)}\nwant  ${plain(want)}\ngot   ${got}`);
  if (page.errors.length) throw new Error(`${when}\n${page.errors.join("\n")}`);
};

const first = (page, step) => {
  page.accept();
  page.heard;
  page.say("j", 1, { d: step.frame });
};

const frameByFrame = ({ name, html, steps }) => {
  const page = open(html);
  first(page, steps[0]);
  compare(page, steps[0], `${name}: join`);
  steps.slice(1).forEach((step, i) => {
    page.say(0, { d: step.frame });
    compare(page, step, `${name}: frame ${i + 1}`);
  });
};

const underLocks = ({ name, html, steps }, seed) => {
  let state = seed * 2654435761;
  const random = (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const page = open(html);
  first(page, steps[0]);
  const refs = [];
  const act = () => {
    for (let n = random(3); n > 0; n--) {
      const els = page.$$("[live-click],form[live-change] *");
      if (!els.length) continue;
      page.fire(els[random(els.length)], ["click", "input"][random(2)]);
    }
    refs.push(...page.heard.map(([ref]) => ref));
  };
  let last = steps[0];
  for (const step of steps.slice(1)) {
    act();
    const done = refs.filter(() => random(3) === 0);
    for (const ref of done) refs.splice(refs.indexOf(ref), 1);
    if (random(4)) page.say(done, { d: step.frame });
    else {
      page.say(0, { d: step.frame });
      page.say(done);
    }
    last = step;
    if (random(5) === 0) {
      page.say(refs.splice(0));
      compare(page, step, `${name}: under locks ${seed}`);
    }
  }
  page.say(refs.splice(0));
  compare(page, last, `${name}: under locks ${seed}, at the end`);
};

const corpus = JSON.parse(readFileSync(process.argv[2], "utf8"));
if (!corpus.length) throw new Error("the corpus is empty");
let frames = 0;
for (const [i, entry] of corpus.entries()) {
  frameByFrame(entry);
  underLocks(entry, i);
  frames += 2 * entry.steps.length;
}
console.log(`${corpus.length} pages, ${frames} frames`);
