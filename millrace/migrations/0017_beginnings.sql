-- From where on a consumer with effects acts on the events of a topic: fixed when it first starts, and kept.
CREATE TABLE consumer_beginnings (
    consumer text        NOT NULL,
    topic    text        NOT NULL,
    begins   text        NOT NULL CHECK (begins IN ('history', 'now')),
    declared text        NOT NULL CHECK (declared IN ('history', 'now')),  -- by the program that started last; begins counts
    begun_at timestamptz NOT NULL,  -- by the clock of this server, before the topic was asked
    PRIMARY KEY (consumer, topic)
);

-- begins = 'now': the events of an epoch up to this position count as seen.
CREATE TABLE consumer_beginning_positions (
    consumer text   NOT NULL,
    topic    text   NOT NULL,
    epoch    uuid   NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (consumer, topic, epoch),
    FOREIGN KEY (consumer, topic) REFERENCES consumer_beginnings
);

-- What was chosen stays: only what the program declares is kept up to date.
GRANT SELECT, INSERT, UPDATE (declared) ON consumer_beginnings TO millrace_service;
GRANT SELECT, INSERT ON consumer_beginning_positions TO millrace_service;
GRANT SELECT ON consumer_beginnings, consumer_beginning_positions TO millrace_reader, millrace_board;

-- Until now every consumer began with the history. Those of read models need no row.
INSERT INTO consumer_beginnings (consumer, topic, begins, declared, begun_at)
SELECT p.consumer, p.topic, 'history', 'history', min(p.updated_at) FROM consumer_positions AS p
WHERE p.consumer !~ '[.](next|previous|aside)$' AND NOT EXISTS (SELECT FROM read_models AS m WHERE m.consumer = p.consumer)
GROUP BY p.consumer, p.topic;
