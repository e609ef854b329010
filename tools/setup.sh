#!/usr/bin/env bash
# Installs what a target needs into .cache, once; everything is pinned.
#   setup.sh test    virtual environments of the tests on the oldest and newest CPython
#   setup.sh genropy the GenroPy site of the tests, and a browser
#   setup.sh browser Chromium by apt, when root and missing
#   setup.sh tour    virtual environment of `make run`
#   setup.sh conformance the Autobahn suite of WebSocket
#   setup.sh lint    golangci-lint, ruff, mypy, clang-format
#   setup.sh bench   the peers and the load generator
#   setup.sh js      Node by apt, when root and missing; what the client's tests use
#   setup.sh system  compiler and headers by apt, when root and missing
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache/bin .cache/stamp

apt() { # packages: installs them when root on Debian; otherwise says what is missing
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    [ -e .cache/stamp/apt-update ] || { apt-get update -qq && touch .cache/stamp/apt-update; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
  else
    echo "please install: $*" >&2
    return 1
  fi
}

system() {
  command -v cc >/dev/null || apt gcc libc6-dev
  if [ -z "$(tools/pythons.sh newest)" ]; then apt python3 python3-dev python3-venv; fi
}

venv() { # folder python requirements…: made again when the requirements change
  local dir=$1 python=$2; shift 2
  local stamp=$dir/.stamp want
  want=$(cat "$@" | cksum; "$python" -V)
  [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return 0
  rm -rf "$dir"
  "$python" -m venv "$dir" 2>/dev/null || { apt python3-venv; rm -rf "$dir"; "$python" -m venv "$dir"; }
  for file in "$@"; do "$dir/bin/python" -m pip install -q --disable-pip-version-check -r "$file"; done
  printf '%s' "$want" > "$stamp"
}

test_() {
  system
  tools/pythons.sh ends | while read -r version python; do
    venv ".cache/venv-$version" "$python" test/requirements.txt
  done
  tools/pythons.sh middle | while read -r version python; do
    venv ".cache/venv-$version" "$python" test/requirements-link.txt
  done
}

genropy() {
  system
  read -r _ python < <(tools/pythons.sh oldest)
  venv .cache/genropy "$python" test/apps/genropy/requirements.txt
  browser || echo "without chromium the browser test is left out" >&2
}

browser() { command -v chromium >/dev/null || apt chromium; }

tour() {
  system
  read -r _ python < <(tools/pythons.sh newest)
  venv .cache/tour "$python" examples/tour/requirements.txt
}

conformance() {
  system
  read -r _ python < <(tools/pythons.sh newest)
  venv .cache/conformance "$python" test/requirements-conformance.txt
}

lint() {
  system
  read -r _ python < <(tools/pythons.sh newest)
  venv .cache/lint "$python" tools/requirements.txt test/requirements.txt
  local want=v2.15.0
  if [ "$(cat .cache/stamp/golangci-lint 2>/dev/null)" != "$want" ]; then
    GOBIN=$PWD/.cache/bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$want"
    echo "$want" > .cache/stamp/golangci-lint
  fi
}

bench() {
  system
  command -v wrk >/dev/null || apt wrk
  command -v redis-server >/dev/null || apt redis-server ||
    echo "without redis-server bench-state leaves Redis out" >&2
  read -r _ python < <(tools/pythons.sh oldest)
  venv .cache/bench "$python" bench/requirements.txt
}

js() { # what js/package-lock.json pins: only tests use it
  command -v npm >/dev/null || apt nodejs npm
  local want
  want=$(cat js/package.json js/package-lock.json | cksum; node --version)
  [ "$(cat .cache/stamp/js 2>/dev/null)" = "$want" ] && return 0
  mkdir -p .cache/js
  cp js/package.json js/package-lock.json .cache/js
  (cd .cache/js && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  printf '%s' "$want" > .cache/stamp/js
}

fuzz() { command -v clang >/dev/null || apt clang libclang-rt-14-dev; }

case ${1:?what} in
  test) test_ ;;
  tour|lint|bench|conformance|fuzz|js|system|genropy|browser) "$1" ;;
  *) echo "setup.sh: unknown: $1" >&2; exit 2 ;;
esac
