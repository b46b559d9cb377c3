#!/usr/bin/env bash
# A root file system of Debian bookworm as a tar stream on standard output: what debian:bookworm-slim is, and the
# way this machine reaches package registries (CA bundle, pip's configuration). An image made from it is for this
# machine only and is never published.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || die "debootstrap needs root"
install debootstrap ca-certificates
root=$(mktemp -d -p /var/tmp millrace-debian.XXXXXX)
trap 'rm -rf "$root"' EXIT

# Debian's repositories as this machine knows them; debootstrap's and Debian's own where it knows none (yet).
# The dollars are apt's own.
# shellcheck disable=SC2016
repositories=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  awk '$1 == "Debian" && $3 ~ /^bookworm/ {print "deb", $2, $3, $4}' | sort -u)
mirror=$(awk '$3 == "bookworm" {print $2; exit}' <<<"$repositories")

say "debootstrap"
mkdir -p "$CI_HOME"
timeout 600 debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} >"$CI_HOME/debootstrap.log" 2>&1 ||
  { tail -n 20 "$CI_HOME/debootstrap.log" >&2; die "debootstrap failed"; }
[ -z "$repositories" ] || printf '%s\n' "$repositories" >"$root/etc/apt/sources.list"

# As in the slim images: no documentation, no translations, no caches.
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'SLIM'
path-exclude /usr/share/doc/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
SLIM
rm -rf "$root"/usr/share/{doc,info,locale,man}/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*

# What reaches the registries here. A file or folder that a variable names comes along.
keep() { mkdir -p "$root$(dirname "$1")" && cp -aL "$1" "$root$(dirname "$1")/"; }
keep /etc/ssl/certs/ca-certificates.crt
# One by one too: Debian's ca-certificates package, once something installs it, writes the bundle again from these.
mkdir -p "$root/usr/local/share/ca-certificates"
awk -v folder="$root/usr/local/share/ca-certificates" '
  /-----BEGIN CERTIFICATE-----/ {file = sprintf("%s/machine-%03d.crt", folder, ++count)}
  file {print >file}
  /-----END CERTIFICATE-----/ {close(file); file = ""}' /etc/ssl/certs/ca-certificates.crt
[ ! -f /etc/pip.conf ] || keep /etc/pip.conf
while IFS= read -r variable; do
  [[ "${!variable}" != /* || ! -e "${!variable}" ]] || keep "${!variable}"
done < <("$(dirname "$0")/registry-variables.sh" names)

tar -C "$root" --numeric-owner --exclude=./dev/* --exclude=./proc/* --exclude=./sys/* -c .
