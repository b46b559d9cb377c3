#!/usr/bin/env bash
# Removes what an interrupted run left in the engine: containers, networks and volumes of this project, and images
# that nobody has named for three days. Does nothing where no engine answers.
set -uo pipefail
timeout 10 docker info >/dev/null 2>&1 || exit 0

for label in com.docker.compose.project=millrace com.docker.compose.project=millrace-second org.testcontainers=true; do
  for kind in container network volume; do
    list=(timeout 30 docker "$kind" ls --quiet --filter "label=$label")
    remove=(timeout 120 docker "$kind" rm)
    if [ "$kind" = container ]; then list+=(--all); remove+=(--force --volumes); fi
    "${list[@]}" | xargs --no-run-if-empty "${remove[@]}" >/dev/null || echo "could not remove a $kind with $label" >&2
  done
done
timeout 120 docker image prune --force --filter until=72h >/dev/null || echo "could not remove old images" >&2
