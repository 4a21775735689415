// The candlestick chart, drawn by TradingView Lightweight Charts. The server pushes "candles:init" with all candles
// whenever there is another chart to draw, or the page was away; "candle" with each that changes; and "candles:marks" with
// the reader's own trades. Prices come as whole ticks, and volumes as whole lots.

/* global LightweightCharts */

export const candles = {
  mounted() {
    const chart = new Chart(this.el, () => this.tell());
    let shown = {}; // what the last init said
    const ours = (o) => o.symbol === shown.symbol && (o.interval ?? shown.interval) === shown.interval;
    this.tell = () => legend(chart, shown);
    this.repaint = () => chart.paint();
    addEventListener("exchange:theme", this.repaint);
    this.handle("candles:init", (init) => {
      const keep = ours(init);
      shown = init;
      chart.show(init, keep);
      this.tell();
    });
    this.handle("candle", (c) => {
      if (!ours(c)) return;
      chart.update(c.bar);
      this.tell();
    });
    this.handle("candles:marks", (m) => ours(m) && chart.mark(m.marks));
    this.chart = chart;
  },
  destroyed() {
    removeEventListener("exchange:theme", this.repaint);
    this.chart.chart.remove();
  },
};

function legend(chart, { price = 0, quantity = 0 }) {
  const b = chart.hovered ?? chart.latest();
  document.getElementById("chart-empty").hidden = b !== null;
  const places = (v, n) => v.toLocaleString("en", { minimumFractionDigits: n, maximumFractionDigits: n });
  const direction = b?.close < b?.open ? "down" : "up";
  const parts = b ? [["O", b.open], ["H", b.high], ["L", b.low], ["C", b.close], ["V", b.volume]] : [];
  document.getElementById("legend").replaceChildren(...parts.flatMap(([k, v]) => {
    const e = document.createElement("b");
    e.textContent = places(v, k === "V" ? quantity : price);
    e.className = k === "V" ? "" : direction;
    return [k + " ", e];
  }));
}

class Chart {
  constructor(element, onhover) {
    this.bars = new Map(); // by time
    this.hovered = null; // the bar under the mouse
    this.marks = [];
    this.chart = LightweightCharts.createChart(element, {
      autoSize: true,
      layout: { attributionLogo: false, fontSize: 11, fontFamily: getComputedStyle(document.body).fontFamily },
      localization: { timeFormatter: (t) => stamp(t, { dateStyle: "medium", timeStyle: "medium" }) },
      timeScale: {
        rightOffset: 6,
        barSpacing: 9,
        minBarSpacing: 1.5,
        timeVisible: true,
        secondsVisible: true,
        tickMarkFormatter: mark,
      },
      rightPriceScale: { scaleMargins: { top: 0.08, bottom: 0.24 }, minimumWidth: 78 },
      crosshair: { mode: LightweightCharts.CrosshairMode.Normal },
    });
    this.volume = this.chart.addSeries(LightweightCharts.HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      priceLineVisible: false,
      lastValueVisible: false,
    });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.candles = this.chart.addSeries(LightweightCharts.CandlestickSeries, { borderVisible: false });
    this.markers = LightweightCharts.createSeriesMarkers(this.candles, []);
    this.chart.subscribeCrosshairMove((p) => {
      this.hovered = this.bars.get(p.time) ?? null;
      onhover();
    });
    this.paint();
  }

  // paint takes the colours from the page's theme.
  paint() {
    const css = getComputedStyle(document.documentElement);
    const c = (name) => css.getPropertyValue(name).trim();
    this.up = c("--up");
    this.down = c("--down");
    this.accent = c("--accent");
    this.chart.applyOptions({
      layout: { background: { color: "transparent" }, textColor: c("--dim") },
      grid: { vertLines: { color: c("--line") }, horzLines: { color: c("--line") } },
      rightPriceScale: { borderColor: c("--line") },
      timeScale: { borderColor: c("--line") },
      crosshair: {
        vertLine: { color: c("--dim"), labelBackgroundColor: c("--raised") },
        horzLine: { color: c("--dim"), labelBackgroundColor: c("--raised") },
      },
    });
    this.candles.applyOptions({ upColor: this.up, downColor: this.down, wickUpColor: this.up, wickDownColor: this.down });
    if (this.bars.size) this.volume.setData([...this.bars.values()].map((b) => this.column(b)));
    this.mark(this.marks);
  }

  // show replaces everything. keep leaves the reader's view where it is.
  show({ bars, marks, price, quantity }, keep) {
    this.scale = { price: 10 ** price, quantity: 10 ** quantity };
    this.candles.applyOptions({ priceFormat: { type: "price", precision: price, minMove: 10 ** -price } });
    const format = new Intl.NumberFormat("en", { minimumFractionDigits: price, maximumFractionDigits: price });
    this.chart.applyOptions({ localization: { priceFormatter: (p) => format.format(p) } });
    this.bars = new Map(bars.map((b) => [b[0], this.bar(b)]));
    this.candles.setData([...this.bars.values()]);
    this.volume.setData([...this.bars.values()].map((b) => this.column(b)));
    this.mark(marks);
    if (!keep) {
      this.chart.priceScale("right").applyOptions({ autoScale: true });
      this.chart.timeScale().resetTimeScale();
      this.chart.timeScale().scrollToRealTime();
    }
  }

  // update adds a candle or replaces the latest.
  update(values) {
    const b = this.bar(values);
    const isFirst = !this.bars.size;
    this.bars.set(b.time, b);
    this.candles.update(b);
    this.volume.update(this.column(b));
    if (isFirst) this.chart.timeScale().scrollToRealTime();
  }

  // mark shows the reader's own trades at the candles that have them: one arrow each way.
  mark(marks) {
    this.marks = marks;
    const times = [...this.bars.keys()];
    const at = new Map();
    for (const [time, side] of marks) {
      const bar = times.findLast((t) => t <= time);
      if (bar !== undefined) at.set(`${bar} ${side}`, { time: bar, side });
    }
    this.markers.setMarkers([...at.values()].sort((a, b) => a.time - b.time).map(({ time, side }) => side > 0
      ? { time, position: "belowBar", shape: "arrowUp", color: this.accent }
      : { time, position: "aboveBar", shape: "arrowDown", color: this.accent }));
  }

  latest() {
    return [...this.bars.values()].at(-1) ?? null;
  }

  bar([time, open, high, low, close, volume]) {
    const { price, quantity } = this.scale;
    return { time, open: open / price, high: high / price, low: low / price, close: close / price, volume: volume / quantity };
  }

  column(b) {
    return { time: b.time, value: b.volume, color: (b.close < b.open ? this.down : this.up) + "55" };
  }
}

function stamp(t, options) {
  return new Intl.DateTimeFormat(undefined, options).format(new Date(t * 1000));
}

// mark labels the time scale in the reader's own time zone: the library's is UTC.
function mark(t, kind) {
  switch (kind) {
    case 0: return stamp(t, { year: "numeric" });
    case 1: return stamp(t, { month: "short" });
    case 2: return stamp(t, { day: "numeric", month: "short" });
    case 3: return stamp(t, { hour: "2-digit", minute: "2-digit", hour12: false });
    default: return stamp(t, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  }
}
