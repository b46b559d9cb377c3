-- The roles of one service and what they may do in its database (docs/explanation/security.md).
--
-- Run it connected to the service's database, with psql and these variables:
--   service            name of the service's login role, e.g. order_service; <service>_migrator, <service>_board and
--                      <service>_operator are made beside it
--   password           password of that role
--   migrator_password  password of the migrator
--   board_password     password of the board's login
--   operator_password  password of the login by which the board passes on what an operator asks for
-- Safe to run again: roles are kept, passwords and limits are set to what is given here. The local stack, the tests and
-- compose all run this file.
--
-- By a superuser; or by the database's owner, with CREATEROLE and CREATEDB: then what only a superuser may set stays as the
-- server has it, and the service's `migrate` lists it.
--
--   millrace_owner    owns every object; nobody logs in as it. Migrations do SET ROLE millrace_owner.
--   millrace_service  what the service may do: migrations grant it exactly the rights that each table needs.
--   millrace_reader   may SELECT, nothing else.
--   millrace_board    what the board may see: how far everything is. Migrations grant it columns; no data of an event.
--   millrace_operator may ask the service for something (operator_requests), and nothing else.
\set ON_ERROR_STOP on
\set migrator :service _migrator
\set board :service _board
\set operator :service _operator

BEGIN;

-- Roles belong to the whole server: two bootstraps at once wait for each other here.
SELECT 'LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE'
FROM pg_roles WHERE rolname = current_user AND rolsuper \gexec

SELECT format('CREATE ROLE %I NOLOGIN', role)
FROM unnest(ARRAY['millrace_owner', 'millrace_service', 'millrace_reader', 'millrace_board', 'millrace_operator']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY[:'service', :'migrator', :'board', :'operator']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

-- Who is no superuser gives away what it owns to a role that it must be a member of.
SELECT format('GRANT millrace_owner TO %I', current_user)
FROM pg_roles WHERE rolname = current_user AND NOT rolsuper \gexec

-- What a login has set for itself since (it may) is forgotten.
ALTER ROLE :"service" RESET ALL;
ALTER ROLE :"migrator" RESET ALL;
ALTER ROLE :"board" RESET ALL;
ALTER ROLE :"operator" RESET ALL;

-- How much of the server each login may take. The programs set the timeouts of their own sessions, which win: these are for
-- everybody else with the login. The service leaves connections for the others; a restore, and a migration, take their time.
SELECT format('ALTER ROLE %I CONNECTION LIMIT %s', :'service', greatest(20, current_setting('max_connections')::int
              - current_setting('superuser_reserved_connections')::int - 14)) \gexec
ALTER ROLE :"service" PASSWORD :'password';
ALTER ROLE :"service" SET statement_timeout = '60s';
ALTER ROLE :"service" SET lock_timeout = '8s';
ALTER ROLE :"service" SET idle_in_transaction_session_timeout = '60s';

-- NOINHERIT: a migration that forgets SET ROLE fails at once, instead of making objects that a login owns.
ALTER ROLE :"migrator" NOINHERIT CONNECTION LIMIT 16 PASSWORD :'migrator_password';
ALTER ROLE :"migrator" SET statement_timeout = '1h';
ALTER ROLE :"migrator" SET lock_timeout = '60s';
ALTER ROLE :"migrator" SET idle_in_transaction_session_timeout = '5min';

-- A board that looks, however often and at whatever, must not hold anybody up: few sessions, short statements, no locks.
ALTER ROLE :"board" CONNECTION LIMIT 6 PASSWORD :'board_password';
ALTER ROLE :"board" SET default_transaction_read_only = on;
ALTER ROLE :"board" SET statement_timeout = '2s';
ALTER ROLE :"board" SET lock_timeout = '500ms';
ALTER ROLE :"board" SET idle_in_transaction_session_timeout = '5s';

ALTER ROLE :"operator" CONNECTION LIMIT 4 PASSWORD :'operator_password';
ALTER ROLE :"operator" SET statement_timeout = '2s';
ALTER ROLE :"operator" SET lock_timeout = '500ms';
ALTER ROLE :"operator" SET idle_in_transaction_session_timeout = '5s';

-- Postgres 17 has a limit for a whole transaction. An audit is one, and so is what a rebuild compares: hours.
SELECT format('ALTER ROLE %I SET transaction_timeout = %L', login, timeout)
FROM (VALUES (:'service', '6h'), (:'board', '10s'), (:'operator', '10s')) AS limits (login, timeout)
WHERE current_setting('server_version_num')::int >= 170000 \gexec

-- Only a superuser sets these, and no login can lift them: how much a session may spill to the disk.
SELECT format('ALTER ROLE %I SET temp_file_limit = %L', login, size)
FROM (VALUES (:'service', '16GB'), (:'migrator', '64GB'), (:'board', '64MB'), (:'operator', '16MB')) AS limits (login, size)
WHERE has_parameter_privilege('temp_file_limit', 'SET') \gexec
-- When the board fails (a database that is not migrated yet), the log has its error each second, and not its hundred lines.
SELECT format('ALTER ROLE %I SET log_min_error_statement = panic', :'board')
WHERE has_parameter_privilege('log_min_error_statement', 'SET') \gexec

GRANT millrace_service TO :"service";
GRANT millrace_owner TO :"migrator";
GRANT millrace_board TO :"board";
GRANT millrace_operator TO :"operator";

-- Nobody comes in, or creates anything, by default.
ALTER DATABASE :"DBNAME" OWNER TO millrace_owner;
ALTER SCHEMA public OWNER TO millrace_owner;
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname) FROM pg_database
WHERE datname IN ('postgres', 'template1') AND pg_has_role(datdba, 'USAGE') \gexec

-- The logins of this service, not their groups: on a server with the databases of several services, each has its own.
REVOKE CONNECT ON DATABASE :"DBNAME" FROM millrace_service, millrace_board, millrace_operator;
GRANT CONNECT ON DATABASE :"DBNAME" TO :"service", :"migrator", :"board", :"operator", millrace_reader;
GRANT TEMPORARY ON DATABASE :"DBNAME" TO millrace_service;  -- COPY into a temporary table, then merge
GRANT USAGE ON SCHEMA public TO millrace_service, millrace_reader, millrace_board, millrace_operator;
ALTER DEFAULT PRIVILEGES FOR ROLE millrace_owner GRANT USAGE ON SCHEMAS TO millrace_service, millrace_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE millrace_owner GRANT SELECT ON TABLES TO millrace_reader;
-- Functions may be called by everyone unless this is said.
ALTER DEFAULT PRIVILEGES FOR ROLE millrace_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- What Postgres lets everybody call, and what a login that only reads could disturb others with: locks that a leader needs,
-- large objects, signals, records in the log, transaction ids, the end of other sessions of its own login.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure) FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND pg_has_role(proowner, 'USAGE')
    AND (proname ~ '^(pg_(try_)?advisory_|lo_)' OR proname IN (
        'loread', 'lowrite', 'pg_notify', 'pg_terminate_backend', 'pg_cancel_backend', 'pg_logical_emit_message',
        'pg_export_snapshot', 'pg_current_xact_id', 'txid_current'))
    AND has_function_privilege('public', oid, 'EXECUTE') \gexec
SELECT format('GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %I', function, grantee)
FROM (VALUES ('pg_try_advisory_lock(bigint)', 'millrace_service'),          -- to lead
             ('pg_advisory_xact_lock(bigint)', 'millrace_service'),         -- the name of a consumer, for a cutover
             ('pg_advisory_xact_lock_shared(bigint)', 'millrace_service'),  -- the name of a consumer, for a batch
             ('pg_notify(text, text)', 'millrace_service'),                 -- an append, to the other processes
             ('pg_terminate_backend(integer, bigint)', 'millrace_service'), -- a leader that is frozen
             ('pg_advisory_lock(bigint)', :'migrator'),                     -- one migration at a time
             ('pg_try_advisory_lock(bigint)', 'millrace_owner'),            -- one restore at a time
             ('pg_advisory_xact_lock(bigint)', 'millrace_owner'),           -- migrations up to 0020
             ('pg_current_xact_id()', 'millrace_owner')                     -- the name of a copy that is discarded
     ) AS needed (function, grantee)
WHERE (SELECT pg_has_role(proowner, 'USAGE') FROM pg_proc WHERE proname = 'pg_notify') \gexec

COMMIT;
