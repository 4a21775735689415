// A connection to the market data API that comes back by itself. Subscriptions
// outlive it: after a reconnect each begins again with a snapshot.

const firstWait = 500; // ms until the first try to reconnect; doubles each time
const longestWait = 15000;
const pingEvery = 15000;
const answerWithin = 10000;

export class Socket {
  // onstate is called with "connecting", "live", or "down" and the ms until the next try.
  constructor(url, { onhello, onstate, onframe }) {
    Object.assign(this, { url, onhello, onstate, onframe });
    this.subscriptions = new Map();
    this.waiting = new Map(); // requests without an answer, by id
    this.lastID = 0;
    this.failures = 0;
    this.connect();
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
    // A page put away and taken out again by the browser's back button.
    addEventListener("pageshow", (e) => e.persisted && this.retry());
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.onstate("connecting");
    const ws = new WebSocket(this.url);
    this.ws = ws;
    // A handshake that nobody answers would otherwise be waited for very long.
    const opening = setTimeout(() => ws.close(), answerWithin);
    ws.onmessage = (e) => this.ws === ws && this.receive(JSON.parse(e.data));
    ws.onclose = () => {
      clearTimeout(opening);
      if (this.ws === ws) this.lost();
    };
    ws.onopen = () => clearTimeout(opening);
  }

  // retry connects now if it is only waiting to.
  retry() {
    if (this.timer) this.connect();
  }

  lost() {
    this.ws = null;
    clearInterval(this.pings);
    for (const { reject } of this.waiting.values()) {
      reject({ code: "disconnected", message: "The connection was lost; look at your open orders before you try again." });
    }
    this.waiting.clear();
    for (const s of this.subscriptions.values()) s.seq = null;
    const full = Math.min(longestWait, firstWait * 2 ** this.failures++);
    const wait = full / 2 + (Math.random() * full) / 2;
    this.timer = setTimeout(() => this.connect(), wait);
    this.onstate("down", wait);
  }

  receive(frame) {
    switch (frame.type) {
      case "hello":
        this.failures = 0;
        this.onhello(frame);
        for (const s of this.subscriptions.values()) this.begin(s);
        this.pings = setInterval(() => this.request("ping").catch(() => this.ws?.close()), pingEvery);
        this.onstate("live");
        return;
      case "snapshot":
      case "update": {
        const s = this.subscriptions.get(keyOf(frame));
        if (!s || s.beginning && frame.type === "update") return;
        if (frame.type === "update" && frame.prev !== s.seq) {
          // It cannot happen; should it, the snapshot puts it right.
          this.begin(s);
          return;
        }
        s.beginning = false;
        s.seq = frame.seq;
        for (const handler of [...s.handlers]) handler(frame);
        this.onframe(frame);
        return;
      }
      default: {
        const w = this.waiting.get(frame.id);
        if (!w) return;
        this.waiting.delete(frame.id);
        clearTimeout(w.timer);
        if (frame.type === "error") w.reject(frame);
        else w.resolve(frame);
      }
    }
  }

  // request sends an operation and resolves with its answer.
  request(op, fields = {}) {
    return new Promise((resolve, reject) => {
      if (this.ws?.readyState !== WebSocket.OPEN) {
        reject({ code: "disconnected", message: "There is no connection." });
        return;
      }
      const id = ++this.lastID;
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject({ code: "timeout", message: "There was no answer in time." });
      }, answerWithin);
      this.waiting.set(id, { resolve, reject, timer });
      this.ws.send(JSON.stringify({ op, id, ...fields }));
    });
  }

  // subscribe calls handler with a snapshot and then with every update, until the
  // func it returns is called. Handlers of one topic share a subscription, which
  // begins anew, for all of them, when one joins.
  subscribe(topic, handler) {
    const key = keyOf(topic);
    const s = this.subscriptions.get(key) ?? { topic, handlers: new Set(), seq: null };
    s.handlers.add(handler);
    this.subscriptions.set(key, s);
    if (this.ws?.readyState === WebSocket.OPEN) this.begin(s);
    return () => {
      if (!s.handlers.delete(handler) || s.handlers.size) return;
      this.subscriptions.delete(key);
      if (this.ws?.readyState === WebSocket.OPEN) this.request("unsubscribe", topic).catch(() => {});
    };
  }

  begin(s) {
    s.beginning = true;
    this.request("subscribe", s.topic).catch((e) => console.warn("subscribe", s.topic, e));
  }
}

function keyOf({ channel, symbol, interval = "" }) {
  return `${channel} ${symbol} ${interval}`;
}
