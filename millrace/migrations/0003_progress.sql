-- How far the relay, the consumers and the projectors have come.

-- The last position that a relay sent and the broker acknowledged, per topic and its generation. A leader that
-- was paused can't move it any more after another one has taken a higher fencing token.
CREATE TABLE relay_cursor (
    topic         text        NOT NULL,
    generation    integer     NOT NULL,
    position      bigint      NOT NULL DEFAULT 0,
    fencing_token bigint      NOT NULL DEFAULT 0,
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, generation)
);

-- The last position of a source store that a consumer has applied from a partition, and where to read on.
CREATE TABLE consumer_positions (
    consumer    text        NOT NULL,
    epoch       uuid        NOT NULL,
    topic       text        NOT NULL,
    generation  integer     NOT NULL,
    partition   integer     NOT NULL,
    position    bigint      NOT NULL,
    next_offset bigint      NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, epoch, topic, generation, partition)
);

-- The last version of each stream that a consumer has applied: what was seen is dropped, a gap stops it.
CREATE TABLE consumer_streams (
    consumer  text    NOT NULL,
    stream_id text    NOT NULL,
    version   integer NOT NULL,
    PRIMARY KEY (consumer, stream_id)
);

-- Records that could not be applied, and the later ones of their streams, as they came from the topic.
CREATE TABLE parked_events (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer        text        NOT NULL,
    stream_id       text        NOT NULL,
    version         integer,
    event_id        uuid,
    event_type      text,
    topic           text        NOT NULL,
    generation      integer     NOT NULL,
    partition       integer     NOT NULL,
    record_offset   bigint      NOT NULL,
    record_key      bytea,
    record_value    bytea,
    record_headers  json        NOT NULL,
    error           text        NOT NULL,
    error_class     text        NOT NULL,
    attempts        integer     NOT NULL,
    parked_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (consumer, topic, generation, partition, record_offset)
);
CREATE INDEX parked_events_by_stream ON parked_events (consumer, stream_id, id);

-- The last position of the own store that a read model has applied.
CREATE TABLE projection_checkpoints (
    read_model text        NOT NULL,
    version    integer     NOT NULL,
    position   bigint      NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (read_model, version)
);

GRANT SELECT, INSERT, UPDATE ON relay_cursor TO millrace_service;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON consumer_positions, consumer_streams, parked_events, projection_checkpoints TO millrace_service;
GRANT SELECT
    ON relay_cursor, consumer_positions, consumer_streams, parked_events, projection_checkpoints TO millrace_reader;
