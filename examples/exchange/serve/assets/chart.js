// The candlestick chart, drawn by TradingView Lightweight Charts.

/* global LightweightCharts */

export class Chart {
  constructor(element, onhover) {
    this.element = element;
    this.bars = new Map(); // by time, for the legend
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
    this.chart.subscribeCrosshairMove((p) => onhover(this.bars.get(p.time) ?? null));
    this.paint();
  }

  // paint takes the colours from the page's theme.
  paint() {
    const css = getComputedStyle(document.documentElement);
    const c = (name) => css.getPropertyValue(name).trim();
    this.up = c("--up");
    this.down = c("--down");
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
  }

  // show replaces everything. keep leaves the user's view where it is.
  show(candles, decimals, keep) {
    this.candles.applyOptions({ priceFormat: { type: "price", precision: decimals, minMove: 10 ** -decimals } });
    const format = new Intl.NumberFormat("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    this.chart.applyOptions({ localization: { priceFormatter: (p) => format.format(p) } });
    const bars = candles.map(bar);
    this.bars = new Map(bars.map((b) => [b.time, b]));
    this.candles.setData(bars);
    this.volume.setData(bars.map((b) => this.column(b)));
    if (!keep) {
      this.chart.priceScale("right").applyOptions({ autoScale: true });
      this.chart.timeScale().resetTimeScale();
      this.chart.timeScale().scrollToRealTime();
    }
  }

  // update adds candles or replaces the latest.
  update(candles) {
    for (const b of candles.map(bar)) {
      this.bars.set(b.time, b);
      this.candles.update(b);
      this.volume.update(this.column(b));
    }
  }

  latest() {
    return [...this.bars.values()].at(-1) ?? null;
  }

  column(b) {
    return { time: b.time, value: b.volume, color: (b.close < b.open ? this.down : this.up) + "55" };
  }
}

function bar([start, open, high, low, close, volume]) {
  return { time: start / 1000, open: +open, high: +high, low: +low, close: +close, volume: +volume };
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
