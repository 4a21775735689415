// What the page does by itself: likes that show at once and wait for a connection, and how long things take.

// ---- The outbox: likes that the server has not answered. Each has a key, under which it counts once however often it is
// sent. They outlive the connection and the page, in this tab.

const outbox = {
  items: [],
  courier: null, // a hook that can send

  load() {
    try {
      this.items = JSON.parse(sessionStorage.getItem("quotes:outbox") || "[]");
    } catch {
      this.items = [];
    }
  },
  save() {
    try {
      sessionStorage.setItem("quotes:outbox", JSON.stringify(this.items));
    } catch {
      // then it lasts as long as the page
    }
    this.show();
  },
  add(id) {
    const item = { id, key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, at: performance.now() };
    this.items.push(item);
    this.save();
    this.send(item);
  },
  drop(item) {
    this.items = this.items.filter((other) => other.key !== item.key);
    this.save();
  },
  waiting(id) {
    return this.items.filter((item) => item.id === id).length;
  },
  async send(item) {
    if (!this.courier || item.sending || !window.live.connected) return;
    item.sending = true;
    let answer;
    try {
      answer = await this.courier.push("like", { id: item.id, key: item.key });
    } catch {
      // The connection is gone: it is sent again when it is back, under the same key.
    }
    delete item.sending;
    if (!answer) return;
    this.drop(item);
    if (answer.refused) {
      for (const el of likes(item.id)) shake(el);
    } else if (item.at) {
      painted(() => meter("own", `your like: ${ms(performance.now() - item.at)} from click to screen`));
    }
  },
  flush() {
    for (const item of this.items) {
      delete item.sending;
      this.send(item);
    }
  },
  show() {
    document.querySelectorAll("[live-hook=Like]").forEach(draw);
    const el = document.getElementById("outbox");
    if (!el) return;
    const n = window.live?.connected ? 0 : this.items.length;
    el.textContent = n ? `${n} ${n === 1 ? "like waits" : "likes wait"} for the connection` : "";
  },
};
outbox.load();
for (const item of outbox.items) delete item.at; // of another load of the page
addEventListener("live:connected", () => outbox.show());
addEventListener("live:disconnected", () => outbox.show());

const likes = (id) => document.querySelectorAll(`[live-hook=Like][data-quote="${CSS.escape(id)}"]`);

// draw shows what the server knows plus what it has not answered.
const draw = (form) => {
  const waiting = outbox.waiting(form.dataset.quote);
  const text = String(+form.dataset.likes + waiting);
  const count = form.querySelector(".count");
  if (count.textContent !== text) count.textContent = text;
  form.classList.toggle("waiting", waiting > 0);
};

const shake = (form) => {
  form.classList.remove("refused");
  form.getBoundingClientRect(); // begins the animation anew
  form.classList.add("refused");
};

window.live.hook("Like", {
  mounted() {
    this.el.addEventListener("submit", (e) => {
      e.preventDefault();
      outbox.add(this.el.dataset.quote);
    });
    draw(this.el);
  },
  updated() {
    draw(this.el);
  },
});

window.live.hook("Outbox", {
  mounted() {
    outbox.courier = this;
    outbox.flush();
    outbox.show();
  },
  destroyed() {
    if (outbox.courier === this) outbox.courier = null;
  },
  disconnected() {
    outbox.show();
  },
  reconnected() {
    outbox.flush();
    outbox.show();
  },
});

// ---- How long things take.

const painted = (fn) => requestAnimationFrame(() => setTimeout(fn));

const ms = (n) => (n < 10 ? n.toFixed(1) : Math.round(n)) + " ms";

const meter = (name, text) => {
  const el = document.querySelector(`[data-meter=${name}]`);
  if (el) el.textContent = text;
  const at = document.getElementById("meter");
  at?.classList.remove("beat");
  at?.getBoundingClientRect();
  at?.classList.add("beat");
};

window.live.hook("Meter", {
  mounted() {
    // The event carries when it was stored, by the clock of the server.
    this.handle("changed", (micros) =>
      painted(() => {
        const took = performance.timeOrigin + performance.now() - micros / 1000;
        if (took >= 0 && took < 5000 && !outbox.items.length) meter("own", `the last event: ${ms(took)} from store to screen`);
      }),
    );
    this.handle("reset", (id) => document.getElementById(id)?.reset());
  },
});
