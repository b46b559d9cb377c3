-- Appends a group of requests with one statement. A request is one or more streams, appended all or none; each
-- request succeeds or fails alone. Parallel arrays: the stream appends (p_...) and the events (e_...), both in
-- order; e_append is the 1-based index of the event's stream append, e_nth its 1-based place in that.
--
-- One row per stream append, in order. outcome:
--   appended       stream_id, version and position of its last event
--   replayed       all of its event ids were there already: where its last event is (stream_id may be another one)
--   conflict       the expected version is not the stream's: version is the stream's
--   reused_ids     some of the request's event ids were there, but not just as one earlier request left them
--   withheld       nothing is wrong with this one, but another stream of its request failed
-- p_expected: the stream's version, 0 when it must not exist, -1 for any.
--
-- The caller guarantees that no stream and no event id occurs twice in the group.
-- Plans: one generic plan that walks indexes, whatever the statistics of a table that just grew from empty say.
CREATE FUNCTION append_events(
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
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'append_events needs a READ COMMITTED transaction: it must see what was committed while it waited';
    END IF;
    -- From here to the commit nobody else appends, and the next statement's snapshot is younger than the lock:
    -- the versions and event ids that it sees are the latest.
    PERFORM pg_advisory_xact_lock(7815263014);

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

REVOKE EXECUTE ON FUNCTION append_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_events TO millrace_service;
