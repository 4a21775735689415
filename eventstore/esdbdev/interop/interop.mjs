// Runs both official Node clients against the server whose connection string is in
// the environment as ESDB_URL:
//
//	npm ci --ignore-scripts
//	ESDB_URL='esdb://127.0.0.1:2113?tls=false' node interop.mjs [eventstore | kurrentdb]
//
// It prints a line for each thing that it tries, and ends with status 1 if one of
// them fails.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import process from "node:process";

const url = process.env.ESDB_URL;
if (!url) {
  console.error("ESDB_URL is not set: start a server with `levada esdb` and give its connection string");
  process.exit(2);
}

// What the clients call by different names.
const clients = {
  async eventstore() {
    const lib = await import("@eventstore/db-client");
    return { lib, client: lib.EventStoreDBClient.connectionString(url), expecting: (x) => ({ expectedRevision: x }) };
  },
  async kurrentdb() {
    const lib = await import("@kurrent/kurrentdb-client");
    return { lib, client: lib.KurrentDBClient.connectionString(url), expecting: (x) => ({ streamState: x }) };
  },
};

const patience = 30_000; // milliseconds for one check

// within fails when something does not happen.
function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing happens`)), patience);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// all returns what a read gives, until it ends.
async function all(read) {
  const list = [];
  for await (const e of read) list.push(e);
  return list;
}

const types = (list) => list.map((e) => (e.link ?? e.event).type).join(" ");

// take returns the next n events of a subscription.
function take(sub, n) {
  return within(
    new Promise((resolve, reject) => {
      const list = [];
      const data = (e) => {
        list.push(e);
        if (list.length === n) {
          sub.off("data", data);
          sub.off("error", reject);
          resolve(list);
        }
      };
      sub.on("data", data);
      sub.on("error", reject);
    }),
    `${n} events`,
  );
}

// once returns when a subscription says something.
const once = (sub, what) => within(new Promise((resolve) => sub.once(what, resolve)), what);

// type of the error that a promise is rejected with.
async function refusal(promise) {
  try {
    await promise;
  } catch (e) {
    return e;
  }
  throw new Error("it was not refused");
}

function checks({ lib, client, expecting }) {
  const name = (what) => `${what}-${randomUUID()}`;
  const event = (type, more = {}) => lib.jsonEvent({ type, data: { type }, ...more });
  const append = (stream, x, ...list) => client.appendToStream(stream, list, expecting(x));
  const { NO_STREAM, ANY, STREAM_EXISTS, START, END, BACKWARDS } = lib;

  return {
    async "an event is read as it was appended"() {
      const stream = name("json");
      const sent = event("opened", { metadata: { by: "ann", $correlationId: randomUUID() } });
      const r = await append(stream, NO_STREAM, sent);
      assert.equal(r.success, true);
      assert.equal(r.nextExpectedRevision, 0n);
      const [{ event: e }] = await all(client.readStream(stream));
      assert.equal(e.id, sent.id);
      assert.equal(e.type, "opened");
      assert.equal(e.streamId, stream);
      assert.equal(e.isJson, true);
      assert.equal(e.revision, 0n);
      assert.deepEqual(e.data, { type: "opened" });
      assert.deepEqual(e.metadata, sent.metadata);
      assert.ok(Math.abs(Date.now() - new Date(e.created).getTime()) < 60_000, `created ${e.created}`);
    },
    async "bytes are read as they were appended"() {
      const stream = name("binary");
      await append(stream, ANY, lib.binaryEvent({ type: "b", data: new Uint8Array([0, 255, 7]), metadata: new Uint8Array([1, 254]) }));
      const [{ event: e }] = await all(client.readStream(stream));
      assert.equal(e.isJson, false);
      assert.deepEqual([...e.data], [0, 255, 7]);
      assert.deepEqual([...e.metadata], [1, 254]);
    },
    async "a wrong revision is a conflict"() {
      const stream = name("conflict");
      await append(stream, NO_STREAM, event("a"), event("b"));
      for (const x of [NO_STREAM, 0n, 7n]) {
        const e = await refusal(append(stream, x, event("c")));
        assert.equal(e.type, lib.ErrorType.WRONG_EXPECTED_VERSION, e);
      }
      const e = await refusal(append(name("none"), STREAM_EXISTS, event("c")));
      assert.equal(e.type, lib.ErrorType.WRONG_EXPECTED_VERSION, e);
      await append(stream, 1n, event("c"));
      await append(stream, STREAM_EXISTS, event("d"));
      assert.equal(types(await all(client.readStream(stream))), "a b c d");
    },
    async "the same append again gives the old result"() {
      const stream = name("again");
      const list = [event("a"), event("b")];
      for (const x of [NO_STREAM, ANY]) {
        const r = await append(stream, x, ...list);
        assert.equal(r.nextExpectedRevision, 1n);
      }
      assert.equal((await all(client.readStream(stream))).length, 2);
    },
    async "reads go both ways"() {
      const stream = name("read");
      await append(stream, ANY, ...["a", "b", "c", "d"].map((t) => event(t)));
      assert.equal(types(await all(client.readStream(stream, { fromRevision: 1n, maxCount: 2 }))), "b c");
      assert.equal(types(await all(client.readStream(stream, { direction: BACKWARDS, fromRevision: END, maxCount: 2 }))), "d c");
      assert.equal(types(await all(client.readStream(stream, { direction: BACKWARDS, fromRevision: 1n }))), "b a");
      const last = await all(client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 4 }));
      assert.equal(types(last), "d c b a");
      const from = last[2].event.position;
      assert.equal(types(await all(client.readAll({ fromPosition: from, maxCount: 3 }))), "b c d");
    },
    async "a stream that is missing is not found"() {
      const e = await refusal(all(client.readStream(name("none"))));
      assert.equal(e.type, lib.ErrorType.STREAM_NOT_FOUND, e);
    },
    async "a deleted stream goes on, a tombstone is for ever"() {
      const stream = name("delete");
      await append(stream, ANY, event("a"));
      await client.deleteStream(stream, { expectedRevision: 0n });
      assert.equal((await refusal(all(client.readStream(stream)))).type, lib.ErrorType.STREAM_NOT_FOUND);
      const r = await append(stream, NO_STREAM, event("b"));
      assert.equal(r.nextExpectedRevision, 1n);
      assert.equal(types(await all(client.readStream(stream))), "b");
      await client.tombstoneStream(stream);
      assert.equal((await refusal(all(client.readStream(stream)))).type, lib.ErrorType.STREAM_DELETED);
      assert.equal((await refusal(append(stream, ANY, event("c")))).type, lib.ErrorType.STREAM_DELETED);
    },
    async "metadata limits what is read"() {
      const stream = name("meta");
      await append(stream, ANY, ...["a", "b", "c"].map((t) => event(t)));
      await client.setStreamMetadata(stream, { maxCount: 2, acl: { readRoles: ["$all"] }, owner: "ann" });
      const { metadata } = await client.getStreamMetadata(stream);
      assert.equal(metadata.maxCount, 2);
      assert.equal(metadata.owner, "ann");
      assert.equal(types(await all(client.readStream(stream))), "b c");
    },
    async "an append that is too large is refused"() {
      const e = await refusal(append(name("large"), ANY, lib.jsonEvent({ type: "x", data: { x: "x".repeat(1 << 20) } })));
      assert.equal(e.type, lib.ErrorType.MAXIMUM_APPEND_SIZE_EXCEEDED, e);
    },
    async "a subscription to a stream"() {
      const stream = name("sub");
      await append(stream, ANY, event("a"), event("b"));
      const sub = client.subscribeToStream(stream, { fromRevision: START });
      const caughtUp = once(sub, "caughtUp");
      assert.equal(types(await take(sub, 2)), "a b");
      await caughtUp;
      const more = take(sub, 1);
      await append(stream, ANY, event("c"));
      assert.equal(types(await more), "c");
      await sub.unsubscribe();
      const later = client.subscribeToStream(stream, { fromRevision: 0n });
      assert.equal(types(await take(later, 2)), "b c");
      await later.unsubscribe();
    },
    async "a subscription to everything, with a filter and checkpoints"() {
      const prefix = name("filtered");
      for (const t of ["a", "b", "c"]) await append(`${prefix}-${t}`, ANY, event(t));
      await append(name("other"), ANY, event("x"));
      let checkpoint;
      const reached = within(
        new Promise((resolve) => {
          checkpoint = async (_, position) => resolve(position);
        }),
        "a checkpoint",
      );
      const sub = client.subscribeToAll({
        fromPosition: START,
        filter: lib.streamNameFilter({ prefixes: [prefix], checkpointInterval: 1, checkpointReached: (s, p) => checkpoint(s, p) }),
      });
      const got = await take(sub, 3);
      assert.equal(types(got), "a b c");
      const position = await reached;
      assert.equal(typeof position.commit, "bigint");
      await sub.unsubscribe();
      const after = client.subscribeToAll({ fromPosition: got[0].event.position, filter: lib.streamNameFilter({ regex: `^${prefix}` }) });
      assert.equal(types(await take(after, 2)), "b c");
      await after.unsubscribe();
      const byType = client.subscribeToAll({ fromPosition: got[1].event.position, filter: lib.eventTypeFilter({ prefixes: ["c"] }) });
      assert.equal((await take(byType, 1))[0].event.streamId, `${prefix}-c`);
      await byType.unsubscribe();
    },
    async "a persistent subscription, from its creation to its end"() {
      const stream = name("group");
      const settings = lib.persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: START, checkPointLowerBound: 1, checkPointUpperBound: 1 });
      await append(stream, ANY, event("a"), event("b"), event("c"));
      await client.createPersistentSubscriptionToStream(stream, "g", settings);
      const twice = await refusal(client.createPersistentSubscriptionToStream(stream, "g", settings));
      assert.equal(twice.type, lib.ErrorType.PERSISTENT_SUBSCRIPTION_EXISTS, twice);

      const sub = client.subscribeToPersistentSubscriptionToStream(stream, "g", { bufferSize: 1 });
      const [a] = await take(sub, 1);
      assert.equal(a.retryCount, 0);
      const again = take(sub, 1);
      await sub.nack("retry", "try again", a);
      const [a2] = await again;
      assert.equal(a2.event.type, "a");
      assert.equal(a2.retryCount, 1);
      let next = take(sub, 1);
      await sub.ack(a2);
      const [b] = await next;
      next = take(sub, 1);
      await sub.nack("park", "later", b);
      const [c] = await next;
      next = take(sub, 1);
      await sub.ack(c);
      let info;
      await within(
        (async () => {
          do info = await client.getPersistentSubscriptionToStreamInfo(stream, "g");
          while (info.stats.parkedMessageCount !== 1n);
        })(),
        "one is parked",
      );
      assert.equal(info.eventSource, stream);
      assert.equal(info.settings.startFrom, START);
      assert.equal(info.connections.length, 1);
      await client.replayParkedMessagesToStream(stream, "g");
      const [b2] = await next;
      assert.equal(b2.event.type, "b");
      await sub.ack(b2);
      await sub.unsubscribe();

      await client.updatePersistentSubscriptionToStream(stream, "g", { ...settings, maxRetryCount: 3 });
      const list = await client.listPersistentSubscriptionsToStream(stream);
      assert.equal(list.length, 1);
      assert.equal(list[0].settings.maxRetryCount, 3);
      await client.deletePersistentSubscriptionToStream(stream, "g");
      const gone = await refusal(client.deletePersistentSubscriptionToStream(stream, "g"));
      assert.equal(gone.type, lib.ErrorType.PERSISTENT_SUBSCRIPTION_DOES_NOT_EXIST, gone);
    },
    async "a persistent subscription to everything"() {
      const prefix = name("everything");
      const group = name("g");
      await client.createPersistentSubscriptionToAll(group, lib.persistentSubscriptionToAllSettingsFromDefaults({ startFrom: START }), {
        filter: lib.streamNameFilter({ prefixes: [prefix] }),
      });
      const sub = client.subscribeToPersistentSubscriptionToAll(group);
      const got = take(sub, 2);
      await append(`${prefix}-1`, ANY, event("a"));
      await append(`${prefix}-2`, ANY, event("b"));
      const list = await got;
      assert.equal(types(list), "a b");
      for (const e of list) await sub.ack(e);
      await sub.unsubscribe();
      const info = await client.getPersistentSubscriptionToAllInfo(group);
      assert.equal(info.eventSource, "$all");
      await client.deletePersistentSubscriptionToAll(group);
    },
    async "many appends at once"() {
      const streams = Array.from({ length: 20 }, () => name("flood"));
      await Promise.all(streams.flatMap((s) => Array.from({ length: 25 }, (_, i) => append(s, ANY, event(`e${i}`)))));
      for (const s of streams) assert.equal((await all(client.readStream(s))).length, 25);
    },
    async "projections are refused"() {
      await refusal(client.listProjections());
    },
  };
}

let failed = 0;
const wanted = process.argv.slice(2);
for (const [which, connect] of Object.entries(clients)) {
  if (wanted.length > 0 && !wanted.includes(which)) continue;
  const c = await connect();
  for (const [what, check] of Object.entries(checks(c))) {
    try {
      await within(check(), what);
      console.log(`ok    ${which}: ${what}`);
    } catch (e) {
      failed++;
      console.log(`FAIL  ${which}: ${what}\n${e?.stack ?? e}`);
    }
  }
  await c.client.dispose();
}
process.exit(failed > 0 ? 1 : 0);
