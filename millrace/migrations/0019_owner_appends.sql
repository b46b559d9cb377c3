-- What the service's login may write of an event is decided here, by the owner's functions, and not by the login: it loses
-- the right to insert (0020). And the append lock becomes one that only the owner can take: an advisory lock is there for
-- every login, and the board's could stop every append with one statement.

-- Calls of the version before that are under way hold the advisory lock, or wait for it: the former have committed when this
-- has it, the latter go on afterwards, and meet the new lock in the trigger, before they draw a position.
SELECT pg_advisory_xact_lock(7815263014);

-- The append lock. It has no rows, and nobody has a right to it, so nobody but the owner can lock it.
CREATE TABLE append_lock ();
COMMENT ON TABLE append_lock IS 'Locked in EXCLUSIVE mode from an append to its commit. It has no rows.';
REVOKE ALL ON append_lock FROM millrace_reader;

-- As in migration 0015. Whoever calls is known by the role of the session: current_user is the owner in here.
CREATE OR REPLACE FUNCTION limit_append_lock() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A process that is frozen between its append and its commit holds up every writer: not for long.
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    IF current_setting('role') = 'millrace_owner' THEN
        RETURN;
    END IF;
    IF current_setting('statement_timeout')::interval NOT BETWEEN '1ms' AND '10s' THEN
        PERFORM set_config('statement_timeout', '10s', true);
    END IF;
    IF current_setting('server_version_num')::int >= 170000 THEN
        PERFORM set_config('transaction_timeout', '15s', true);
    END IF;
END $$;

-- As in migration 0015. Behind append_events it only finds the lock taken; it is for who inserts in another way (the owner,
-- a superuser, a call of the version before that was under way). As the owner, because only the owner can take the lock.
CREATE OR REPLACE FUNCTION take_append_lock() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('millrace.replay', true) = 'on' THEN
        RAISE EXCEPTION 'a replay appends no events'
            USING ERRCODE = 'insufficient_privilege', HINT = 'A read model''s apply may only change its own tables.';
    END IF;
    LOCK TABLE public.append_lock IN EXCLUSIVE MODE;
    PERFORM public.limit_append_lock();
    RETURN NULL;
END $$;

-- As in migration 0015: who holds the append lock, and another `hold` with each transaction.
CREATE OR REPLACE FUNCTION append_lock_holder() RETURNS TABLE (pid integer, login text, application text, hold text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.pid, a.usename::text, a.application_name, l.pid || ' ' || l.virtualtransaction
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'ExclusiveLock'
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.relation = 'public.append_lock'::regclass
    LIMIT 1
$$;

-- As in migration 0012. The topic holds events that this store lacks. Takes the append lock: whoever appends next sees it.
CREATE OR REPLACE FUNCTION note_store_behind(p_reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE public.append_lock IN EXCLUSIVE MODE;
    UPDATE public.store_state
    SET since = CASE WHEN state = 'behind' THEN since ELSE clock_timestamp() END, state = 'behind', reason = p_reason
    WHERE state <> 'behind' OR reason <> p_reason;
END $$;

-- As in migration 0015. It runs as the owner: its caller needs no right to the tables, and has none to insert. The versions
-- of a stream's events are counted here; e_nth, which says the same, is not read any more: a caller can leave no gap. What
-- is no event (no object, no correlation) becomes NULL, which the table refuses: the relay could never send it.
CREATE OR REPLACE FUNCTION append_events(
    p_request int[], p_stream text[], p_expected int[],
    e_append int[], e_nth int[], e_id uuid[], e_type text[], e_schema_version int[], e_data text[], e_metadata text[]
) RETURNS TABLE (outcome text, stream_id text, version int, "position" bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
    LOCK TABLE public.append_lock IN EXCLUSIVE MODE;
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
        SELECT out_stream[e.append],
               out_version[e.append] + (row_number() OVER (PARTITION BY e.append ORDER BY e.ordinal))::int,
               e.id, e.type, e.schema_version,
               CASE json_typeof(e.data::json) WHEN 'object' THEN e.data::json END,
               CASE json_typeof(e.metadata::json -> 'correlation_id') WHEN 'string' THEN e.metadata::json END
        FROM unnest(e_append, e_id, e_type, e_schema_version, e_data, e_metadata) WITH ORDINALITY
             AS e (append, id, type, schema_version, data, metadata, ordinal)
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
