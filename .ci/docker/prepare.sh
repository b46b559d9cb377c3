#!/usr/bin/env bash
# Engine, base images, Compose, in this order; what is there already is used. Writes the environment that builds and
# tests need to standard output, as `export NAME=value` lines, and everything else to standard error.
set -euo pipefail
cd "$(dirname "$0")"
./engine.sh
./compose.sh &  # computes while the images download
composing=$!
trap 'kill "$composing" 2>/dev/null || true' EXIT
./base-images.sh
wait "$composing"
