-- What a worker can't get past at this moment, for whoever looks from outside: a row for each place where it stands. A row
-- whose place has been passed is over, whether it was deleted or not.
CREATE TABLE troubles (
    worker      text        NOT NULL,              -- a consumer, `projector orders v1`, `relay orders.events`
    topic       text        NOT NULL DEFAULT '',   -- of a consumer's partition
    partition   integer     NOT NULL DEFAULT -1,
    place       bigint      NOT NULL,  -- consumer: the offset of the record; projector: the event's position; relay: its cursor
    topic_id    uuid,                  -- the topic that the offset is of
    event_id    uuid,
    event_type  text,
    stream_id   text,
    attempts    integer     NOT NULL,
    error_class text        NOT NULL,
    error       text        NOT NULL,
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (worker, topic, partition)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON troubles TO millrace_service;
GRANT SELECT ON troubles TO millrace_reader, millrace_board;
