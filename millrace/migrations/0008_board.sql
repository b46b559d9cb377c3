-- What the board may see: how far everything is, and which events there are. Not what is in them, not who asked for them,
-- not the rows of a read model.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millrace_board') THEN
        RAISE EXCEPTION 'the role millrace_board is missing'
            USING HINT = 'Run infra/postgres/bootstrap.sql on this database again: it makes the roles that are missing.';
    END IF;
END $$;

GRANT SELECT (position, stream_id, version, event_id, type, schema_version, recorded_at) ON events TO millrace_board;
GRANT SELECT ON store_identity, relay_cursor, consumer_positions, consumer_streams, projection_checkpoints, read_model_copies,
    read_model_parts TO millrace_board;
GRANT SELECT (name, version, consumer) ON read_models TO millrace_board;
GRANT SELECT (id, consumer, stream_id, version, event_id, event_type, topic, generation, partition, record_offset, error,
              error_class, attempts, parked_at, last_attempt_at)
    ON parked_events TO millrace_board;

-- The correlation of an event, out of metadata that also say who asked.
CREATE FUNCTION correlation_of(p_position bigint) RETURNS text
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.metadata ->> 'correlation_id' FROM public.events e WHERE e.position = p_position
$$;

-- The first events of a correlation among those behind p_after and up to p_until.
CREATE FUNCTION positions_of_correlation(p_correlation text, p_after bigint, p_until bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.position FROM public.events e
    WHERE e.position > p_after AND e.position <= p_until AND e.metadata ->> 'correlation_id' = p_correlation
    ORDER BY e.position LIMIT 200
$$;

REVOKE EXECUTE ON FUNCTION correlation_of, positions_of_correlation FROM PUBLIC;
GRANT EXECUTE ON FUNCTION correlation_of, positions_of_correlation TO millrace_board;
