# shellcheck shell=bash
# What the scripts of this folder share. Sourced, never run.
# shellcheck disable=SC2034  # it is used where this is sourced

CI_HOME="${MILLRACE_CI_HOME:-$HOME/.cache/millrace-ci}"  # downloads, logs: kept between runs on one machine

say() { printf '%s  %s\n' "$(date +%T)" "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# wait_for SECONDS WHAT COMMAND...: until COMMAND succeeds; each try is bounded too, so that nothing hangs.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until timeout 10 "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { say "gave up waiting for $what"; return 1; }
    sleep 0.5
  done
}

# install PACKAGE...: Debian packages that aren't there yet. The lists are fetched only when apt lacks a package.
install() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  [ "$(id -u)" = 0 ] || die "apt-get needs root to install ${missing[*]}"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  local apt=(timeout 600 apt-get -qq -o DPkg::Lock::Timeout=120)
  apt-cache show "${missing[@]}" >/dev/null 2>&1 || "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null || {
    "${apt[@]}" update  # the lists were older than the mirror
    "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
  }
}
