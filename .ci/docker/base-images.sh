#!/usr/bin/env bash
# Makes the base and server images that a machine without a container registry can't pull. An image is made again
# only when what it is made from has changed: the digest of that is its label millrace.recipe.
# Writes `export NAME=value` lines for anyone who builds on them to standard output.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")"

repository=../..
DEBIAN=millrace-ci/debian:bookworm
PYTHON=millrace-ci/python:3.11
POSTGRES=millrace-ci/postgres:15
KAFKA=millrace-ci/kafka:4.1
MAILBOX=millrace-ci/mailbox:1
PROMETHEUS=millrace-ci/prometheus:2.42
export DOCKER_BUILDKIT=0

label() { docker image inspect --format '{{index .Config.Labels "millrace.recipe"}}' "$1" 2>/dev/null || true; }
digest() { sha256sum | cut -c1-16; }
# Names and contents in a fixed order; times and owners make no difference.
contents() { find "$@" -type f ! -path '*/__pycache__/*' | LC_ALL=C sort | xargs sha256sum; }

debian() {
  local recipe variable changes=(--change 'CMD ["bash"]')
  recipe=$({ cat debian.sh /etc/ssl/certs/ca-certificates.crt; ./registry-variables.sh values; } | digest)
  [ "$(label "$DEBIAN")" != "$recipe" ] || return 0
  for variable in SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE; do
    changes+=(--change "ENV $variable=/etc/ssl/certs/ca-certificates.crt")
  done
  while IFS='=' read -r variable value; do
    changes+=(--change "ENV $variable=\"$value\"")
  done < <(./registry-variables.sh values)
  ./debian.sh | docker import "${changes[@]}" --change "LABEL millrace.recipe=$recipe" - "$DEBIAN" >/dev/null
  say "$DEBIAN made"
}

# image NAME CONTEXT PARENT...: CONTEXT is a folder with a Dockerfile.
image() {
  local name=$1 context=$2 recipe started=$SECONDS
  shift 2
  recipe=$({ (cd "$context" && contents .); for parent in "$@"; do label "$parent"; done; } | digest)
  [ "$(label "$name")" != "$recipe" ] || return 0
  say "making $name"
  local log="$CI_HOME/${name//[\/:]/-}.log"
  timeout 900 docker build --force-rm --label "millrace.recipe=$recipe" --tag "$name" --build-arg "DEBIAN_IMAGE=$DEBIAN" \
    --build-arg "PYTHON_IMAGE=$PYTHON" "$context" >"$log" 2>&1 || { tail -n 40 "$log" >&2; die "could not make $name"; }
  say "$name made in $((SECONDS - started)) s"
}

mailbox() {
  local context
  context=$(mktemp -d)
  cp -r mailbox/. "$context"
  mkdir "$context/infra"
  cp -r "$repository/infra/__init__.py" "$repository/infra/mailbox" "$context/infra"
  find "$context" -name __pycache__ -prune -exec rm -r '{}' +
  # The lock without its hashes: what constrains must not also demand a hash of everything.
  sed -nE 's/^([a-zA-Z0-9._-]+==[^\\]*[^\\ ]) *\\?$/\1/p' "$repository/requirements.lock" >"$context/constraints.txt"
  image "$MAILBOX" "$context" "$PYTHON"
  rm -r "$context"
}

install ca-certificates
mkdir -p "$CI_HOME"
exec 9>"$CI_HOME/base-images.lock"  # two builds at once would make everything twice
flock -w 1200 9 || die "another base-images.sh has been at work for 20 minutes"

debian
image "$PYTHON" python "$DEBIAN"
image "$POSTGRES" postgres "$DEBIAN"
image "$KAFKA" kafka "$DEBIAN" "$PYTHON"
image "$PROMETHEUS" prometheus "$DEBIAN"
mailbox

# Without buildx the client builds with the classic builder only; testcontainers' helper image can't be pulled.
docker buildx version >/dev/null 2>&1 || echo 'export DOCKER_BUILDKIT=0'
printf 'export %s\n' TESTCONTAINERS_RYUK_DISABLED=true "MILLRACE_PYTHON_IMAGE=$PYTHON" "MILLRACE_POSTGRES_IMAGE=$POSTGRES" \
  "MILLRACE_KAFKA_IMAGE=$KAFKA" "MILLRACE_MAILPIT_IMAGE=$MAILBOX" \
  "MILLRACE_PROMETHEUS_IMAGE=$PROMETHEUS"
