-- What operators ask this service to do, by way of the board: who, when, what, and what became of it. The board only
-- writes a request down; a process of the service that has the consumer carries it out (chassis/operator_requests.py).
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millrace_operator') THEN
        RAISE EXCEPTION 'the role millrace_operator is missing'
            USING HINT = 'Run infra/postgres/bootstrap.sql on this database again: it makes the roles that are missing.';
    END IF;
END $$;

CREATE TABLE operator_requests (
    id            uuid        PRIMARY KEY,
    requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    requested_by  text        NOT NULL CHECK (requested_by ~ '\S' AND length(requested_by) <= 100),  -- as they call themselves
    database_role text        NOT NULL DEFAULT session_user,
    action        text        NOT NULL CHECK (action = 'redrive'),
    consumer      text        NOT NULL,
    stream_id     text,        -- NULL: every parked stream
    error_class   text,        -- only streams whose first event failed with it
    dry_run       boolean     NOT NULL,
    taken_at      timestamptz, -- when a process began it first
    takes         integer     NOT NULL DEFAULT 0,  -- how often one began it: a process may crash in the middle
    done_at       timestamptz,
    outcome       json
);
CREATE INDEX operator_requests_open ON operator_requests (requested_at) WHERE done_at IS NULL;
CREATE INDEX operator_requests_by_time ON operator_requests (requested_at);

-- Whoever asks can add a request and see what became of it: not change it, not take it back, not forge its time.
GRANT SELECT, INSERT (id, requested_by, action, consumer, stream_id, error_class, dry_run)
    ON operator_requests TO millrace_operator;
-- The service can say what became of it: not make one, not change what was asked for.
GRANT SELECT, UPDATE (taken_at, takes, done_at, outcome) ON operator_requests TO millrace_service;
GRANT SELECT ON operator_requests TO millrace_reader;

CREATE FUNCTION refuse_operator_request_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'operator requests are kept as they are: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON operator_requests
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_operator_request_change();
CREATE TRIGGER ended BEFORE UPDATE ON operator_requests
    FOR EACH ROW WHEN (OLD.done_at IS NOT NULL) EXECUTE FUNCTION refuse_operator_request_change();
ALTER TABLE operator_requests ENABLE ALWAYS TRIGGER kept;
ALTER TABLE operator_requests ENABLE ALWAYS TRIGGER ended;
