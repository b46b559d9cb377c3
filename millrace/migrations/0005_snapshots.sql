-- States of long streams, so that they need not be folded from their first event. A cache: the events are the truth,
-- and deleting any row, or all of them, changes nothing but time.
CREATE TABLE snapshots (
    stream_id      text        PRIMARY KEY,
    version        integer     NOT NULL CHECK (version >= 1),  -- of the stream: the state has the events up to here
    event_id       uuid        NOT NULL,  -- the event at that version: in another history there is another one
    schema_version integer     NOT NULL CHECK (schema_version >= 1),  -- of the state
    state          json        NOT NULL,
    taken_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON snapshots TO millrace_service;
GRANT SELECT ON snapshots TO millrace_reader;
