-- Names: what a worker can't get past is a stall; a rebuilt copy becomes live by a cutover. The old names stay for one
-- version, so that processes of the program before go on during a rolling deployment. A later migration drops them.
ALTER TABLE troubles RENAME TO stalls;
ALTER TABLE stalls RENAME COLUMN place TO position;
ALTER INDEX troubles_pkey RENAME TO stalls_pkey;

-- A view that Postgres updates by itself: what is written into it is written into the table, with the table's defaults.
CREATE VIEW troubles AS
    SELECT worker, topic, partition, position AS place, topic_id, event_id, event_type, stream_id, attempts, error_class,
           error, since, last_at
    FROM stalls;

GRANT SELECT, INSERT, UPDATE, DELETE ON troubles TO millrace_service;
GRANT SELECT ON troubles TO millrace_reader, millrace_board;

ALTER FUNCTION take_over_read_model_copy(text, int) RENAME TO cut_over_read_model_copy;

CREATE FUNCTION take_over_read_model_copy(p_name text, p_version int) RETURNS void
LANGUAGE sql STRICT AS 'SELECT public.cut_over_read_model_copy(p_name, p_version)';

REVOKE EXECUTE ON FUNCTION take_over_read_model_copy FROM PUBLIC;
GRANT EXECUTE ON FUNCTION take_over_read_model_copy TO millrace_service;
