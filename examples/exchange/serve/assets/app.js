// What of the page is the browser's: the chart, the keyboard, the theme, the reader's time zone, and what moves
// for the eye. Everything else comes from the server, rendered.

import { candles } from "./chart.js";

/* global live */

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Hooks

live.hook("Candles", candles);

// Ladder: what changed flashes, the bars fill the width, and one walks through the rows with the arrows.
live.hook("Ladder", {
  mounted() {
    this.sizes = new Map();
    this.el.addEventListener("keydown", (e) => walk(e, this.rows()));
    new ResizeObserver(() => this.fit()).observe(this.el);
    this.updated();
  },
  // Who stands on a row that goes stays where it was, on the one that is there now.
  beforeUpdate() {
    const row = document.activeElement;
    this.stands = this.el.contains(row) ? [row.name, this.rank(row.name).indexOf(row)] : null;
  },
  updated() {
    if (this.stands && !this.el.contains(document.activeElement)) {
      const [name, at] = this.stands;
      const rows = this.rank(name);
      rows[Math.min(at, rows.length - 1)]?.focus({ preventScroll: true });
    }
    const sizes = new Map();
    for (const row of this.el.querySelectorAll(".row")) {
      const size = row.children[1];
      const known = this.sizes.get(row.id);
      if (known !== undefined && known !== size.textContent) flash(size, 700);
      sizes.set(row.id, size.textContent);
    }
    this.sizes = sizes;
    this.fit();
    mark();
    // The tab key reaches one row: the one that has the focus, or the best ask.
    const rows = this.rows();
    const stop = rows.includes(document.activeElement) ? document.activeElement : rows.findLast((r) => r.name === "ask") ?? rows[0];
    for (const row of this.el.querySelectorAll(".row")) row.tabIndex = row === stop ? 0 : -1;
  },
  // rank returns the rows of a side, the best first.
  rank(name) {
    const rows = [...this.el.querySelectorAll(`[name=${name}]`)];
    return name === "ask" ? rows.reverse() : rows;
  },
  // rows returns those that are to be seen, from the top to the bottom.
  rows() {
    const { top, bottom } = this.el.getBoundingClientRect();
    return [...this.el.querySelectorAll(".side")].flatMap((side) => {
      const box = side.getBoundingClientRect();
      return [...side.children].filter((row) => {
        const r = row.getBoundingClientRect();
        return r.top > Math.max(top, box.top) - 2 && r.bottom < Math.min(bottom, box.bottom) + 2;
      });
    });
  },
  // fit stretches the scale of the bars, so that the deepest row that is to be seen is as wide as the ladder.
  fit() {
    const depth = (row) => (row ? parseFloat(row.querySelector("rect").getAttribute("width")) : 0);
    const rows = this.rows();
    const deepest = Math.max(depth(rows[0]), depth(rows.at(-1)));
    this.el.style.setProperty("--zoom", deepest > 0 ? (128 / deepest).toFixed(3) : "1");
  },
});

function walk(e, rows) {
  const at = rows.indexOf(document.activeElement);
  const to = rows[{ ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1 }[e.key]];
  if (at < 0 || !to) return;
  e.preventDefault();
  rows[at].tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

// Tape: new trades flash, but not all of them at once.
live.hook("Tape", {
  mounted() {
    this.updated();
  },
  updated() {
    const rows = [...this.el.querySelectorAll("li")];
    const fresh = rows.filter((row) => this.seen && !this.seen.has(row.id));
    if (fresh.length < 12) for (const row of fresh) flash(row, 900);
    this.seen = new Set(rows.map((row) => row.id));
  },
});

// Mine: where own orders rest, and what to show the next time.
live.hook("Mine", {
  mounted() {
    this.updated();
  },
  updated() {
    mark();
    document.cookie = `exchange_page=${this.el.dataset.kept}; path=/; max-age=31536000; samesite=strict`;
  },
});

function mark() {
  const mine = new Set($("mine").dataset.rests.split(" "));
  for (const row of document.querySelectorAll("#ladder .row")) row.classList.toggle("mine", mine.has(row.id));
}

// Ticket: after an order that was wrong, the field that is to blame has the focus; in another market the form is empty.
live.hook("Ticket", {
  mounted() {
    this.symbol = this.el.dataset.symbol;
    this.el.addEventListener("submit", () => (this.sent = true));
  },
  updated() {
    if (this.symbol !== this.el.dataset.symbol) {
      this.symbol = this.el.dataset.symbol;
      this.el.reset();
    }
    const wrong = this.el.querySelector("[aria-invalid=true]");
    if (this.sent) wrong?.focus();
    this.sent = false;
  },
});

function flash(element, duration) {
  if (!calm.matches) element.animate([{ background: "var(--raised)", color: "var(--accent)" }, {}], { duration, easing: "ease-out" });
}

// The form

function fill(values) {
  const form = $("ticket");
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  form.elements.quantity.focus();
  form.elements.quantity.dispatchEvent(new Event("input", { bubbles: true }));
}

// A row of the book, or a usual quantity, is a button that asks for the page with it in the form: with scripts that takes no asking.
document.addEventListener("click", (e) => {
  const button = e.target.closest?.("button[form=pick]");
  if (!button) return;
  e.preventDefault();
  if (button.name === "quantity") return fill({ quantity: button.value });
  const type = $("ticket").elements.type.value;
  fill({ type: type.includes("limit") ? type : "limit", side: button.name === "ask" ? "buy" : "sell", price: button.value });
});

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest?.("input, select, textarea")) return;
  const side = { b: "buy", s: "sell" }[e.key.toLowerCase()];
  if (!side) return;
  e.preventDefault();
  fill({ side });
});

// Times

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const told = new WeakMap(); // what a time says, in the reader's time zone

function localise() {
  for (const t of document.querySelectorAll("time")) {
    const known = told.get(t);
    if (known?.at === t.dateTime && known.text === t.textContent) continue;
    const text = clock.format(new Date(t.dateTime));
    told.set(t, { at: t.dateTime, text });
    if (t.textContent !== text) t.textContent = text;
  }
}

let moved = Date.now(); // when the page last changed
new MutationObserver((records) => {
  if (records.some((r) => r.target.nodeType !== 1 || !r.target.closest("#tools"))) moved = Date.now();
  localise();
}).observe($("live") ?? document.body, { subtree: true, childList: true, characterData: true });
localise();

// The connection

let countdown;

function say(state) {
  $("link").dataset.state = state;
  $("link-text").textContent = { live: "Live", down: "Offline" }[state];
}

addEventListener("live:connected", () => {
  clearInterval(countdown);
  say("live");
  const banner = $("banner");
  if (banner.hidden) return;
  banner.classList.add("good");
  $("banner-retry").hidden = true;
  $("banner-text").textContent = "Connected again. Everything is up to date.";
  countdown = setTimeout(() => (banner.hidden = true), 2500);
});

let next = 0; // when the next attempt begins
addEventListener("live:retry", (e) => (next = Date.now() + e.detail));

addEventListener("live:disconnected", () => {
  clearInterval(countdown);
  const since = moved;
  say("down");
  $("banner").classList.remove("good");
  $("banner").hidden = $("banner-retry").hidden = false;
  const tell = () => {
    const old = Math.round((Date.now() - since) / 1000);
    const wait = Math.ceil((next - Date.now()) / 1000);
    $("banner-text").textContent = `The connection was lost. What you see is ${old} s old. ${wait > 0 ? `Next try in ${wait} s.` : "Connecting…"}`;
  };
  tell();
  countdown = setInterval(tell, 500);
});

$("banner-retry").addEventListener("click", () => dispatchEvent(new Event("online")));

// The theme

const system = matchMedia("(prefers-color-scheme: light)");
const paint = () => dispatchEvent(new Event("exchange:theme"));
system.addEventListener("change", paint);
document.addEventListener("click", (e) => {
  if (!e.target.closest?.("#theme")) return;
  const root = document.documentElement;
  root.dataset.theme = (root.dataset.theme ?? (system.matches ? "light" : "dark")) === "light" ? "dark" : "light";
  try {
    localStorage.setItem("exchange.theme", root.dataset.theme);
  } catch {
    // a private window
  }
  paint();
});
