-- A process that is frozen keeps its session, and with it the advisory lock by which it leads. So whoever leads in a
-- service renews a lease here; a process in stand-by ends the session of a leader whose lease has expired (chassis/leader.py).
CREATE TABLE leader_leases (
    name          text        PRIMARY KEY,  -- of the lock: 'relay orders.events 1', 'notification sender' ...
    pid           integer     NOT NULL,
    session_start timestamptz NOT NULL,     -- process ids are used again; with its start a session is known for certain
    lease_until   timestamptz NOT NULL      -- until then the leader is taken for alive
);
GRANT SELECT, INSERT, UPDATE, DELETE ON leader_leases TO millrace_service;
GRANT SELECT ON leader_leases TO millrace_reader, millrace_board;

-- The relay's lease stood in its cursor.
ALTER TABLE relay_cursor
    DROP COLUMN lease_until,
    DROP COLUMN leader_pid;
