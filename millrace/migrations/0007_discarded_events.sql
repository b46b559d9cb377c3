-- Records that a consumer parked and that somebody decided it shall never apply: the record, who decided, when, why.
CREATE TABLE discarded_events (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer       text        NOT NULL,
    stream_id      text        NOT NULL,
    version        integer,    -- that the consumer counts as seen; NULL: the record is none of the stream's events
    event_id       uuid,
    event_type     text,
    topic          text        NOT NULL,
    generation     integer     NOT NULL,
    partition      integer     NOT NULL,
    record_offset  bigint      NOT NULL,
    record_key     bytea,
    record_value   bytea,
    record_headers json        NOT NULL,
    error          text        NOT NULL,
    error_class    text        NOT NULL,
    attempts       integer     NOT NULL,
    parked_at      timestamptz NOT NULL,
    reason         text        NOT NULL CHECK (reason ~ '\S'),
    discarded_by   text        NOT NULL CHECK (discarded_by ~ '\S'),  -- the person, as the command was told
    database_role  text        NOT NULL DEFAULT session_user,
    discarded_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- As with the events: the service may add rows, but neither forge their time nor change what is written.
GRANT SELECT, INSERT (consumer, stream_id, version, event_id, event_type, topic, generation, partition, record_offset,
                      record_key, record_value, record_headers, error, error_class, attempts, parked_at, reason,
                      discarded_by)
    ON discarded_events TO millrace_service;
GRANT SELECT ON discarded_events TO millrace_reader;

CREATE FUNCTION refuse_discarded_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'discarded events are append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON discarded_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_discarded_change();
ALTER TABLE discarded_events ENABLE ALWAYS TRIGGER append_only;
