-- The last version of the stream that was applied or discarded before this record's turn came, where it could be
-- mistaken: no version up to it is ever applied because of this record. NULL: not needed, or parked before this was kept.
ALTER TABLE parked_events ADD COLUMN seen_version integer;

-- Versions that only a discarded record covered, and that came and were applied after all.
CREATE TABLE applied_after_discard (
    consumer   text        NOT NULL,
    stream_id  text        NOT NULL,
    version    integer     NOT NULL,
    event_id   uuid        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, stream_id, version, applied_at)
);
GRANT SELECT, INSERT ON applied_after_discard TO millrace_service;
GRANT SELECT ON applied_after_discard TO millrace_reader;
