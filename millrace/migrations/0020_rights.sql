-- Each login has the rights that its statements need (tests/security/rights.toml), and no others.

-- Calls of append_events that began before 0019 insert as the service. They are in front of this in the queue for their lock.
SELECT pg_advisory_xact_lock(7815263014);

REVOKE INSERT ON events FROM millrace_service;
REVOKE EXECUTE ON FUNCTION limit_append_lock FROM millrace_service;

-- What is written down of how far things are names its topic, and nobody gives it another one.
REVOKE UPDATE ON relay_cursor FROM millrace_service;
GRANT UPDATE (position, fencing_token, updated_at, topic_id, end_offsets, republish_until, lineage_sent)
    ON relay_cursor TO millrace_service;
REVOKE UPDATE ON consumer_positions, consumer_streams, projection_checkpoints, snapshots, canaries, leader_leases,
    read_model_parts FROM millrace_service;
GRANT UPDATE (consumer, position, next_offset, topic_id, ended_at, updated_at) ON consumer_positions TO millrace_service;
GRANT UPDATE (version, event_id, position) ON consumer_streams TO millrace_service;
GRANT UPDATE (position, updated_at) ON projection_checkpoints TO millrace_service;
GRANT UPDATE (version, event_id, schema_version, state, taken_at) ON snapshots TO millrace_service;
GRANT UPDATE (version, position, sent_at, applied_at) ON canaries TO millrace_service;
GRANT UPDATE (pid, session_start, lease_until) ON leader_leases TO millrace_service;
GRANT UPDATE (position, events, updated_at) ON read_model_parts TO millrace_service;

-- When it happened is what the clock of this server said.
REVOKE INSERT ON lost_events, applied_after_discard FROM millrace_service;
GRANT INSERT (consumer, stream_id, epoch, ended_at, version, position, event_id) ON lost_events TO millrace_service;
GRANT INSERT (consumer, stream_id, version, event_id) ON applied_after_discard TO millrace_service;

-- What was parked is the record as it came: only where it waits, and how often it was tried, changes.
REVOKE INSERT, UPDATE ON parked_events FROM millrace_service;
GRANT INSERT (id, consumer, stream_id, version, event_id, event_type, topic, generation, partition, record_offset, record_key,
              record_value, record_headers, error, error_class, attempts, seen_version)
    ON parked_events TO millrace_service;
GRANT UPDATE (consumer, stream_id, attempts, error, error_class, last_attempt_at, seen_version)
    ON parked_events TO millrace_service;
