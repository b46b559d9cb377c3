#!/bin/sh
# The roles of a service, made when its database server starts for the first time (infra/postgres/bootstrap.sql).
# Running it again sets the passwords to what the secrets say:
#   docker compose exec postgres-order sh /docker-entrypoint-initdb.d/roles.sh
set -eu

# By standard input, not as arguments: these every user of the machine could read.
psql --no-psqlrc --quiet --username postgres --dbname "$POSTGRES_DB" <<SQL
\set ON_ERROR_STOP on
\set service '$POSTGRES_DB'
\set password '$(cat /run/secrets/service_password)'
\set migrator_password '$(cat /run/secrets/migrator_password)'
\set board_password '$(cat /run/secrets/board_password)'
\set operator_password '$(cat /run/secrets/operator_password)'
\i /etc/millrace/bootstrap.sql
SQL
