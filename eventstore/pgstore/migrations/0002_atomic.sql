-- append_atomic is append of all or none: failed is the number of the first append that
-- cannot be made, NULL if all were. Of it actual has the version of its stream, before
-- has -2 if that was purged. The streams of the appends are distinct. All locks are taken
-- before anything is looked at, as append would take them; append has them already.
CREATE FUNCTION @schema@.append_atomic(
    names text[], slots int[], tag_names text[],
    append_stream int[], append_expected bigint[], append_events int[],
    event_append int[], event_number int[], event_id uuid[], event_correlation uuid[], event_causation uuid[],
    event_type text[], event_content text[], event_metadata text[], event_tags text[], event_data bytea[],
    mark_event int[], mark_tag int[],
    OUT before bigint[], OUT actual bigint[], OUT first bigint, OUT recorded timestamptz, OUT failed bigint)
    LANGUAGE plpgsql
    SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $fn$
#variable_conflict use_column
DECLARE
    versions bigint[];
    origins  bigint[];
    purges   boolean[];
    stream   int;
    at       bigint;
    expected bigint;
BEGIN
    PERFORM @schema@.check_isolation();
    PERFORM @schema@.lock_types(slots);
    IF cardinality(tag_names) > 0 THEN
        PERFORM @schema@.lock_tags(tag_names);
    END IF;
    SELECT l.versions, l.origins, l.purges INTO versions, origins, purges FROM @schema@.lock_streams(names) AS l;

    FOR i IN 1 .. cardinality(append_stream) LOOP
        stream := append_stream[i];
        at := CASE WHEN versions[stream] = origins[stream] THEN 0 ELSE versions[stream] END;
        expected := append_expected[i];
        IF purges[stream] OR NOT (expected = 0 OR expected = at AND at > 0 OR expected = -1 AND at = 0 OR expected = -2 AND at > 0) THEN
            failed := i;
            before := ARRAY[CASE WHEN purges[stream] THEN -2 ELSE -1 END];
            actual := ARRAY[at];
            RETURN;
        END IF;
    END LOOP;
    SELECT a.before, a.actual, a.first, a.recorded INTO before, actual, first, recorded
      FROM @schema@.append(names, slots, tag_names, append_stream, append_expected, append_events,
           event_append, event_number, event_id, event_correlation, event_causation,
           event_type, event_content, event_metadata, event_tags, event_data, mark_event, mark_tag) AS a;
END $fn$;
