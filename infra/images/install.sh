#!/bin/sh
# Installs locked packages into a new virtual environment: the dependency layer of every service's image.
#
#   install.sh LOCK ENVIRONMENT
#
# Every hash is checked, uv's own too. CA_BUNDLE may hold certificates in PEM, trusted in addition to the image's
# while this runs; they are not kept.
set -eu

lock=$1 environment=$2
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "${CA_BUNDLE:-}" ]; then
    system=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    { if [ -e "$system" ]; then cat "$system"; fi; printf '%s\n' "$CA_BUNDLE"; } > "$work/ca.pem"
    export SSL_CERT_FILE="$work/ca.pem" PIP_CERT="$work/ca.pem" REQUESTS_CA_BUNDLE="$work/ca.pem"
fi

python -m venv "$work/uv"
"$work/uv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
    --require-hashes -r "$here/tools.lock"

# --without-pip: what runs in the image installs nothing. Byte code is made now, for a read-only file system,
# and never checked against the source again.
python -m venv --without-pip "$environment"
PYC_INVALIDATION_MODE=UNCHECKED_HASH "$work/uv/bin/uv" pip sync --quiet --no-cache --link-mode copy --compile-bytecode \
    --python "$environment/bin/python" --require-hashes "$lock"
