-- What the board may see of e-mails: how many are to be sent now, and the oldest of them, with the reason in a word. Neither
-- whom they go to, nor what they say. It looks into the live copy of the read model, whatever version that is.
--
-- To be sent now is what was never tried, what met an outage (as Outbox.due says), and who was deferred until now. The
-- index notifications_pending finds them, however many were sent. They are counted up to 10,001.
CREATE FUNCTION emails_waiting() RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schema text := (SELECT format('%s_v%s', c.name, c.version) FROM public.read_model_copies c
                    WHERE c.name = 'notifications' AND c.copy = 'live' ORDER BY c.version DESC LIMIT 1);
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
            SELECT n.*, CASE WHEN n.reason IN ('mail_server_unavailable', 'user_service_unavailable')
                             THEN n.requested_at ELSE n.next_attempt_at END AS due_at
            FROM %1$I.notifications n
            WHERE n.status = 'delayed' AND (n.next_attempt_at <= clock_timestamp()
                OR n.reason IN ('mail_server_unavailable', 'user_service_unavailable'))
            ORDER BY coalesce(n.next_attempt_at, n.requested_at), n.position LIMIT 10001
        ), waiting AS (SELECT * FROM untried UNION ALL SELECT * FROM delayed)
        SELECT json_build_object('waiting', (SELECT count(*) FROM waiting), 'oldest', (
            SELECT json_build_object('position', w.position, 'notification_id', w.notification_id, 'due_at', w.due_at,
                                     'requested_at', w.requested_at, 'attempts', w.attempts, 'reason', w.reason)
            FROM waiting w ORDER BY w.due_at, w.position LIMIT 1),
            'reason', (SELECT d.reason FROM delayed d WHERE d.reason <> 'recipient_deferred'
                       ORDER BY d.next_attempt_at DESC LIMIT 1))
    $query$, schema) INTO found;
    RETURN found;
END $$;

REVOKE EXECUTE ON FUNCTION emails_waiting FROM PUBLIC;
GRANT EXECUTE ON FUNCTION emails_waiting TO millrace_board;
