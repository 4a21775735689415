// The page: it shows what the channels say and sends what the form says.

import { Socket } from "./socket.js";
import { Chart } from "./chart.js";
import { Ladder, ticks, decimal } from "./ladder.js";

const $ = (id) => document.getElementById(id);
const tapeRows = 60;
const store = {
  get: (k) => { try { return localStorage.getItem("exchange." + k); } catch { return null; } },
  set: (k, v) => { try { localStorage.setItem("exchange." + k, v); } catch { /* a private window */ } },
};

const page = {
  symbols: [],
  symbol: null, // the market shown
  intervals: [],
  interval: null, // the candles shown
  last: new Map(), // last price by symbol, and whether it rose
  orders: new Map(), // own open orders of the symbol
  position: 0, // in the log, of the latest event told of
  leave: [], // ends the subscriptions to the symbol
};

// Theme

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  chart?.paint();
}
const system = matchMedia("(prefers-color-scheme: light)");
system.addEventListener("change", () => theme());
$("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (system.matches ? "light" : "dark");
  const next = now === "light" ? "dark" : "light";
  store.set("theme", next);
  theme(next);
});
const kept = new URLSearchParams(location.search).get("theme") ?? store.get("theme");
if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;

const chart = new Chart($("chart"), legend);
const ladder = new Ladder({ asks: $("asks"), bids: $("bids"), onpick: pick });

// Connection

let wasLost = false;
let countdown;
const socket = new Socket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`, {
  onhello(hello) {
    const first = !page.symbol;
    page.symbols = hello.symbols;
    page.intervals = hello.intervals;
    if (first) start();
  },
  onstate(state, wait) {
    clearInterval(countdown);
    $("link").dataset.state = state;
    $("link-text").textContent = { connecting: "Connecting", live: "Live", down: "Offline" }[state];
    ready();
    const banner = $("banner");
    banner.classList.toggle("good", state === "live");
    $("banner-retry").hidden = state !== "down";
    if (state === "live") {
      banner.hidden = !wasLost;
      $("banner-text").textContent = "Connected again. Everything is up to date.";
      if (wasLost) setTimeout(() => { if ($("link").dataset.state === "live") banner.hidden = true; }, 2500);
      wasLost = false;
      return;
    }
    if (state === "down") {
      wasLost = true;
      banner.hidden = false;
      const until = Date.now() + wait;
      const tell = () => {
        $("banner-text").textContent = `The connection was lost. What you see may be old. Next try in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s.`;
      };
      tell();
      countdown = setInterval(tell, 500);
    } else if (wasLost) {
      $("banner-text").textContent = "Connecting again…";
    }
  },
  onframe(frame) {
    page.position = Math.max(page.position, frame.position);
    $("position").textContent = `event ${page.position.toLocaleString("en")}`;
  },
});
$("banner-retry").addEventListener("click", () => socket.retry());

// Markets

function start() {
  for (const s of page.symbols) {
    const b = document.createElement("button");
    b.type = "button";
    b.dataset.symbol = s.symbol;
    b.innerHTML = "<b></b><span class=\"num\">–</span>";
    b.firstChild.textContent = s.symbol;
    b.addEventListener("click", () => show(s));
    $("markets").append(b);
    socket.subscribe({ channel: "candles", symbol: s.symbol, interval: "15m" }, (f) => day(s, f));
  }
  for (const name of page.intervals) {
    const b = document.createElement("button");
    b.type = "button";
    b.role = "radio";
    b.dataset.interval = name;
    b.textContent = name;
    b.addEventListener("click", () => {
      store.set("interval", name);
      candles(name);
    });
    $("intervals").append(b);
  }
  $("intervals").addEventListener("keydown", (e) => {
    const to = { ArrowLeft: "previousSibling", ArrowRight: "nextSibling" }[e.key];
    const next = to && document.activeElement[to];
    if (!next) return;
    e.preventDefault();
    next.focus();
    next.click();
  });
  const wanted = new URLSearchParams(location.search).get("symbol") ?? store.get("symbol");
  show(page.symbols.find((s) => s.symbol === wanted) ?? page.symbols[0]);
}

function show(s) {
  if (page.symbol === s) return;
  store.set("symbol", s.symbol);
  for (const leave of page.leave.splice(0)) leave();
  page.symbol = s;
  for (const b of $("markets").children) b.setAttribute("aria-pressed", String(b.dataset.symbol === s.symbol));
  for (const e of document.querySelectorAll(".quote")) e.textContent = s.quote;
  for (const e of document.querySelectorAll(".base")) e.textContent = s.base;
  $("unit-price").textContent = `(${s.quote})`;
  $("unit-size").textContent = `(${s.base})`;
  page.orders.clear();
  $("tape").replaceChildren();
  drawOrders();
  groups(s);
  ladder.market(s);
  clearForm(s);
  headline();
  page.leave.push(
    socket.subscribe({ channel: "book", symbol: s.symbol }, book),
    socket.subscribe({ channel: "trades", symbol: s.symbol }, trades),
    socket.subscribe({ channel: "orders", symbol: s.symbol }, orders),
    () => page.leaveCandles?.(),
  );
  candles(store.get("interval") ?? "auto");
}

// day keeps the figures of the last 24 hours.
const days = new Map();
function day(s, frame) {
  const bars = frame.type === "snapshot" ? new Map() : days.get(s.symbol);
  for (const c of frame.candles) bars.set(c[0], c);
  days.set(s.symbol, bars);
  const newest = Math.max(...bars.keys());
  for (const start of bars.keys()) if (start <= newest - 864e5) bars.delete(start);
  const b = [...$("markets").children].find((b) => b.dataset.symbol === s.symbol);
  const f = figures(bars, s);
  if (f) {
    b.lastChild.textContent = f.last;
    b.lastChild.className = "num " + f.direction;
  }
  if (s === page.symbol) headline();
}

function figures(bars, s) {
  if (!bars?.size) return null;
  const list = [...bars.values()].sort((a, b) => a[0] - b[0]);
  const open = ticks(list[0][1], s.price_decimals);
  const last = ticks(list.at(-1)[4], s.price_decimals);
  return {
    last: decimal(last, s.price_decimals),
    change: `${last >= open ? "+" : "−"}${decimal(Math.abs(last - open), s.price_decimals)} (${last >= open ? "+" : "−"}${(100 * Math.abs(last / open - 1)).toFixed(2)} %)`,
    direction: last >= open ? "up" : "down",
    high: decimal(Math.max(...list.map((c) => ticks(c[2], s.price_decimals))), s.price_decimals),
    low: decimal(Math.min(...list.map((c) => ticks(c[3], s.price_decimals))), s.price_decimals),
    volume: `${decimal(list.reduce((sum, c) => sum + ticks(c[5], s.quantity_decimals), 0), s.quantity_decimals)} ${s.base}`,
  };
}

function headline() {
  const s = page.symbol;
  const f = s && figures(days.get(s.symbol), s);
  for (const k of ["last", "change", "high", "low", "volume"]) $(`stat-${k}`).textContent = f?.[k] ?? "–";
  $("stat-change").className = "num " + (f?.direction ?? "");
  const tick = page.last.get(s?.symbol);
  $("stat-last").className = "num " + (tick?.direction ?? "");
  $("mid-last").className = "num " + (tick?.direction ?? "");
  if (f) $("mid-last").textContent = f.last;
  else $("mid-last").textContent = "–";
  document.title = f ? `${f.last} ${s.symbol} · levada exchange` : "levada exchange";
}

// Chart

// young lists what is shown of a market until it has enough longer candles.
const young = [["1m", 40], ["5s", 10], ["1s", 0]];

function candles(name, tried = 0) {
  page.leaveCandles?.();
  const auto = !page.intervals.includes(name);
  page.interval = auto ? young[tried][0] : name;
  for (const b of $("intervals").children) {
    const on = b.dataset.interval === page.interval;
    b.setAttribute("aria-checked", String(on));
    b.tabIndex = on ? 0 : -1;
  }
  let shown = false;
  page.leaveCandles = socket.subscribe({ channel: "candles", symbol: page.symbol.symbol, interval: page.interval }, (f) => {
    if (f.type === "snapshot") {
      if (auto && !shown && f.candles.length < young[tried][1]) {
        candles(name, tried + 1);
        return;
      }
      chart.show(f.candles, page.symbol.price_decimals, shown);
      shown = true;
    } else {
      chart.update(f.candles);
    }
    $("chart-empty").hidden = chart.bars.size > 0;
    legend(null);
  });
}

function legend(bar) {
  const b = bar ?? chart?.latest();
  const s = page.symbol;
  if (!b || !s) {
    $("legend").textContent = "";
    return;
  }
  const price = (v) => decimal(ticks(v, s.price_decimals), s.price_decimals);
  const direction = b.close < b.open ? "down" : "up";
  $("legend").replaceChildren(...[["O", price(b.open)], ["H", price(b.high)], ["L", price(b.low)], ["C", price(b.close)], ["V", decimal(ticks(b.volume, s.quantity_decimals), s.quantity_decimals)]]
    .flatMap(([k, v]) => {
      const e = document.createElement("b");
      e.textContent = v;
      e.className = k === "V" ? "" : direction;
      return [k + " ", e];
    }));
}

// Book and tape

function groups(s) {
  const max = { 2: [1, 10, 100, 1000] }[s.price_decimals] ?? [1, 10, 100];
  $("group").replaceChildren(...max.map((g) => new Option(decimal(g, s.price_decimals), String(g))));
  ladder.group = 1;
}
$("group").addEventListener("change", (e) => {
  ladder.group = Number(e.target.value);
  ladder.render();
});

function book(frame) {
  ladder.apply(frame);
  const s = page.symbol;
  const [bid, ask] = [ladder.best("bids"), ladder.best("asks")];
  $("mid-spread").textContent = bid === null || ask === null ? "–" : decimal(ask - bid, s.price_decimals);
  const sum = (name) => [...ladder.sides[name].levels.values()].reduce((a, b) => a + b, 0);
  const [bids, asks] = [sum("bids"), sum("asks")];
  $("balance").style.setProperty("--bids", bids + asks ? (bids / (bids + asks)).toFixed(3) : ".5");
  total();
}

function trades(frame) {
  const s = page.symbol;
  if (frame.type === "snapshot") $("tape").replaceChildren();
  const list = frame.trades.slice(-tapeRows);
  for (const t of list) {
    const li = document.createElement("li");
    li.className = `row ${t.side}` + (frame.type === "update" ? " fresh" : "");
    for (const text of [decimal(ticks(t.price, s.price_decimals), s.price_decimals), t.quantity, clock(t.time)]) {
      const span = document.createElement("span");
      span.textContent = text;
      li.append(span);
    }
    $("tape").prepend(li);
  }
  while ($("tape").children.length > tapeRows) $("tape").lastChild.remove();
  if (list.length) {
    page.last.set(s.symbol, { direction: list.at(-1).side === "buy" ? "up" : "down" });
    headline();
  }
}

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const clock = (ms) => clockFormat.format(new Date(ms));

// Own orders

function orders(frame) {
  if (frame.type === "snapshot") page.orders.clear();
  for (const o of frame.orders) {
    const known = page.orders.get(o.order);
    if (o.status === "filled" || o.status === "cancelled") {
      page.orders.delete(o.order);
    } else if (known) {
      Object.assign(known, o);
    } else {
      page.orders.set(o.order, { filled: decimal(0, page.symbol.quantity_decimals), ...o });
    }
  }
  const s = page.symbol;
  for (const f of frame.fills ?? []) {
    const o = page.orders.get(f.order);
    if (o && frame.type === "update") o.filled = decimal(ticks(o.filled, s.quantity_decimals) + ticks(f.quantity, s.quantity_decimals), s.quantity_decimals).replaceAll(",", "");
  }
  if (frame.type === "update") toast(frame.fills ?? []);
  drawOrders();
}

function drawOrders() {
  const list = [...page.orders.values()].sort((a, b) => (b.time ?? 0) - (a.time ?? 0));
  $("orders").replaceChildren(...list.map(orderRow));
  $("orders-count").textContent = list.length;
  $("orders-none").hidden = list.length > 0;
  ladder.mine = new Set(list.filter((o) => o.status === "open" && o.price)
    .map((o) => `${o.side === "buy" ? "bids" : "asks"} ${ticks(o.price, page.symbol.price_decimals)}`));
  ladder.schedule();
}

function orderRow(o) {
  const s = page.symbol;
  const tr = document.createElement("tr");
  const cell = (text, cls = "") => {
    const td = document.createElement("td");
    td.textContent = text;
    td.className = cls;
    tr.append(td);
    return td;
  };
  const price = (p) => (p ? decimal(ticks(p, s.price_decimals), s.price_decimals) : "–");
  cell(o.time ? clock(o.time) : "");
  cell(o.side === "buy" ? "Buy" : "Sell", o.side === "buy" ? "up" : "down");
  cell(o.type.replaceAll("_", " ") + (o.post_only ? ", post only" : "") + (o.status === "waiting" ? ", waiting" : ""));
  cell(price(o.price), "r");
  cell(price(o.stop_price), "r");
  cell(`${o.open} ${s.base}`, "r");
  cell(o.filled, "r");
  const b = document.createElement("button");
  b.type = "button";
  b.className = "cancel";
  b.textContent = "Cancel";
  b.setAttribute("aria-label", `Cancel the ${o.side} order of ${o.open} ${s.base}` + (o.price ? ` at ${price(o.price)}` : ""));
  b.addEventListener("click", async () => {
    b.disabled = true;
    try {
      await socket.request("cancel", { symbol: s.symbol, order: o.order });
      answer("The order was cancelled.", "good");
      $("orders-title").focus?.();
    } catch (e) {
      b.disabled = false;
      answer(e.message, "bad");
    }
  });
  cell("", "r").append(b);
  return tr;
}

function toast(fills) {
  const s = page.symbol;
  for (const f of fills.slice(-4)) {
    const e = document.createElement("div");
    e.className = `toast ${f.side}`;
    const title = document.createElement("b");
    title.textContent = f.side === "buy" ? "Bought" : "Sold";
    e.append(title, `${f.quantity} ${s.base} at ${decimal(ticks(f.price, s.price_decimals), s.price_decimals)} ${s.quote}`);
    $("toasts").append(e);
    while ($("toasts").children.length > 4) $("toasts").firstChild.remove();
    setTimeout(() => e.remove(), 5000);
  }
}

// The form

const form = $("ticket");
const field = form.elements;

function clearForm(s) {
  field.price.value = field.quantity.value = field.stop_price.value = "";
  answer("");
  const one = s.quantity_decimals === 4 ? 0.01 : s.quantity_decimals === 3 ? 0.1 : 1;
  $("presets").replaceChildren(...[1, 5, 10, 50].map((n) => {
    const b = document.createElement("button");
    b.type = "button";
    b.textContent = String(+(n * one).toFixed(4));
    b.addEventListener("click", () => { field.quantity.value = b.textContent; shape(); });
    return b;
  }));
  shape();
}

// pick takes a price of the book into the form, to trade with the side it is on.
function pick(name, price) {
  const s = page.symbol;
  if (!["limit", "stop_limit", "take_profit_limit"].includes(field.type.value)) field.type.value = "limit";
  field.side.value = name === "asks" ? "buy" : "sell";
  field.price.value = decimal(price, s.price_decimals).replaceAll(",", "");
  shape();
  field.quantity.focus();
}

// shape shows the fields that the type of order has.
function shape() {
  const type = field.type.value;
  const limited = type.includes("limit");
  const stops = type !== "limit" && type !== "market";
  $("field-price").hidden = !limited;
  $("field-stop").hidden = !stops;
  $("field-post").hidden = !limited || field.tif.value !== "gtc";
  const sell = field.side.value === "sell";
  $("submit").classList.toggle("sell", sell);
  $("submit").textContent = `${sell ? "Sell" : "Buy"} ${page.symbol?.base ?? ""}`;
  ready();
  total();
}

function ready() {
  $("submit").disabled = $("link").dataset.state !== "live" || !page.symbol;
}

// total is what the order is worth, walking the book where it has no price.
function total() {
  const s = page.symbol;
  if (!s) return;
  const type = field.type.value;
  const quantity = ticks(plain(field.quantity.value), s.quantity_decimals);
  const scale = 10 ** (s.price_decimals + s.quantity_decimals);
  let value = NaN;
  let label = "Total";
  if (quantity > 0) {
    if (type.includes("limit")) {
      value = (quantity * ticks(plain(field.price.value), s.price_decimals)) / scale;
    } else if (type === "market") {
      label = "About";
      let [left, sum] = [quantity, 0];
      for (const r of ladder.rows(field.side.value === "buy" ? "asks" : "bids", Infinity)) {
        const q = Math.min(left, r.qty);
        sum += q * r.price;
        left -= q;
        if (!left) break;
      }
      value = left ? NaN : sum / scale;
    } else {
      label = "About";
      value = (quantity * ticks(plain(field.stop_price.value), s.price_decimals)) / scale;
    }
  }
  $("total-label").textContent = label;
  $("total").textContent = Number.isFinite(value) && value > 0
    ? `${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })} ${s.quote}` : "–";
}

// plain takes out the separators that people type or paste.
const plain = (text) => text.trim().replace(/[,\s](?=\d{3})/g, "").replace(",", ".");

form.addEventListener("input", () => {
  for (const e of form.querySelectorAll(".wrong")) e.classList.remove("wrong");
  shape();
});

form.addEventListener("submit", async (e) => {
  e.preventDefault();
  const s = page.symbol;
  const type = field.type.value;
  const order = { symbol: s.symbol, side: field.side.value, type, tif: field.tif.value, quantity: plain(field.quantity.value) };
  const needed = ["quantity"];
  if (type.includes("limit")) needed.push("price");
  if (type !== "limit" && type !== "market") needed.push("stop_price");
  for (const name of needed) {
    order[name] = plain(field[name].value);
    if (/^\d+(\.\d+)?$/.test(order[name])) continue;
    const label = { quantity: "quantity", price: "price", stop_price: "stop price" }[name];
    wrong(name, `The ${label} is a number such as 1.5.`);
    return;
  }
  if (field.post_only.checked && !$("field-post").hidden) order.post_only = true;
  // Should the answer be lost, the same key would not place the order twice.
  order.key = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
  $("submit").disabled = true;
  try {
    const p = await socket.request("place", order);
    const filled = `${p.filled} ${s.base}`;
    const some = Number(p.filled) > 0;
    answer({
      open: some ? `${filled} traded, the rest is in the book.` : "The order is in the book.",
      waiting: "The order waits for its stop price.",
      filled: `Done: ${filled} traded.`,
      cancelled: some ? `${filled} traded, the rest was cancelled.` : "Cancelled: nothing could trade.",
    }[p.status] ?? "Done.", p.status === "cancelled" && !some ? "bad" : "good");
  } catch (err) {
    const name = /stop/.test(err.code) ? "stop_price" : /price/.test(err.code) ? "price" : /quantity/.test(err.code) ? "quantity" : "";
    if (name) wrong(name, err.message);
    else answer(err.message, "bad");
  } finally {
    ready();
  }
});

function wrong(name, text) {
  field[name].closest(".input").classList.add("wrong");
  field[name].focus();
  answer(text, "bad");
}

function answer(text, tone = "") {
  $("answer").textContent = text ? text[0].toUpperCase() + text.slice(1) : "";
  $("answer").className = `answer ${tone}`;
}
