-- Why no e-mail can go out now: one row, written by the process that sends when its breaker opens, closes, or finds another
-- reason. Without it the board could only show what the last event says, which may be half an hour old.
CREATE TABLE email_outage (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    reason   text,                                         -- null: there is no outage
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO email_outage DEFAULT VALUES;
GRANT SELECT, UPDATE (reason, since) ON email_outage TO millrace_service;
GRANT SELECT ON email_outage TO millrace_reader, millrace_board;

-- As before (0001), with two differences. The cause is the outage that there is now, if a process sends; what was delayed
-- by an outage that is over waits for nothing but its turn. And an e-mail of which nobody knows whether it arrived waits from
-- its request on: until it is taken, or given up, nobody can say that the customer was told.
CREATE OR REPLACE FUNCTION emails_waiting() RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schema text := (SELECT format('%s_v%s', c.name, c.version) FROM public.read_model_copies c
                    WHERE c.name = 'notifications' AND c.copy = 'live' ORDER BY c.version DESC LIMIT 1);
    outage text := (SELECT o.reason FROM public.email_outage o
                    WHERE EXISTS (SELECT FROM public.leader_leases l
                                  WHERE l.name = 'notification sender' AND l.lease_until > clock_timestamp()));
    outages text[] := ARRAY['mail_server_unavailable', 'user_service_unavailable'];
    found  json;
BEGIN
    IF schema IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format($query$
        WITH untried AS (
            SELECT n.*, n.requested_at AS due_at FROM %1$I.notifications n WHERE n.status = 'requested'
            ORDER BY coalesce(n.next_attempt_at, n.requested_at), n.position LIMIT 10001
        ), delayed AS (
            SELECT n.*, CASE WHEN n.reason = 'outcome_unknown' OR n.reason = ANY($2)
                             THEN n.requested_at ELSE n.next_attempt_at END AS due_at
            FROM %1$I.notifications n
            WHERE n.status = 'delayed'
              AND (n.next_attempt_at <= clock_timestamp() OR n.reason = 'outcome_unknown' OR n.reason = ANY($2))
            ORDER BY coalesce(n.next_attempt_at, n.requested_at), n.position LIMIT 10001
        ), waiting AS (SELECT * FROM untried UNION ALL SELECT * FROM delayed)
        SELECT json_build_object('waiting', (SELECT count(*) FROM waiting), 'reason', $1, 'oldest', (
            SELECT json_build_object('position', w.position, 'notification_id', w.notification_id, 'due_at', w.due_at,
                                     'requested_at', w.requested_at, 'attempts', w.attempts,
                                     'reason', coalesce($1, CASE WHEN w.reason <> ALL($2) THEN w.reason END))
            FROM waiting w ORDER BY w.due_at, w.position LIMIT 1))
    $query$, schema) INTO found USING outage, outages;
    RETURN found;
END $$;
