-- The roles of one service and what they may do in its database.
--
-- Run by a superuser, connected to the service's database, with psql and these variables:
--   service            name of the service's login role, e.g. order_service; <service>_migrator, <service>_board and
--                      <service>_operator are made beside it
--   password           password of that role
--   migrator_password  password of the migrator
--   board_password     password of the board's login
--   operator_password  password of the login by which the board passes on what an operator asks for
-- Safe to run again: roles are kept, passwords are set to what is given. The local stack, the tests and
-- compose all run this file.
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
LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE;

SELECT format('CREATE ROLE %I NOLOGIN', role)
FROM unnest(ARRAY['millrace_owner', 'millrace_service', 'millrace_reader', 'millrace_board', 'millrace_operator']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY[:'service', :'migrator', :'board', :'operator']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

ALTER ROLE :"service" PASSWORD :'password';
-- NOINHERIT: a migration that forgets SET ROLE fails at once, instead of making objects that a login owns.
ALTER ROLE :"migrator" NOINHERIT PASSWORD :'migrator_password';
GRANT millrace_service TO :"service";
GRANT millrace_owner TO :"migrator";

-- A board that looks, however often and at whatever, must not hold anybody up: few sessions, short statements, no locks.
ALTER ROLE :"board" CONNECTION LIMIT 6 PASSWORD :'board_password';
ALTER ROLE :"board" SET default_transaction_read_only = on;
ALTER ROLE :"board" SET statement_timeout = '2s';
ALTER ROLE :"board" SET lock_timeout = '500ms';
ALTER ROLE :"board" SET idle_in_transaction_session_timeout = '5s';
-- When it fails (a database that is not migrated yet), the log has its error each second, and not its hundred lines each time.
ALTER ROLE :"board" SET log_min_error_statement = 'panic';
GRANT millrace_board TO :"board";

ALTER ROLE :"operator" CONNECTION LIMIT 4 PASSWORD :'operator_password';
ALTER ROLE :"operator" SET statement_timeout = '2s';
ALTER ROLE :"operator" SET lock_timeout = '500ms';
ALTER ROLE :"operator" SET idle_in_transaction_session_timeout = '5s';
GRANT millrace_operator TO :"operator";

-- Nobody comes in, or creates anything, by default.
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER DATABASE :"DBNAME" OWNER TO millrace_owner;
ALTER SCHEMA public OWNER TO millrace_owner;

GRANT CONNECT ON DATABASE :"DBNAME" TO :"migrator", millrace_service, millrace_reader, millrace_board,
    millrace_operator;
GRANT TEMPORARY ON DATABASE :"DBNAME" TO millrace_service;  -- COPY into a temporary table, then merge
GRANT USAGE ON SCHEMA public TO millrace_service, millrace_reader, millrace_board, millrace_operator;
ALTER DEFAULT PRIVILEGES FOR ROLE millrace_owner GRANT USAGE ON SCHEMAS TO millrace_service, millrace_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE millrace_owner GRANT SELECT ON TABLES TO millrace_reader;
-- Functions may be called by everyone unless this is said.
ALTER DEFAULT PRIVILEGES FOR ROLE millrace_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

COMMIT;
