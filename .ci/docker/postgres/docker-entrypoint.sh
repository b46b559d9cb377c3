#!/usr/bin/env bash
# The contract of the official postgres image's entry point: an empty PGDATA becomes a cluster with POSTGRES_USER,
# POSTGRES_PASSWORD and POSTGRES_DB (each also as ..._FILE), then /docker-entrypoint-initdb.d runs, once.
set -Eeuo pipefail

from_file() {  # from_file NAME DEFAULT: NAME from itself, from the file NAME_FILE, or the default
  local file="$1_FILE"
  [ -z "${!1:-}" ] || [ -z "${!file:-}" ] || { echo "error: both $1 and $file are set" >&2; exit 1; }
  if [ -n "${!file:-}" ]; then export "$1=$(<"${!file}")"; else export "$1=${!1:-$2}"; fi
  unset "$file"
}

sql() { PGHOST='' PGHOSTADDR='' psql --no-psqlrc --no-password -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" "$@"; }

create_cluster() {
  from_file POSTGRES_PASSWORD ''
  from_file POSTGRES_USER postgres
  from_file POSTGRES_DB "$POSTGRES_USER"
  from_file POSTGRES_INITDB_ARGS ''
  if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    echo "error: the database is not initialised and POSTGRES_PASSWORD is empty" >&2
    exit 1
  fi
  # Word splitting is the variable's contract.
  # shellcheck disable=SC2086
  initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS
  echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
}

run_init_scripts() {
  local file
  # shellcheck disable=SC1090
  for file in /docker-entrypoint-initdb.d/*; do
    echo "$0: running $file"
    case "$file" in
      *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
      *.sql) sql --dbname "$POSTGRES_DB" -f "$file" ;;
      *) echo "$0: ignoring $file" ;;
    esac
  done
}

initialise() {
  create_cluster
  # On its socket only: nobody outside takes a server for ready that is still being set up.
  pg_ctl -D "$PGDATA" -w -o "$(printf '%q ' "$@" -c listen_addresses= -p 5432)" start
  if [ "$POSTGRES_DB" != postgres ]; then
    echo 'CREATE DATABASE :"db"' | sql --dbname postgres -v db="$POSTGRES_DB"
  fi
  shopt -s nullglob
  run_init_scripts
  pg_ctl -D "$PGDATA" -m fast -w stop
}

[ "${1:0:1}" != - ] || set -- postgres "$@"
if [ "$1" = postgres ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 0700 "$PGDATA" 2>/dev/null || true      # another user's volume: initdb says what is wrong with it
  chmod 3777 /var/run/postgresql 2>/dev/null || true
  if [ "$(id -u)" = 0 ]; then
    find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    exec gosu postgres "${BASH_SOURCE[0]}" "$@"
  fi
  [ -s "$PGDATA/PG_VERSION" ] || initialise "${@:2}"
fi
exec "$@"
