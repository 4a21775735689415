import assert from "node:assert/strict";
import { test } from "node:test";
import { body, open } from "./page.mjs";

const statics = [body(0, `<p>{{0}}</p><div live-banner hidden>offline</div>`)];
const joined = (options) => {
  const page = open("", options).join(statics, ["a"]);
  page.heard;
  return page;
};
const classes = (page) => page.document.documentElement.className.replace(/live-/g, "");
const settle = () => new Promise((done) => setImmediate(done));

test("a page joins at its own host, over TLS if it came so", () => {
  assert.equal(open("", { url: "https://a.test/x" }).socket.url, "wss://a.test/_live/socket");
  assert.equal(open("", { url: "http://a.test:8080/x" }).socket.url, "ws://a.test:8080/_live/socket");
});

test("join tells what the page wants to tell, and comes again with count and position", () => {
  const page = open("", { before: (window) => window.addEventListener("DOMContentLoaded", () => {
    window.live.params = { zone: () => "Europe/Lisbon", n: 1 };
  }, { capture: true, once: true }) });
  page.accept();
  assert.deepEqual(page.heard, [[1, "j", { t: "T1", u: "http://app.test/page", p: { zone: "Europe/Lisbon", n: "1" }, n: 0 }]]);
  page.say("j", 1, { d: { d: ["a"], s: statics }, v: "17" });
  page.say(0, { v: "18" });
  page.live.params = () => ({ all: "new" });
  page.drop();
  page.clock.tick(1000);
  page.accept();
  assert.deepEqual(page.heard, [[2, "j", { t: "T1", u: "http://app.test/page", p: { all: "new" }, v: "18", n: 1 }]]);
});

test("the state of the connection is in classes, the banner and events", () => {
  const seen = [];
  const page = open("", { before: (window) => {
    for (const name of ["connected", "disconnected", "page-loading-start", "page-loading-stop"])
      window.addEventListener("live:" + name, (e) => seen.push(e.detail ? `${name} ${e.detail.kind}` : name));
  } });
  assert.equal(classes(page), "loading");
  page.join(statics, ["a"]);
  assert.equal(classes(page), "connected");
  assert.equal(page.root.className, "live-connected");
  assert.deepEqual(seen.splice(0), ["page-loading-start join", "page-loading-stop join", "connected"]);
  page.drop();
  assert.equal(classes(page), "error");
  page.clock.tick(100);
  assert.equal(page.sockets.length, 2);
  assert.equal(classes(page), "error loading");
  page.clock.tick(399);
  assert.equal(page.$("[live-banner]").hidden, true);
  page.clock.tick(1);
  assert.equal(page.$("[live-banner]").hidden, false);
  assert.match(classes(page), /disconnected/);
  assert.deepEqual(seen.splice(0), ["disconnected"]);
  page.join(statics, ["a"]);
  assert.equal(classes(page), "connected");
  assert.equal(page.$("[live-banner]").hidden, true);
  assert.deepEqual(seen.splice(0), ["page-loading-start join", "page-loading-stop join", "connected"]);
});

test("a short loss is not shown", () => {
  const page = joined();
  page.drop();
  page.clock.tick(100);
  page.join(statics, ["a"]);
  page.clock.tick(5000);
  assert.equal(classes(page), "connected");
  assert.equal(page.$("[live-banner]").hidden, true);
});

test("a server that is away is tried again, later each time, and no more than 7.5 seconds later", () => {
  const waits = [];
  for (const random of [0, 0.5, 0.999]) {
    const page = joined({ random });
    page.window.addEventListener("live:retry", (e) => waits.push(Math.round(e.detail)));
    page.clock.tick(6000);
    page.drop();
    for (let i = 0; i < 9; i++) {
      page.clock.tick(7500);
      page.drop();
    }
    assert.equal(page.sockets.length, 10);
    const got = waits.splice(0);
    const want = [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000].map((ms) => Math.round(ms * (0.5 + random)));
    assert.deepEqual(got, want);
  }
});

test("the close codes say when to come back", () => {
  const after = (code, message) => {
    const page = joined();
    let ms;
    page.window.addEventListener("live:retry", (e) => (ms = e.detail));
    if (message) page.say(...message);
    page.drop(code);
    return ms;
  };
  assert.equal(after(1001, ["b", 1234]), 1234);
  assert.equal(after(1001), 50);
  assert.equal(after(4400), 5000);
  assert.equal(after(4408), 0);
});

test("when the session has ended the page is loaded again", () => {
  const page = joined();
  page.drop(4401);
  assert.match(page.errors.join(), /navigation/);
  page.clock.tick(19_999);
  assert.equal(page.sockets.length, 1);
});

test("the server may send the page away", () => {
  const page = joined();
  page.say("l", "/login");
  assert.match(page.errors.join(), /navigation/);
  assert.equal(page.socket.readyState, 3);
  page.drop();
  page.clock.tick(19_999);
  assert.equal(page.sockets.length, 1);
});

test("a page that is still there, since it was sent to a file, joins again", () => {
  const page = joined();
  page.say("l", "/export.csv");
  page.drop();
  page.clock.tick(20_000);
  assert.equal(page.sockets.length, 2);
  page.join(statics, ["b"]);
  assert.equal(page.$("p").textContent, "b");
  page.clock.tick(20_000);
  assert.equal(page.sockets.length, 2);
});

test("params that fail do not keep a page from joining", () => {
  const page = open("", { before: (window) => window.addEventListener("DOMContentLoaded", () => {
    window.live.params = () => { throw new Error("oh"); };
  }, { capture: true, once: true }) });
  page.join(statics, ["a"]);
  assert.equal(page.$("p").textContent, "a");
  assert.equal(page.errors.length, 1);
});

test("the server may send the page away to another part of itself", () => {
  const page = joined();
  page.say("l", "/page#part");
  page.clock.tick(1);
  assert.equal(page.window.location.hash, "#part");
  assert.match(page.errors.join(), /navigation/);
});

test("a heartbeat follows 30 seconds of silence, and a second silence ends the connection", () => {
  const page = joined();
  page.clock.tick(29_999);
  assert.deepEqual(page.heard, []);
  page.clock.tick(1);
  assert.deepEqual(page.heard, [[2, "h"]]);
  page.clock.tick(10_000);
  page.say(2);
  page.clock.tick(29_999);
  assert.deepEqual(page.heard, []);
  page.clock.tick(1);
  assert.deepEqual(page.heard, [[3, "h"]]);
  page.clock.tick(29_999);
  assert.equal(page.live.connected, true);
  page.clock.tick(1);
  assert.equal(page.live.connected, false);
  page.clock.tick(1000);
  assert.equal(page.sockets.length, 2);
});

test("a connection that does not join is given up", () => {
  const page = open();
  page.accept();
  page.clock.tick(31_000);
  assert.equal(page.sockets.length, 2);
});

test("what an older connection says is not heard", () => {
  const page = joined();
  const old = page.socket;
  page.drop();
  page.clock.tick(100);
  old.onmessage({ data: `[0,{"d":[0,"late"]}]` });
  old.onclose({ code: 1006 });
  assert.equal(page.$("p").textContent, "a");
  page.join(statics, ["b"]);
  assert.equal(page.$("p").textContent, "b");
});

test("a stale token is replaced by that of the page as it is now", async () => {
  const asked = [];
  const page = open("", { fetch: async (url) => {
    asked.push(url);
    return { ok: true, redirected: false, text: async () => `<!doctype html><div id="live" data-live="/s" data-token="T2">…</div>` };
  } });
  page.accept();
  page.heard;
  page.say("s");
  await settle();
  assert.deepEqual(asked, ["http://app.test/page"]);
  assert.deepEqual(page.heard.map((f) => [f[1], f[2].t]), [["j", "T2"]]);
  page.say("j", 2, { d: { d: ["x"], s: statics } });
  assert.equal(page.$("p").textContent, "x");
});

test("without a page to take a token from it is loaded", async () => {
  for (const answer of [{ ok: true, redirected: true }, { ok: true, redirected: false }]) {
    const page = open("", { fetch: async () => ({ ...answer, text: async () => `<p>log in</p>` }) });
    page.accept();
    page.say("s");
    await settle();
    assert.match(page.errors.join(), /navigation/);
  }
});

test("a page that cannot be fetched is tried again, but not for ever", async () => {
  let asked = 0;
  const page = open("", { fetch: async () => {
    asked++;
    throw new Error("away");
  } });
  for (let i = 0; i < 8; i++) {
    if (page.socket.readyState === 3) page.clock.tick(5000);
    if (page.socket.readyState === 0) page.accept();
    page.say("s");
    await settle();
  }
  assert.equal(asked, 3);
  page.clock.tick(60_000);
  assert.match(page.errors.join(), /navigation/);
});

test("a server that accepts and ends every connection has the page loaded again, later each time", () => {
  const page = open();
  for (let i = 0; i < 6; i++) {
    page.accept();
    page.drop();
    if (i < 5) page.clock.tick(7500);
  }
  assert.equal(page.sockets.length, 6);
  page.clock.tick(7499);
  assert.deepEqual(page.errors, []);
  page.clock.tick(1);
  assert.match(page.errors.join(), /navigation/);
  assert.equal(page.window.sessionStorage.getItem("live:reloads"), "1");
  const later = open("", { before: (window) => window.sessionStorage.setItem("live:reloads", 10) });
  for (let i = 0; i < 6; i++) {
    later.accept();
    later.drop();
    if (i < 5) later.clock.tick(7500);
  }
  later.clock.tick(44_999);
  assert.deepEqual(later.errors, []);
  later.clock.tick(1);
  assert.match(later.errors.join(), /navigation/);
});

test("a page that has joined starts to count its troubles anew", async () => {
  const page = open("", {
    before: (window) => window.sessionStorage.setItem("live:reloads", 7),
    fetch: async () => ({ ok: true, redirected: false, text: async () => `<div data-live="/s" data-token="T2"></div>` }),
  });
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 5; i++) {
      page.accept();
      page.drop();
      page.clock.tick(7500);
    }
    page.accept();
    page.say("s");
    await settle();
    page.join(statics, ["a"]);
    assert.equal(page.window.sessionStorage.getItem("live:reloads"), "0");
    page.clock.tick(6000);
    page.drop();
    page.clock.tick(100);
    assert.equal(page.socket.readyState, 0);
  }
  assert.deepEqual(page.errors, []);
});

test("a view that fails right after each join does not reset the count", () => {
  const page = open();
  for (let i = 0; i < 6; i++) {
    page.join(statics, ["a"]);
    page.drop();
    if (i < 5) page.clock.tick(7500);
  }
  page.clock.tick(7500);
  assert.match(page.errors.join(), /navigation/);
});

test("a server that is only away never has the page loaded again", () => {
  const page = joined();
  page.clock.tick(10_000);
  page.drop();
  for (let i = 0; i < 50; i++) {
    page.clock.tick(7500);
    page.drop();
  }
  assert.deepEqual(page.errors, []);
});

test("when the network is back there is no waiting", () => {
  const page = joined();
  page.clock.tick(6000);
  page.drop();
  for (let i = 0; i < 9; i++) {
    page.clock.tick(7500);
    page.drop();
  }
  const n = page.sockets.length;
  page.window.dispatchEvent(new page.window.Event("online"));
  assert.equal(page.sockets.length, n + 1);
});

test("a page in the browser's cache has no connection, and another when it comes back", () => {
  const page = joined();
  page.window.dispatchEvent(new page.window.Event("pagehide"));
  assert.equal(page.socket.readyState, 3);
  page.drop();
  assert.equal(page.sockets.length, 1);
  page.window.dispatchEvent(Object.assign(new page.window.Event("pageshow"), { persisted: true }));
  page.clock.tick(0);
  assert.equal(page.sockets.length, 2);
  page.join(statics, ["b"]);
  assert.equal(page.$("p").textContent, "b");
  page.clock.tick(29_000);
  assert.equal(page.sockets.length, 2);
});

test("a simulated latency delays what the server says, in order, also when it ends", () => {
  const page = joined();
  page.live.latency(500);
  page.say(0, { d: [0, "1"] });
  page.clock.tick(300);
  page.live.latency(0);
  page.say(0, { d: [0, "2"] });
  assert.equal(page.$("p").textContent, "a");
  page.clock.tick(200);
  assert.equal(page.$("p").textContent, "2");
  page.say(0, { d: [0, "3"] });
  assert.equal(page.$("p").textContent, "3");
  page.live.latency(70);
  assert.equal(page.window.sessionStorage.getItem("live:latency"), "70");
});

test("debug logs all frames", () => {
  const page = joined();
  page.say(0, { d: [0, "1"] });
  assert.equal(page.logs.length, 0);
  page.live.debug(true);
  page.say(0, { d: [0, "2"] });
  page.clock.tick(30_000);
  assert.deepEqual(JSON.parse(JSON.stringify(page.logs.map((l) => l.slice(1)))), [["<-", [0, { d: [0, "2"] }]], ["->", [2, "h"]]]);
  page.live.debug(false);
  page.say(2);
  assert.equal(page.logs.length, 2);
});

test("storage that is forbidden is no error", () => {
  const page = open("", { before: (window) => Object.defineProperty(window, "sessionStorage", { get() { throw new Error("no"); } }) });
  page.join(statics, ["a"]);
  page.live.debug(true);
  assert.deepEqual(page.errors, []);
  assert.equal(page.$("p").textContent, "a");
});

test("a page without a view is left alone", () => {
  const page = open("", { before: (window) => window.document.getElementById("live").removeAttribute("data-live") });
  assert.equal(page.sockets.length, 0);
  assert.deepEqual(page.errors, []);
  assert.equal(page.live.connected, false);
});
