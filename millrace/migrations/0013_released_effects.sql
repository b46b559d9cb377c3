-- What a service took back of what it had done because of lost events (`lost release`): who decided it, when, and why.
-- A row of lost_events that has one here is settled.
CREATE TABLE released_effects (
    consumer      text        NOT NULL,
    stream_id     text        NOT NULL,
    epoch         uuid        NOT NULL,
    what          text        NOT NULL,  -- that was given back, for people; empty: nothing was held any more
    reason        text        NOT NULL CHECK (reason ~ '\S'),
    released_by   text        NOT NULL CHECK (released_by ~ '\S'),  -- the person, as the command was told
    database_role text        NOT NULL DEFAULT session_user,
    released_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, stream_id, epoch),
    FOREIGN KEY (consumer, stream_id, epoch) REFERENCES lost_events
);

-- As with discarded events: the service may add rows, but neither forge their time nor change what is written.
GRANT SELECT, INSERT (consumer, stream_id, epoch, what, reason, released_by) ON released_effects TO millrace_service;
GRANT SELECT ON released_effects TO millrace_reader, millrace_board;

CREATE FUNCTION refuse_released_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'released effects are append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON released_effects
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_released_change();
ALTER TABLE released_effects ENABLE ALWAYS TRIGGER append_only;
