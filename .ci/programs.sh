#!/usr/bin/env bash
# What the tests need of the machine besides an engine: a browser for the pages, Prometheus (with promtool) for what it is
# told. From Debian, unless they are there.
set -euo pipefail
. "$(dirname "$0")/docker/lib.sh"

if ! command -v chromium chromium-browser google-chrome >/dev/null; then install chromium; fi

if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; then
  # The package brings a daemon that nobody asked for here: it is neither started now nor with the machine.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ] && [ "$(id -u)" = 0 ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  mkdir -p /etc/systemd/system
  [ -e /etc/systemd/system/prometheus.service ] || ln -s /dev/null /etc/systemd/system/prometheus.service
  install prometheus
fi
say "$(promtool --version 2>&1 | head -n 1)"
