#!/usr/bin/env bash
# Removes what an interrupted run left in the engine: containers, networks and volumes of this project, and images
# that nobody has named for three days. Does nothing where no engine answers.
set -uo pipefail
timeout 10 docker info >/dev/null 2>&1 || exit 0

# A run of the tests has a project of its own (infra/compose/leftovers.py).
projects_of_tests() {
  local list
  for list in "ps --all" "network ls" "volume ls"; do
    # shellcheck disable=SC2086
    timeout 30 docker $list --format '{{.Label "com.docker.compose.project"}}'
  done | grep '^millrace-test-' | sort -u
}

for label in com.docker.compose.project=millrace com.docker.compose.project=millrace-second org.testcontainers=true \
  $(projects_of_tests | sed 's/^/com.docker.compose.project=/'); do
  for kind in container network volume; do
    list=(timeout 30 docker "$kind" ls --quiet --filter "label=$label")
    remove=(timeout 120 docker "$kind" rm)
    if [ "$kind" = container ]; then list+=(--all); remove+=(--force --volumes); fi
    "${list[@]}" | xargs --no-run-if-empty "${remove[@]}" >/dev/null || echo "could not remove a $kind with $label" >&2
  done
done
timeout 30 docker image ls --filter 'reference=millrace/*:millrace-test-*' --format '{{.Repository}}:{{.Tag}}' |
  xargs --no-run-if-empty timeout 120 docker rmi --no-prune >/dev/null || echo "could not remove the images of a test run" >&2
timeout 120 docker image prune --force --filter until=72h >/dev/null || echo "could not remove old images" >&2
