-- The event store of one service. Everything here belongs to millrace_owner, which nobody logs in as.

CREATE TABLE events (
    position       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id      text        NOT NULL CHECK (length(stream_id) BETWEEN 1 AND 255),
    version        integer     NOT NULL CHECK (version >= 1),
    event_id       uuid        NOT NULL UNIQUE,
    type           text        NOT NULL,
    schema_version integer     NOT NULL CHECK (schema_version >= 1),
    data           json        NOT NULL,  -- json, not jsonb: kept byte for byte, and cheaper to write
    metadata       json        NOT NULL,
    -- Evaluated under the append lock, so that it grows with the position (unless the clock is set back).
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (stream_id, version)
);

-- The service may add events, and only these columns of them: a right to INSERT the whole table would let it
-- forge positions and times.
GRANT SELECT, INSERT (stream_id, version, event_id, type, schema_version, data, metadata)
    ON events TO millrace_service;
GRANT SELECT ON events TO millrace_reader;

CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege', HINT = 'Append an event that corrects the earlier one.';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();
ALTER TABLE events ENABLE ALWAYS TRIGGER append_only;  -- also in a session that replays replication

-- Positions must become visible in order, or a reader of "position > cursor" skips an event that commits late.
-- So they are drawn under a lock that is held until the commit. A statement trigger runs before the first
-- row, hence before the first position is drawn, and nobody who inserts can go around it.
CREATE FUNCTION take_append_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7815263014);
    -- A process that is frozen between its append and its commit holds up every writer: not for long.
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    RETURN NULL;
END $$;

CREATE TRIGGER append_lock BEFORE INSERT ON events
    FOR EACH STATEMENT EXECUTE FUNCTION take_append_lock();
ALTER TABLE events ENABLE ALWAYS TRIGGER append_lock;

-- Who this store is. Renewed when a backup is restored, so that consumers can tell a store that went back in time.
CREATE TABLE store_identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO store_identity DEFAULT VALUES;
GRANT SELECT ON store_identity TO millrace_service, millrace_reader;
