#!/bin/sh
# The roles of a service (millrace/postgres/bootstrap.sql), made when its database server starts for the first time, and each
# time the stack comes up, by the step roles-<service>, which logs in from outside: PGHOST names the server.
# On the server itself it needs no password, and sets all of them to what the secrets say, should those be lost:
#   docker compose exec postgres-order sh /docker-entrypoint-initdb.d/roles.sh
set -eu

if [ -n "${PGHOST:-}" ]; then
    PGPASSWORD=$(cat /run/secrets/superuser_password)
    export PGPASSWORD
fi

# By standard input, not as arguments: these every user of the machine could read.
psql --no-psqlrc --quiet --username postgres --dbname "$POSTGRES_DB" <<SQL
\set ON_ERROR_STOP on
SET client_min_messages = warning;
\set service '$POSTGRES_DB'
\set password '$(cat /run/secrets/service_password)'
\set migrator_password '$(cat /run/secrets/migrator_password)'
\set board_password '$(cat /run/secrets/board_password)'
\set operator_password '$(cat /run/secrets/operator_password)'
\set superuser_password '$(cat /run/secrets/superuser_password)'
\i /etc/millrace/bootstrap.sql
ALTER ROLE CURRENT_USER PASSWORD :'superuser_password';
SQL
