// The order book: every level that the server told of, and the rows that fit.

export class Ladder {
  constructor({ asks, bids, onpick }) {
    this.sides = { asks: side(asks), bids: side(bids) };
    this.onpick = onpick;
    this.group = 1; // ticks to a row
    this.mine = new Set(); // "bids 9725000": where own orders rest
    for (const s of Object.values(this.sides)) {
      s.element.addEventListener("click", (e) => this.pick(e.target.closest(".row")));
      s.element.addEventListener("keydown", (e) => this.keys(e));
    }
    new ResizeObserver(() => this.schedule()).observe(asks.parentElement);
  }

  // market says how the numbers of the frames are to be read.
  market({ price_decimals, quantity_decimals }) {
    Object.assign(this, { priceDecimals: price_decimals, qtyDecimals: quantity_decimals });
    for (const s of Object.values(this.sides)) s.levels.clear();
    this.render();
  }

  apply(frame) {
    for (const [name, s] of Object.entries(this.sides)) {
      if (frame.type === "snapshot") s.levels.clear();
      for (const [price, quantity] of frame[name]) {
        const p = ticks(price, this.priceDecimals);
        const q = ticks(quantity, this.qtyDecimals);
        if (q === 0) s.levels.delete(p);
        else s.levels.set(p, q);
      }
    }
    this.schedule();
  }

  // schedule renders once for all that comes before the next frame of the screen.
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.render();
    });
  }

  best(name) {
    const prices = [...this.sides[name].levels.keys()];
    if (!prices.length) return null;
    return name === "bids" ? Math.max(...prices) : Math.min(...prices);
  }

  // rows sums levels up by the group, the best first. A bid is shown at or below
  // its price and an ask at or above, so that no row promises a better price.
  rows(name, count) {
    const { levels } = this.sides[name];
    const grouped = new Map();
    const round = name === "bids" ? Math.floor : Math.ceil;
    for (const [p, q] of levels) {
      const g = round(p / this.group) * this.group;
      grouped.set(g, (grouped.get(g) ?? 0) + q);
    }
    const sorted = [...grouped].sort(name === "bids" ? (a, b) => b[0] - a[0] : (a, b) => a[0] - b[0]);
    let total = 0;
    return sorted.slice(0, count).map(([price, qty]) => ({ price, qty, total: (total += qty) }));
  }

  render() {
    if (this.priceDecimals === undefined) return;
    const drawn = {};
    let deepest = 1;
    for (const name of ["asks", "bids"]) {
      drawn[name] = this.rows(name, this.room(name));
      deepest = Math.max(deepest, drawn[name].at(-1)?.total ?? 0);
    }
    const mine = new Set([...this.mine].map((m) => {
      const [name, p] = m.split(" ");
      return `${name} ${(name === "bids" ? Math.floor : Math.ceil)(p / this.group) * this.group}`;
    }));
    for (const name of ["asks", "bids"]) {
      const s = this.sides[name];
      const rows = name === "asks" ? drawn[name].toReversed() : drawn[name];
      // Rows come and go at the far end, so that who stands on one stays there.
      const asks = name === "asks";
      while (s.element.children.length > rows.length) (asks ? s.element.firstChild : s.element.lastChild).remove();
      while (s.element.children.length < rows.length) s.element[asks ? "prepend" : "append"](row());
      rows.forEach((r, i) => this.fill(s.element.children[i], name, r, deepest, mine));
    }
    // The tab key reaches one row: the one that has the focus, or the best ask.
    const all = this.all();
    const stop = all.includes(document.activeElement) ? document.activeElement : this.sides.asks.element.lastChild ?? all[0];
    for (const e of all) e.tabIndex = e === stop ? 0 : -1;
  }

  all() {
    return [...this.sides.asks.element.children, ...this.sides.bids.element.children];
  }

  fill(element, name, { price, qty, total }, deepest, mine) {
    const [p, q, t] = element.children;
    const same = element.dataset.price === String(price);
    set(p, decimal(price, this.priceDecimals));
    if (set(q, decimal(qty, this.qtyDecimals)) && same) {
      element.classList.remove("fresh");
      void element.offsetWidth; // begins the animation anew
      element.classList.add("fresh");
    } else if (!same) {
      element.classList.remove("fresh");
    }
    set(t, decimal(total, this.qtyDecimals));
    element.dataset.price = price;
    element.dataset.side = name;
    element.style.setProperty("--depth", (total / deepest).toFixed(4));
    element.classList.toggle("mine", mine.has(`${name} ${price}`));
    element.setAttribute("aria-label", `${name === "bids" ? "Bid" : "Ask"} ${p.textContent}, size ${q.textContent}, total ${t.textContent}`);
  }

  // room is how many rows a side has space for.
  room(name) {
    const { element } = this.sides[name];
    const height = element.clientHeight;
    const one = element.firstChild?.offsetHeight || 21;
    return getComputedStyle(element).flexGrow === "0" ? 12 : Math.max(1, Math.floor(height / one));
  }

  pick(element) {
    if (element) this.onpick(element.dataset.side, Number(element.dataset.price), element);
  }

  keys(e) {
    const all = this.all();
    const at = all.indexOf(document.activeElement);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[e.key];
    if (at < 0 || to === undefined || !all[to]) return;
    e.preventDefault();
    all[at].tabIndex = -1;
    all[to].tabIndex = 0;
    all[to].focus();
  }
}

function side(element) {
  return { element, levels: new Map() };
}

function row() {
  const b = document.createElement("button");
  b.type = "button";
  b.className = "row";
  b.tabIndex = -1;
  for (let i = 0; i < 3; i++) b.append(document.createElement("span"));
  return b;
}

function set(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

// ticks reads a decimal as whole steps. All of them are exact in a double.
export function ticks(text, decimals) {
  return Math.round(Number(text) * 10 ** decimals);
}

// decimal is the inverse of ticks, with thousands apart.
export function decimal(n, decimals) {
  const digits = String(Math.abs(n)).padStart(decimals + 1, "0");
  const cut = digits.length - decimals;
  const whole = digits.slice(0, cut).replace(/\B(?=(\d{3})+$)/g, ",");
  return (n < 0 ? "-" : "") + whole + (decimals ? "." + digits.slice(cut) : "");
}
