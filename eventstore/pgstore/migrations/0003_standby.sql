-- seen reports whether a transaction with this number, or a later one, is known here:
-- txid_status refuses those that are in the future.
CREATE FUNCTION @schema@.seen(xid bigint) RETURNS boolean LANGUAGE plpgsql AS $fn$
BEGIN
    PERFORM txid_status(xid);
    RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN false;
END $fn$;

-- next_xid returns the first number that no transaction known here has. On a hot standby, where
-- none can be taken to see, it is looked for, from the last transaction that has ended on.
CREATE FUNCTION @schema@.next_xid() RETURNS bigint LANGUAGE plpgsql AS $fn$
DECLARE
    low  bigint := txid_snapshot_xmax(txid_current_snapshot()) - 1;
    step bigint := 1;
    high bigint;
    mid  bigint;
BEGIN
    LOOP
        high := low + step;
        EXIT WHEN NOT @schema@.seen(high);
        low := high;
        step := 2 * step;
    END LOOP;
    WHILE low + 1 < high LOOP
        mid := low + (high - low) / 2;
        IF @schema@.seen(mid) THEN
            low := mid;
        ELSE
            high := mid;
        END IF;
    END LOOP;
    RETURN high;
END $fn$;

-- head returns horizon, a position at and below which nothing is in flight, and
-- last, that of the last event there. Whoever looks after that sees all of it that
-- there will ever be: what was not registered when the locks were read has either
-- ended, or will be given positions above the one that was read before.
--
-- known is a horizon of before, or 0. The locks, which are those of the whole
-- server, are read only if positions were given out since.
--
-- A hot standby does not have the locks of the primary. But all who were given positions up to
-- the one that it has replayed wrote something, with their numbers, before: so it knows them, and when all
-- transactions that it knew then have ended, in what it has replayed since, they have.
-- It waits a little for that. Transactions that write anything, in any database of the
-- server, count; if one of them takes long, horizon is the one known.
CREATE OR REPLACE FUNCTION @schema@.head(known bigint, OUT horizon bigint, OUT last bigint) LANGUAGE plpgsql AS $fn$
DECLARE
    high  bigint;
    low   bigint;
    next  bigint;
    until timestamptz;
BEGIN
    PERFORM @schema@.check_isolation();
    SELECT last_value INTO high FROM @schema@.positions;
    IF high <> known AND pg_is_in_recovery() THEN
        next := @schema@.next_xid();
        until := clock_timestamp() + interval '100 ms';
        WHILE txid_snapshot_xmin(txid_current_snapshot()) < next LOOP
            IF clock_timestamp() > until THEN
                IF known = 0 THEN
                    RAISE EXCEPTION 'a hot standby cannot tell what is in flight: a transaction that writes has been running on the primary since before it was asked'
                        USING ERRCODE = 'LV002';
                END IF;
                low := known;
                EXIT;
            END IF;
            PERFORM pg_sleep(0.001);
        END LOOP;
    ELSIF high <> known THEN
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
