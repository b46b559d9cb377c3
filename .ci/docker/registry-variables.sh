#!/usr/bin/env bash
# registry-variables.sh names|values: the variables by which this machine's clients find package registries.
# Proxies are not among them: they are Docker's own client configuration, and a service must not inherit them.
set -euo pipefail

for variable in PIP_CONFIG_FILE PIP_DEFAULT_TIMEOUT PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_INDEX_URL PIP_TRUSTED_HOST \
  UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_HTTP_TIMEOUT UV_INDEX UV_INDEX_URL UV_INSECURE_HOST; do
  [ -n "${!variable:-}" ] || continue
  if [ "$1" = names ]; then echo "$variable"; else printf '%s=%s\n' "$variable" "${!variable}"; fi
done
