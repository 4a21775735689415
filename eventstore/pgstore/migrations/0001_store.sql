-- The schema of an event store. @schema@ stands for its quoted name, @literal@
-- for its name as a string, @positions@ and @events@ for the names of these as
-- strings; $fn$ for a quote that the name of the schema does not contain.

-- Where streams stand. A row is locked by whoever appends to its stream; a row at
-- version 0 is of no stream. Rows stay for good.
CREATE TABLE @schema@.streams (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text COLLATE "C" NOT NULL UNIQUE,
    category text COLLATE "C" NOT NULL,
    version  bigint NOT NULL DEFAULT 0,        -- of the last event ever appended
    first    bigint NOT NULL DEFAULT 1,        -- of the first event that is left
    origin   bigint NOT NULL DEFAULT 0,        -- the version at the last deletion
    purged   boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70);
CREATE INDEX streams_by_category ON @schema@.streams (category, name);

-- The log.
CREATE TABLE @schema@.events (
    position     bigint PRIMARY KEY,
    time         timestamptz NOT NULL,
    stream_id    bigint NOT NULL,
    version      bigint NOT NULL,
    id           uuid NOT NULL,
    correlation  uuid,
    causation    uuid,
    stream       text COLLATE "C" NOT NULL,
    category     text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL,
    content_type text COLLATE "C" NOT NULL,
    metadata     text COLLATE "C",              -- a JSON object of strings
    tags         text COLLATE "C",              -- a JSON array of strings
    data         bytea NOT NULL,
    UNIQUE (stream_id, version)
);
CREATE INDEX events_by_category ON @schema@.events (category, position);
CREATE INDEX events_by_type ON @schema@.events (type, position);

-- Where positions come from: take and head, and nothing else, use it.
CREATE SEQUENCE @schema@.positions AS bigint MINVALUE 0 START 0 CACHE 1 NO CYCLE;
SELECT setval(@positions@, 0, true);

-- Tags, and where they are. A row of tags is locked by whoever appends an event
-- with it, shared, or under a condition on it, alone.
CREATE TABLE @schema@.tags (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);
CREATE TABLE @schema@.event_tags (
    tag_id   bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag_id, position)
);

CREATE TABLE @schema@.snapshots (
    stream  text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    schema  bigint NOT NULL,
    data    bytea NOT NULL
);
CREATE TABLE @schema@.checkpoints (
    name     text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    fence    bigint NOT NULL,
    data     bytea NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE @schema@.leases (
    name    text COLLATE "C" PRIMARY KEY,
    owner   text COLLATE "C",                   -- NULL once released
    fence   bigint NOT NULL,
    expires timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Events are facts. They are removed by truncate, delete and purge alone, which
-- say so for as long as they are at it.
CREATE FUNCTION @schema@.refuse() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('levada.removing', true) = @literal@ THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'events of an event store are never changed: % refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END $fn$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON @schema@.events
    FOR EACH STATEMENT EXECUTE FUNCTION @schema@.refuse();

-- low32 returns the last 32 bits of a number, with sign: half of a key of an
-- advisory lock.
CREATE FUNCTION @schema@.low32(n bigint) RETURNS int LANGUAGE sql IMMUTABLE
    AS $fn$ SELECT ((n << 32) >> 32)::int $fn$;

-- check_isolation makes sure that each statement of a function sees what was
-- committed before it, on which every rule about locks in this schema rests.
CREATE FUNCTION @schema@.check_isolation() RETURNS void LANGUAGE plpgsql AS $fn$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'an event store needs transactions that are READ COMMITTED, not %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'LV003';
    END IF;
END $fn$;

-- take registers the caller's transaction as in flight above the last position
-- given out, and gives it n positions, which follow on each other, from first on,
-- and the time of its events. The registration is a shared advisory lock, which
-- ends with the transaction, after what it wrote can be seen.
--
-- Positions and time are taken together, so that times are in the order of
-- positions. The lock for that is held for the moment only: it belongs to a
-- subtransaction, whose end lets it go, and what a sequence has given stays given.
CREATE FUNCTION @schema@.take(n bigint, OUT first bigint, OUT recorded timestamptz) LANGUAGE plpgsql AS $fn$
DECLARE
    low    bigint;
    latest timestamptz;  -- whatever the clock says, time does not go back
BEGIN
    SELECT last_value INTO low FROM @schema@.positions;
    PERFORM pg_advisory_xact_lock_shared(@schema@.low32(@positions@::regclass::oid::bigint), @schema@.low32(low));
    SELECT e.time INTO latest FROM @schema@.events e ORDER BY e.position DESC LIMIT 1;
    BEGIN
        PERFORM pg_advisory_xact_lock(@schema@.low32(@events@::regclass::oid::bigint), 0);
        SELECT last_value + 1, clock_timestamp() INTO first, recorded FROM @schema@.positions;
        PERFORM setval(@positions@, first + n - 1, true);
        RAISE EXCEPTION USING ERRCODE = 'LV000';
    EXCEPTION WHEN SQLSTATE 'LV000' THEN
        NULL;
    END;
    recorded := greatest(recorded, latest);
END $fn$;

-- head returns horizon, a position at and below which nothing is in flight, and
-- last, that of the last event there. Whoever looks after that sees all of it that
-- there will ever be: what was not registered when the locks were read has either
-- ended, or will be given positions above the one that was read before.
--
-- known is a horizon of before, or 0. The locks, which are those of the whole
-- server, are read only if positions were given out since.
CREATE FUNCTION @schema@.head(known bigint, OUT horizon bigint, OUT last bigint) LANGUAGE plpgsql AS $fn$
DECLARE
    high bigint;
    low  bigint;
BEGIN
    PERFORM @schema@.check_isolation();
    IF pg_is_in_recovery() THEN
        -- The locks are those of the primary, which cannot be seen from here.
        RAISE EXCEPTION 'a hot standby cannot tell what is in flight' USING ERRCODE = 'LV002';
    END IF;
    SELECT last_value INTO high FROM @schema@.positions;
    IF high <> known THEN
        -- The locks have the last 32 bits of a position, which is within 2^31 of high.
        SELECT high + min(@schema@.low32(objid::bigint - high)) INTO low
          FROM pg_locks
         WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock' AND granted
           AND classid = @positions@::regclass::oid
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    END IF;
    horizon := least(high, low);
    last := coalesce((SELECT max(position) FROM @schema@.events WHERE position <= horizon), 0);
END $fn$;

-- lock_types locks slots of event types in their order: shared by whoever appends
-- events of them, exclusive, the negative ones, under a condition on types alone.
CREATE FUNCTION @schema@.lock_types(slots int[]) RETURNS void LANGUAGE plpgsql AS $fn$
DECLARE
    class int := @schema@.low32(@events@::regclass::oid::bigint);
    slot  int;
BEGIN
    FOREACH slot IN ARRAY slots LOOP
        IF slot > 0 THEN
            PERFORM pg_advisory_xact_lock_shared(class, slot);
        ELSE
            PERFORM pg_advisory_xact_lock(class, -slot);
        END IF;
    END LOOP;
END $fn$;

-- The functions up to append_if find rows by index, whatever the planner thinks of tables
-- that have grown since it looked; their plans are made once a connection. The settings
-- for that are those of lock, append and append_if, which call the others.

-- make_tags makes the rows of tags, which are sorted and distinct, where there are
-- none.
CREATE FUNCTION @schema@.make_tags(names text[]) RETURNS void LANGUAGE plpgsql AS $fn$
BEGIN
    INSERT INTO @schema@.tags (name)
    SELECT u.name FROM unnest(names) AS u (name)
     WHERE NOT EXISTS (SELECT FROM @schema@.tags t WHERE t.name = u.name)
     ORDER BY u.name COLLATE "C"
        ON CONFLICT (name) DO NOTHING;
END $fn$;

-- lock_tags makes and locks the tags of events, which are sorted and distinct, and
-- returns their ids. What is inserted is inserted before anything is locked, both in
-- the order of names, so that no two callers wait for each other. Those who only mark
-- events with a tag do not wait for each other either, once it is there.
CREATE FUNCTION @schema@.lock_tags(names text[]) RETURNS bigint[] LANGUAGE plpgsql AS $fn$
BEGIN
    PERFORM @schema@.make_tags(names);
    RETURN ARRAY(SELECT l.id FROM
        (SELECT t.id FROM @schema@.tags t WHERE t.name = ANY (names) ORDER BY t.name FOR SHARE) AS l);
END $fn$;

-- lock_condition locks the tags of a condition and those of the events that are
-- appended under it, and returns the ids of the former. Of each item one tag is
-- enough, since an event that it selects bears all of them; the one that was quiet
-- for longest is likely to keep the fewest waiting.
CREATE FUNCTION @schema@.lock_condition(items json, names text[], marks text[]) RETURNS bigint[] LANGUAGE plpgsql AS $fn$
DECLARE
    sorted text[] := ARRAY(SELECT DISTINCT u.name COLLATE "C" FROM unnest(names || marks) AS u (name) ORDER BY 1);
    ids    bigint[];
    alone  text[] := '{}';
    item   json;
    tag    int;
    last   bigint;
    chosen int;
    oldest bigint;
    one    text;
BEGIN
    PERFORM @schema@.make_tags(sorted);
    ids := ARRAY(SELECT (SELECT t.id FROM @schema@.tags t WHERE t.name = u.name) FROM unnest(names) WITH ORDINALITY AS u (name, n) ORDER BY u.n);
    FOR item IN SELECT value FROM json_array_elements(items) LOOP
        oldest := NULL;
        FOR tag IN SELECT value::int FROM json_array_elements_text(item -> 'tags') LOOP
            SELECT coalesce(max(t.position), 0) INTO last FROM @schema@.event_tags t WHERE t.tag_id = ids[tag];
            IF oldest IS NULL OR last < oldest THEN
                oldest := last;
                chosen := tag;
            END IF;
        END LOOP;
        IF oldest IS NOT NULL THEN
            alone := alone || names[chosen];
        END IF;
    END LOOP;
    FOREACH one IN ARRAY sorted LOOP
        IF one = ANY (alone) THEN
            PERFORM FROM @schema@.tags t WHERE t.name = one FOR NO KEY UPDATE;
        ELSIF one = ANY (marks) THEN
            PERFORM FROM @schema@.tags t WHERE t.name = one FOR SHARE;
        END IF;
    END LOOP;
    RETURN ids;
END $fn$;

-- lock_streams makes and locks the rows of streams, which are sorted and distinct,
-- as lock_tags does, and returns where they stand.
CREATE FUNCTION @schema@.lock_streams(names text[], OUT ids bigint[], OUT versions bigint[], OUT origins bigint[], OUT purges boolean[])
    LANGUAGE plpgsql AS $fn$
BEGIN
    INSERT INTO @schema@.streams (name, category)
    SELECT u.name, split_part(u.name, '-', 1) FROM unnest(names) AS u (name)
     WHERE NOT EXISTS (SELECT FROM @schema@.streams s WHERE s.name = u.name)
     ORDER BY u.name COLLATE "C"
        ON CONFLICT (name) DO NOTHING;
    SELECT array_agg(l.id), array_agg(l.version), array_agg(l.origin), array_agg(l.purged) INTO ids, versions, origins, purges FROM
        (SELECT s.id, s.version, s.origin, s.purged FROM @schema@.streams s
          WHERE s.name = ANY (names) ORDER BY s.name FOR NO KEY UPDATE) AS l;
END $fn$;

-- lock takes all locks of a batch but that of its positions.
CREATE FUNCTION @schema@.lock(slots int[], tag_names text[], names text[]) RETURNS void LANGUAGE plpgsql
    SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $fn$
BEGIN
    PERFORM @schema@.lock_types(slots);
    PERFORM @schema@.lock_tags(tag_names);
    PERFORM @schema@.lock_streams(names);
END $fn$;

-- append makes a batch of appends, each of which sees those before it and fails
-- alone. Locks are taken in one order by everybody: types, tags, streams, and
-- then positions, each sorted.
--
-- names, slots and tag_names are the distinct streams, types and tags of the batch.
-- An append has the number of its stream in names, what it expects, and how many
-- events it has; an event the number of its append, and its own within that; a mark
-- is the number of an event and of its tag in tag_names. Numbers begin at 1.
--
-- before has the version that each stream had before, -1 for a conflict with what
-- actual says, -2 if it was purged. The events that were written have the positions
-- from first on, and the time recorded.
CREATE FUNCTION @schema@.append(
    names text[], slots int[], tag_names text[],
    append_stream int[], append_expected bigint[], append_events int[],
    event_append int[], event_number int[], event_id uuid[], event_correlation uuid[], event_causation uuid[],
    event_type text[], event_content text[], event_metadata text[], event_tags text[], event_data bytea[],
    mark_event int[], mark_tag int[],
    OUT before bigint[], OUT actual bigint[], OUT first bigint, OUT recorded timestamptz)
    LANGUAGE plpgsql
    SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $fn$
#variable_conflict use_column
DECLARE
    tag_ids  bigint[];
    ids      bigint[];
    versions bigint[];
    origins  bigint[];
    purges   boolean[];
    skip     bigint[];  -- by append: positions of those before it
    total    bigint := 0;
    stream   int;
    at       bigint;
    expected bigint;
BEGIN
    PERFORM @schema@.check_isolation();
    -- The commit must be durable before anybody is told, whatever the default is.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM @schema@.lock_types(slots);
    IF cardinality(tag_names) > 0 THEN
        tag_ids := @schema@.lock_tags(tag_names);
    END IF;
    SELECT l.ids, l.versions, l.origins, l.purges INTO ids, versions, origins, purges FROM @schema@.lock_streams(names) AS l;

    FOR i IN 1 .. cardinality(append_stream) LOOP
        stream := append_stream[i];
        skip[i] := total;
        IF purges[stream] THEN
            before[i] := -2;
            actual[i] := 0;
            CONTINUE;
        END IF;
        at := versions[stream];
        before[i] := at;
        IF at = origins[stream] THEN
            at := 0;
        END IF;
        actual[i] := at;
        expected := append_expected[i];
        IF expected = 0 OR expected = at AND at > 0 OR expected = -1 AND at = 0 OR expected = -2 AND at > 0 THEN
            versions[stream] := before[i] + append_events[i];
            total := total + append_events[i];
        ELSE
            before[i] := -1;
        END IF;
    END LOOP;
    IF total = 0 THEN
        RETURN;
    END IF;

    SELECT t.first, t.recorded INTO first, recorded FROM @schema@.take(total) AS t;
    INSERT INTO @schema@.events (position, time, stream_id, version, id, correlation, causation,
           stream, category, type, content_type, metadata, tags, data)
    SELECT first + skip[u.append] + u.number - 1, recorded, ids[append_stream[u.append]], before[u.append] + u.number, u.id, u.correlation, u.causation,
           names[append_stream[u.append]], split_part(names[append_stream[u.append]], '-', 1), u.type, u.content, u.metadata, u.tags, u.data
      FROM unnest(event_append, event_number, event_id, event_correlation, event_causation, event_type, event_content, event_metadata, event_tags, event_data)
           AS u (append, number, id, correlation, causation, type, content, metadata, tags, data)
     WHERE before[u.append] >= 0;
    IF cardinality(mark_event) > 0 THEN
        INSERT INTO @schema@.event_tags (tag_id, position)
        SELECT tag_ids[u.tag], first + skip[event_append[u.event]] + event_number[u.event] - 1
          FROM unnest(mark_event, mark_tag) AS u (event, tag)
         WHERE before[event_append[u.event]] >= 0;
    END IF;
    UPDATE @schema@.streams s SET version = u.version
      FROM unnest(ids, versions) AS u (id, version)
     WHERE s.id = u.id AND s.version <> u.version;
END $fn$;

-- find returns the position of the first event above after that an item of a
-- condition selects, NULL if there is none. Items have names of types and numbers
-- of tags.
CREATE FUNCTION @schema@.find(items json, tag_ids bigint[], after bigint) RETURNS bigint LANGUAGE plpgsql AS $fn$
DECLARE
    item  json;
    types text[];
    tags  bigint[];
    rare  bigint;
    last  bigint;
    oldest bigint;
    first bigint;
    found bigint;
BEGIN
    FOR item IN SELECT value FROM json_array_elements(items) LOOP
        types := ARRAY(SELECT json_array_elements_text(item -> 'types'));
        tags := ARRAY(SELECT tag_ids[t::int] FROM json_array_elements_text(item -> 'tags') AS t);
        found := NULL;
        IF cardinality(tags) > 0 THEN
            -- Begin with the tag that was quiet for longest.
            oldest := NULL;
            FOR i IN 1 .. cardinality(tags) LOOP
                SELECT max(t.position) INTO last FROM @schema@.event_tags t WHERE t.tag_id = tags[i];
                IF oldest IS NULL OR coalesce(last, 0) < oldest THEN
                    oldest := coalesce(last, 0);
                    rare := tags[i];
                END IF;
            END LOOP;
            IF oldest > after THEN
                SELECT t.position INTO found FROM @schema@.event_tags t
                 WHERE t.tag_id = rare AND t.position > after
                   AND (cardinality(types) = 0 OR (SELECT e.type FROM @schema@.events e WHERE e.position = t.position) = ANY (types))
                   AND (cardinality(tags) = 1 OR (SELECT count(*) FROM @schema@.event_tags x
                         WHERE x.position = t.position AND x.tag_id = ANY (tags)) = cardinality(tags))
                 ORDER BY t.position LIMIT 1;
            END IF;
        ELSIF cardinality(types) > 0 THEN
            SELECT min(f.position) INTO found FROM unnest(types) AS u (type) CROSS JOIN LATERAL
                (SELECT e.position FROM @schema@.events e WHERE e.type = u.type AND e.position > after
                  ORDER BY e.type, e.position LIMIT 1) AS f;
        ELSE
            SELECT e.position INTO found FROM @schema@.events e WHERE e.position > after ORDER BY e.position LIMIT 1;
        END IF;
        first := least(first, found);
    END LOOP;
    RETURN first;
END $fn$;

-- append_if is append of events that go to the ends of their streams, all or none,
-- unless an item of a condition selects an event above after: then conflict is the
-- position of the first.
--
-- Whoever appends an event that an item selects holds the rows of all of the item's
-- tags, or the slot of its type if the item has no tags, shared; append_if has one of
-- them alone from before it looks until it has committed.
CREATE FUNCTION @schema@.append_if(
    items json, after bigint, condition_slots int[], condition_tags text[],
    names text[], slots int[], tag_names text[],
    append_stream int[], append_expected bigint[], append_events int[],
    event_append int[], event_number int[], event_id uuid[], event_correlation uuid[], event_causation uuid[],
    event_type text[], event_content text[], event_metadata text[], event_tags text[], event_data bytea[],
    mark_event int[], mark_tag int[],
    OUT before bigint[], OUT actual bigint[], OUT first bigint, OUT recorded timestamptz, OUT conflict bigint)
    LANGUAGE plpgsql
    SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $fn$
#variable_conflict use_column
DECLARE
    tag_ids bigint[];
BEGIN
    PERFORM @schema@.check_isolation();
    PERFORM @schema@.lock_types(condition_slots);
    tag_ids := @schema@.lock_condition(items, condition_tags, tag_names);
    conflict := @schema@.find(items, tag_ids, after);
    IF conflict IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT a.before, a.actual, a.first, a.recorded INTO before, actual, first, recorded
      FROM @schema@.append(names, slots, tag_names, append_stream, append_expected, append_events,
           event_append, event_number, event_id, event_correlation, event_causation,
           event_type, event_content, event_metadata, event_tags, event_data, mark_event, mark_tag) AS a;
    IF -2 = ANY (before) THEN
        RAISE EXCEPTION 'a stream was purged' USING ERRCODE = 'LV001';
    END IF;
END $fn$;

-- remove removes events of a stream below a version.
CREATE FUNCTION @schema@.remove(stream_number bigint, below bigint) RETURNS void LANGUAGE plpgsql
    SET jit = off SET enable_seqscan = off AS $fn$
BEGIN
    DELETE FROM @schema@.event_tags t
     USING @schema@.events e, json_array_elements_text(e.tags::json) AS n (name), @schema@.tags g
     WHERE e.stream_id = stream_number AND e.version < below AND e.tags IS NOT NULL
       AND g.name = n.name AND t.tag_id = g.id AND t.position = e.position;
    PERFORM set_config('levada.removing', @literal@, true);
    DELETE FROM @schema@.events e WHERE e.stream_id = stream_number AND e.version < below;
    PERFORM set_config('levada.removing', '', true);
END $fn$;

-- truncate lets a stream begin at a version. It returns 'none' for one that does
-- not exist, 'past' for a version beyond its end.
CREATE FUNCTION @schema@.truncate(stream_name text, below bigint) RETURNS text LANGUAGE plpgsql AS $fn$
DECLARE
    s @schema@.streams;
BEGIN
    PERFORM @schema@.check_isolation();
    SELECT * INTO s FROM @schema@.streams WHERE name = stream_name FOR NO KEY UPDATE;
    IF s.purged THEN
        RAISE EXCEPTION 'the stream was purged' USING ERRCODE = 'LV001';
    ELSIF s.id IS NULL OR s.version = 0 THEN
        RETURN 'none';
    ELSIF below > s.version + 1 THEN
        RETURN 'past';
    ELSIF below > s.first THEN
        PERFORM @schema@.remove(s.id, below);
        UPDATE @schema@.streams SET first = below WHERE id = s.id;
    END IF;
    RETURN '';
END $fn$;

-- delete removes all events of a stream, which counts as absent then. It returns
-- the version of a stream that is not as expected.
CREATE FUNCTION @schema@.delete(stream_name text, expected bigint) RETURNS bigint LANGUAGE plpgsql AS $fn$
DECLARE
    s  @schema@.streams;
    at bigint;
BEGIN
    PERFORM @schema@.check_isolation();
    SELECT * INTO s FROM @schema@.streams WHERE name = stream_name FOR NO KEY UPDATE;
    IF s.purged THEN
        RAISE EXCEPTION 'the stream was purged' USING ERRCODE = 'LV001';
    END IF;
    at := CASE WHEN s.id IS NULL OR s.version = s.origin THEN 0 ELSE s.version END;
    IF NOT (expected = 0 OR expected = at AND at > 0 OR expected = -1 AND at = 0 OR expected = -2 AND at > 0) THEN
        RETURN at;
    END IF;
    IF at > 0 THEN
        PERFORM @schema@.remove(s.id, s.version + 1);
        UPDATE @schema@.streams SET first = version + 1, origin = version WHERE id = s.id;
    END IF;
    RETURN NULL;
END $fn$;

-- purge removes all that there is of a stream, which nobody can use again.
CREATE FUNCTION @schema@.purge(stream_name text) RETURNS void LANGUAGE plpgsql AS $fn$
DECLARE
    s @schema@.streams;
BEGIN
    PERFORM @schema@.check_isolation();
    INSERT INTO @schema@.streams (name, category) VALUES (stream_name, split_part(stream_name, '-', 1)) ON CONFLICT (name) DO NOTHING;
    SELECT * INTO s FROM @schema@.streams WHERE name = stream_name FOR UPDATE;
    PERFORM @schema@.remove(s.id, s.version + 1);
    DELETE FROM @schema@.snapshots WHERE stream = stream_name;
    UPDATE @schema@.streams SET purged = true, first = version + 1, origin = version WHERE id = s.id;
END $fn$;

-- save_snapshot replaces a snapshot, unless that of a later version is there. The
-- stream's row keeps a purge away.
CREATE FUNCTION @schema@.save_snapshot(stream_name text, new_version bigint, new_schema bigint, new_data bytea) RETURNS void LANGUAGE plpgsql AS $fn$
DECLARE
    s @schema@.streams;
BEGIN
    PERFORM @schema@.check_isolation();
    INSERT INTO @schema@.streams (name, category) VALUES (stream_name, split_part(stream_name, '-', 1)) ON CONFLICT (name) DO NOTHING;
    SELECT * INTO s FROM @schema@.streams WHERE name = stream_name FOR KEY SHARE;
    IF s.purged THEN
        RAISE EXCEPTION 'the stream was purged' USING ERRCODE = 'LV001';
    END IF;
    INSERT INTO @schema@.snapshots AS n (stream, version, schema, data)
    VALUES (stream_name, new_version, new_schema, new_data)
        ON CONFLICT (stream) DO UPDATE SET version = excluded.version, schema = excluded.schema, data = excluded.data
     WHERE n.version <= excluded.version;
END $fn$;

-- version_at returns the last version of a stream that lies at or below a
-- position, or one below its first version: by halving, since versions are dense
-- and in the order of positions.
CREATE FUNCTION @schema@.version_at(stream_number bigint, place bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $fn$
DECLARE
    low  bigint;
    high bigint;
    mid  bigint;
BEGIN
    SELECT first - 1, version INTO low, high FROM @schema@.streams WHERE id = stream_number;
    WHILE low < high LOOP
        mid := high - (high - low) / 2;
        IF (SELECT e.position FROM @schema@.events e WHERE e.stream_id = stream_number AND e.version = mid) <= place THEN
            low := mid;
        ELSE
            high := mid - 1;
        END IF;
    END LOOP;
    RETURN low;
END $fn$;

-- position_at returns the position of the last event before the first one that was
-- recorded at or after a time, by halving: times are in the order of positions.
CREATE FUNCTION @schema@.position_at(moment timestamptz) RETURNS bigint LANGUAGE plpgsql
    SET jit = off SET enable_seqscan = off AS $fn$
DECLARE
    low   bigint := 0;  -- at and below which all is from before
    above bigint := (SELECT h.last + 1 FROM @schema@.head(0) AS h);
    mid   bigint;
    e     record;
BEGIN
    WHILE low + 1 < above LOOP
        mid := low + (above - low) / 2;
        SELECT position, time INTO e FROM @schema@.events WHERE position >= mid AND position < above ORDER BY position LIMIT 1;
        IF FOUND AND e.time < moment THEN
            low := e.position;
        ELSE
            above := mid;
        END IF;
    END LOOP;
    RETURN low;
END $fn$;

-- text_of and json_of show data to people: as NULL where it is something else.
CREATE FUNCTION @schema@.text_of(data bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $fn$
BEGIN
    RETURN convert_from(data, 'UTF8');
EXCEPTION WHEN others THEN
    RETURN NULL;
END $fn$;
CREATE FUNCTION @schema@.json_of(value text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $fn$
BEGIN
    RETURN value::jsonb;
EXCEPTION WHEN others THEN
    RETURN NULL;
END $fn$;

CREATE VIEW @schema@.event_log AS
SELECT position, stream, version, type, time,
       CASE WHEN content_type ~* '^application/([^;]*\+)?json' THEN @schema@.json_of(@schema@.text_of(data)) END AS data,
       @schema@.text_of(data) AS text, content_type,
       @schema@.json_of(metadata) AS metadata, @schema@.json_of(tags) AS tags,
       category, id, correlation, causation, octet_length(data) AS bytes
  FROM @schema@.events;
