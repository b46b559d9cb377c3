#!/usr/bin/env bash
# A Docker engine that answers: the one that is there, or Debian's, started here and left running for later runs.
#   MILLRACE_CI_DOCKER_ROOT  where the engine that is started here keeps its images (default /var/lib/docker)
set -euo pipefail
. "$(dirname "$0")/lib.sh"

answers() { timeout 10 docker info >/dev/null 2>&1; }

if answers; then say "a Docker engine answers"; exit 0; fi
[ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST is $DOCKER_HOST, and no engine answers there"
[ "$(id -u)" = 0 ] || die "no Docker engine answers, and starting one needs root"

install docker.io iptables ca-certificates procps
hash -r
log="$CI_HOME/dockerd.log"
mkdir -p "$CI_HOME"

# Installing the package may have started a daemon already: give that one a moment before starting another.
if ! pgrep -x dockerd >/dev/null; then
  rm -f /var/run/docker.pid  # of one that was killed; its number may be another process's by now
  say "starting dockerd (log: $log)"
  # A session of its own and no inherited descriptors: it outlives this script and never holds a caller's pipe open.
  setsid nohup dockerd --host=unix:///var/run/docker.sock \
    --data-root "${MILLRACE_CI_DOCKER_ROOT:-/var/lib/docker}" \
    --log-opt max-size=20m --log-opt max-file=2 >>"$log" 2>&1 </dev/null &
fi
wait_for 90 "the Docker engine" docker info || { tail -n 30 "$log" >&2 || true; die "dockerd didn't come up"; }
say "Docker $(docker version --format '{{.Server.Version}}') answers"
