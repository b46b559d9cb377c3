-- The last canary (chassis/canary) of each of its streams that a consumer or a projector has passed, and when, by this
-- server's clock. Written in the transaction that moves its position.
CREATE TABLE canaries (
    listener   text        NOT NULL,  -- a consumer's name; of the own store's read models their schema
    stream_id  text        NOT NULL,
    version    integer     NOT NULL,
    position   bigint      NOT NULL,
    sent_at    timestamptz NOT NULL,  -- when it was committed, by the clock of the store that it comes from
    applied_at timestamptz NOT NULL,
    PRIMARY KEY (listener, stream_id)
);
GRANT SELECT, INSERT, UPDATE ON canaries TO millrace_service;
GRANT SELECT ON canaries TO millrace_reader, millrace_board;
