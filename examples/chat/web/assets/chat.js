// What the chat does in the browser beyond what the server renders. Without it everything works, a little slower:
// a message is then sent by its button, and its time is in UTC.

(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const store = (key, value) => {
    try {
      if (value === undefined) return JSON.parse(sessionStorage.getItem(key));
      sessionStorage.setItem(key, JSON.stringify(value));
    } catch {
      return null; // storage may be forbidden, or full
    }
  };

  // ---- Times, in the zone of the browser. -------------------------------------------------------------------------

  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
  const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
  const set = (el, name, value) => el.getAttribute(name) === value || el.setAttribute(name, value);

  const localize = () => {
    const today = new Date().toDateString();
    let last;
    for (const el of document.querySelectorAll("time[datetime]")) {
      const at = new Date(el.dateTime);
      const line = el.closest(".log > li");
      const text = line || at.toDateString() === today ? clock.format(at) : date.format(at);
      if (el.textContent !== text) el.textContent = text;
      set(el, "title", full.format(at));
      if (!line) continue;
      // A new day says so above its first line.
      const is = at.toDateString();
      if (is !== last && (last || is !== today)) set(line, "data-day", is === today ? "Today" : day.format(at));
      else line.removeAttribute("data-day");
      last = is;
    }
  };

  // The server's pages say UTC, also when it changes a part of one. This runs before anything is painted.
  let due = false;
  new MutationObserver(() => {
    if (due) return;
    due = true;
    queueMicrotask(() => {
      localize();
      due = false;
    });
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true, attributeFilter: ["datetime"] });
  localize();

  // ---- Scrolling. The box is laid out from its end, so that it begins and stays there by itself. ------------------

  const isPinned = (box) => Math.abs(box.scrollTop) < 48;
  const lastLine = () => $("log")?.lastElementChild?.id;

  live.hook("Scroll", {
    mounted() {
      this.room = this.el.dataset.room;
      this.el.addEventListener("scroll", () => {
        if (isPinned(this.el)) this.caughtUp();
        look();
      });
      $("jump").addEventListener("click", () => {
        this.el.scrollTop = 0;
        $("text").focus();
      });
      this.watcher = new IntersectionObserver(
        (entries) => {
          if (!entries.some((e) => e.isIntersecting) || !live.connected) return;
          this.el.setAttribute("aria-live", "off"); // history is not news
          $("older")?.click();
        },
        { root: this.el, rootMargin: "200px" },
      );
      this.watch();
      this.aim();
    },
    destroyed() {
      this.watcher.disconnect();
    },
    beforeUpdate() {
      this.pinned = isPinned(this.el);
      this.end = lastLine();
      const top = this.el.getBoundingClientRect().top;
      this.anchor = [...this.el.querySelectorAll(".log > li")].find((li) => li.getBoundingClientRect().bottom > top);
      this.offset = this.anchor?.getBoundingClientRect().top;
    },
    updated() {
      this.watch();
      if (this.room !== this.el.dataset.room) {
        this.room = this.el.dataset.room;
        this.el.scrollTop = 0;
        this.caughtUp();
      } else if (this.pinned) this.el.scrollTop = 0;
      else {
        // What one reads stays where it is.
        if (this.anchor?.isConnected) this.el.scrollTop += this.anchor.getBoundingClientRect().top - this.offset;
        if (this.end && this.end !== lastLine()) this.missed();
      }
      setTimeout(() => this.el.removeAttribute("aria-live"), 100);
    },
    watch() {
      const older = $("older");
      this.watcher.disconnect();
      if (older) this.watcher.observe(older);
    },
    missed() {
      $("jump").hidden = false;
    },
    caughtUp() {
      $("jump").hidden = true;
    },
    aim() {
      const target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1)));
      if (target && this.el.contains(target)) target.scrollIntoView({ block: "center" });
    },
  });

  // ---- Whether somebody looks, and types. -------------------------------------------------------------------------

  let pulse;
  const look = () => pulse?.look();

  live.hook("Pulse", {
    mounted() {
      pulse = this;
      this.look();
    },
    reconnected() {
      this.last = undefined;
      this.look();
    },
    destroyed() {
      if (pulse === this) pulse = undefined;
    },
    look() {
      const box = $("scroll");
      const room = box?.dataset.room;
      const on = document.visibilityState === "visible" && !!box && isPinned(box);
      const state = room + on;
      if (!live.connected || this.last === state) return;
      this.last = state;
      this.push("looking", { on }).catch(() => (this.last = undefined));
    },
    type() {
      const now = Date.now();
      if (!live.connected || now - (this.typed || 0) < 2500) return;
      this.typed = now;
      this.push("typing", { on: true }).catch(() => {});
    },
    rest() {
      this.typed = 0;
    },
  });
  document.addEventListener("visibilitychange", look);
  addEventListener("live:page-loading-stop", () => setTimeout(look));

  // ---- Messages on their way. -------------------------------------------------------------------------------------
  // One is shown at once, and kept until the server has it. Its id is made here, so that sending it again, after a
  // connection was lost or the page was loaded anew, does no harm.

  let outbox;
  const newID = () => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  };
  const button = (text, run) => {
    const b = document.createElement("button");
    b.type = "button";
    b.textContent = text;
    b.addEventListener("click", run);
    return b;
  };

  live.hook("Pending", {
    mounted() {
      outbox = this;
      this.open();
    },
    updated() {
      if (this.room !== this.el.dataset.room) this.open();
    },
    reconnected() {
      for (const m of this.waiting) if (!m.error) this.deliver(m);
    },
    open() {
      this.room = this.el.dataset.room;
      this.waiting = store("chat:out:" + this.room) || [];
      this.el.replaceChildren();
      for (const m of this.waiting) {
        this.draw(m);
        if (!m.error) this.deliver(m);
      }
    },
    keep() {
      store("chat:out:" + this.room, this.waiting);
    },
    send(text) {
      const m = { id: newID(), text };
      this.waiting.push(m);
      this.keep();
      this.draw(m);
      this.deliver(m);
      $("scroll").scrollTop = 0;
    },
    async deliver(m) {
      const room = this.room;
      m.error = "";
      this.draw(m);
      let answer;
      try {
        answer = await this.push("send", { id: m.id, text: m.text });
      } catch {
        return; // the connection is lost: it is sent again when that is back
      }
      if (room !== this.room) return; // it will be sent again there; the room takes it once
      if (!answer || answer.ok) return this.drop(m);
      m.error = answer.error;
      this.keep();
      this.draw(m);
    },
    drop(m) {
      this.waiting = this.waiting.filter((other) => other !== m);
      this.keep();
      $("out-" + m.id)?.remove();
    },
    draw(m) {
      if (!this.waiting.includes(m)) return;
      const li = document.createElement("li");
      li.id = "out-" + m.id;
      li.className = "msg mine follows " + (m.error ? "failed" : "waiting");
      const text = document.createElement("div");
      text.className = "text";
      text.dir = "auto";
      text.textContent = m.text;
      const state = document.createElement("p");
      state.className = "state";
      if (m.error) {
        state.setAttribute("role", "alert");
        state.append(
          "Not sent. " + m.error + " ",
          button("Try again", () => this.deliver(m)),
          button("Change", () => {
            const box = $("text");
            box.value = box.value ? m.text + "\n" + box.value : m.text;
            this.drop(m);
            box.dispatchEvent(new Event("input", { bubbles: true }));
            box.focus();
          }),
          button("Discard", () => this.drop(m)),
        );
      } else state.textContent = "Sending…";
      li.append(text, state);
      const old = $(li.id);
      if (old) old.replaceWith(li);
      else this.el.append(li);
    },
  });

  // ---- Where one writes. ------------------------------------------------------------------------------------------

  const grow = (box) => {
    if (CSS.supports("field-sizing", "content")) return;
    box.rows = 1;
    while (box.rows < 8 && box.scrollHeight > box.clientHeight + 2) box.rows++;
  };
  // On a screen without keys Enter is the only way to a new line; there is a button to send.
  const entersLine = (e) => e.shiftKey || e.isComposing || e.keyCode === 229 || matchMedia("(pointer: coarse)").matches;

  live.hook("Composer", {
    mounted() {
      const box = $("text");
      this.open();
      if (!matchMedia("(pointer: coarse)").matches) box.focus({ preventScroll: true });
      this.el.addEventListener("submit", (e) => {
        e.preventDefault(); // the outbox sends it
        if (!box.value.trim() || !outbox) return;
        outbox.send(box.value);
        box.value = "";
        store("chat:draft:" + this.room, "");
        pulse?.rest();
        grow(box);
        box.focus();
      });
      box.addEventListener("keydown", (e) => {
        if (e.key !== "Enter" || entersLine(e)) return;
        e.preventDefault();
        this.el.requestSubmit();
      });
      box.addEventListener("input", () => {
        store("chat:draft:" + this.room, box.value);
        if (box.value.trim()) pulse?.type();
        grow(box);
      });
    },
    updated() {
      if (this.room !== this.el.dataset.room) this.open();
      grow($("text"));
    },
    open() {
      this.room = this.el.dataset.room;
      const draft = store("chat:draft:" + this.room);
      if (draft) $("text").value = draft;
      grow($("text"));
    },
  });

  live.hook("Edit", {
    mounted() {
      this.el.focus();
      this.el.setSelectionRange(this.el.value.length, this.el.value.length);
      this.el.addEventListener("keydown", (e) => {
        if (e.key === "Escape") return $("cancel").click();
        if (e.key !== "Enter" || entersLine(e)) return;
        e.preventDefault();
        this.el.form.requestSubmit();
      });
    },
  });

  // The form for one's name closes when there is a new name.
  live.hook("Me", {
    mounted() {
      this.name = this.el.dataset.name;
    },
    updated() {
      if (this.name !== this.el.dataset.name) this.el.open = false;
      this.name = this.el.dataset.name;
    },
  });

  // ---- Menus close when one has chosen or looks elsewhere; what cannot be taken back is asked once more. ------------------------

  const closeMenus = (but) => {
    for (const menu of document.querySelectorAll("details.more[open], details.me[open]")) {
      if (menu.contains(but)) continue;
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
      menu.open = false;
    }
  };
  addEventListener("submit", (e) => closeMenus(e.target.closest(".me")));
  addEventListener("keydown", (e) => {
    if (e.key === "Escape") closeMenus();
  });
  addEventListener(
    "click",
    (e) => {
      closeMenus(e.target);
      const b = e.target.closest?.('button[name="do"][value="delete"]');
      if (!b || b.dataset.sure) return;
      e.preventDefault();
      e.stopPropagation();
      b.dataset.sure = "yes";
      b.textContent = "Really delete?";
    },
    true,
  );
})();
