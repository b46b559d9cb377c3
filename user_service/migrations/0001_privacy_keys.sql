-- A key a user, wrapped under the service's master key. To erase a user is to delete the row.
-- Beside the event store, not in it: an append-only key could never be forgotten.
CREATE TABLE privacy_keys (
    user_id     uuid        PRIMARY KEY,
    wrapped_key bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT ON privacy_keys TO millrace_service;
-- Who only reads (reports, audits) sees sealed contact details and no keys.
REVOKE ALL ON privacy_keys FROM millrace_reader;
