-- The append lock is held from the append to the commit, and meanwhile nobody else appends. How long that may take.

-- For who has just taken the lock: what the rest of its transaction may take. A statement that is under way is not cut
-- short by a limit that it sets itself, nor are many short ones together: for these a service ends its own sessions that
-- hold the lock for too long (chassis/probe.py), and Postgres 17 ends the transaction. A restore, which puts back a whole
-- tail as the owner, may take as long as it takes: nothing is accepted meanwhile anyway.
CREATE FUNCTION limit_append_lock() RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- A process that is frozen between its append and its commit holds up every writer: not for long.
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    IF current_user = 'millrace_owner' THEN
        RETURN;
    END IF;
    IF current_setting('statement_timeout')::interval NOT BETWEEN '1ms' AND '10s' THEN
        PERFORM set_config('statement_timeout', '10s', true);
    END IF;
    IF current_setting('server_version_num')::int >= 170000 THEN
        PERFORM set_config('transaction_timeout', '15s', true);
    END IF;
END $$;

-- As in migration 0004, and limited.
CREATE OR REPLACE FUNCTION take_append_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('millrace.replay', true) = 'on' THEN
        RAISE EXCEPTION 'a replay appends no events'
            USING ERRCODE = 'insufficient_privilege', HINT = 'A read model''s apply may only change its own tables.';
    END IF;
    PERFORM pg_advisory_xact_lock(7815263014);
    PERFORM public.limit_append_lock();
    RETURN NULL;
END $$;

-- Who holds the append lock; no row: nobody. `hold` is another one with each transaction: the same value seen twice is
-- one hold. For how long it lasts Postgres does not keep.
CREATE FUNCTION append_lock_holder() RETURNS TABLE (pid integer, login text, application text, hold text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.pid, a.usename::text, a.application_name, l.pid || ' ' || l.virtualtransaction
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND (l.classid::bigint << 32) | l.objid::bigint = 7815263014
    LIMIT 1
$$;

REVOKE EXECUTE ON FUNCTION limit_append_lock, append_lock_holder FROM PUBLIC;
GRANT EXECUTE ON FUNCTION limit_append_lock, append_lock_holder TO millrace_service;
GRANT EXECUTE ON FUNCTION append_lock_holder TO millrace_reader, millrace_board;

-- As in migration 0002. It refuses while the store is not what it was (SQLSTATE MR001, with the reason), its lock is limited,
-- and another isolation is refused with a SQLSTATE of its own.
CREATE OR REPLACE FUNCTION append_events(
    p_request int[], p_stream text[], p_expected int[],
    e_append int[], e_nth int[], e_id uuid[], e_type text[], e_schema_version int[], e_data text[], e_metadata text[]
) RETURNS TABLE (outcome text, stream_id text, version int, "position" bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    outcomes     text[];
    out_stream   text[];
    out_version  int[];
    out_position bigint[];
    refusal      text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'append_events needs a READ COMMITTED transaction: it must see what was committed while it waited'
            USING ERRCODE = 'invalid_transaction_state';  -- the caller's mistake, not that of the events
    END IF;
    -- From here to the commit nobody else appends, and the next statement's snapshot is younger than the lock:
    -- the versions and event ids that it sees are the latest.
    PERFORM pg_advisory_xact_lock(7815263014);
    PERFORM public.limit_append_lock();
    -- Behind the lock, so that nothing is appended once somebody has noted that the store went back.
    refusal := public.store_refusal();
    IF refusal IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'MR001', MESSAGE = refusal;
    END IF;

    WITH known AS MATERIALIZED (
        SELECT e.append, count(*) AS events, count(old.position) AS old_events, count(DISTINCT old.stream_id) AS old_streams,
               min(old.stream_id) AS stream_id, min(old.version) AS first_version, max(old.version) AS version,
               max(old.position) AS position
        FROM unnest(e_append, e_id) AS e (append, id)
        LEFT JOIN LATERAL (
            SELECT ev.position, ev.stream_id, ev.version FROM public.events ev WHERE ev.event_id = e.id LIMIT 1
        ) AS old ON true
        GROUP BY e.append
    ), judged AS (
        SELECT p.nth, p.request, p.stream_id, head.version AS head, known.stream_id AS old_stream,
               known.version AS old_version, known.position AS old_position,
               CASE
                   WHEN known.old_events = 0 THEN
                       CASE WHEN p.expected IN (-1, head.version) THEN 'appended' ELSE 'conflict' END
                   WHEN known.old_events = known.events AND known.old_streams = 1
                        AND known.version - known.first_version + 1 = known.events THEN 'replayed'
                   ELSE 'reused_ids'
               END AS outcome
        FROM unnest(p_request, p_stream, p_expected) WITH ORDINALITY AS p (request, stream_id, expected, nth)
        JOIN known ON known.append = p.nth
        CROSS JOIN LATERAL (
            SELECT coalesce((SELECT ev.version FROM public.events ev WHERE ev.stream_id = p.stream_id
                             ORDER BY ev.version DESC LIMIT 1), 0) AS version
        ) AS head
    ), settled AS (
        SELECT *,
               CASE
                   WHEN outcome IN ('conflict', 'reused_ids') THEN outcome
                   WHEN bool_or(outcome IN ('conflict', 'reused_ids')) OVER request THEN 'withheld'
                   WHEN bool_or(outcome = 'replayed') OVER request AND bool_or(outcome = 'appended') OVER request
                       THEN 'reused_ids'
                   ELSE outcome
               END AS final
        FROM judged WINDOW request AS (PARTITION BY request)
    )
    SELECT array_agg(final ORDER BY nth),
           array_agg(CASE final WHEN 'replayed' THEN old_stream ELSE stream_id END ORDER BY nth),
           array_agg(CASE final WHEN 'replayed' THEN old_version ELSE head END ORDER BY nth),
           array_agg(CASE final WHEN 'replayed' THEN old_position END ORDER BY nth)
    INTO outcomes, out_stream, out_version, out_position
    FROM settled;

    RETURN QUERY
    WITH inserted AS (
        INSERT INTO public.events (stream_id, version, event_id, type, schema_version, data, metadata)
        SELECT out_stream[e.append], out_version[e.append] + e.nth, e.id, e.type, e.schema_version,
               e.data::json, e.metadata::json
        FROM unnest(e_append, e_nth, e_id, e_type, e_schema_version, e_data, e_metadata) WITH ORDINALITY
             AS e (append, nth, id, type, schema_version, data, metadata, ordinal)
        WHERE outcomes[e.append] = 'appended'
        ORDER BY e.ordinal  -- positions are drawn in this order
        RETURNING stream_id, version, position
    ), last AS (
        SELECT stream_id, max(version) AS version, max(position) AS position FROM inserted GROUP BY stream_id
    )
    SELECT o.outcome, o.stream_id, coalesce(last.version, o.version), coalesce(last.position, o.position)
    FROM unnest(outcomes, out_stream, out_version, out_position) WITH ORDINALITY
         AS o (outcome, stream_id, version, position, nth)
    LEFT JOIN last ON o.outcome = 'appended' AND last.stream_id = o.stream_id
    ORDER BY o.nth;
END $$;
