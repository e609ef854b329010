#!/usr/bin/env bash
# Worker tests: all of them on the oldest and newest CPython found, the link and
# trap tests on those between. `-X dev` is on for the newest.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { echo "== CPython $1"; shift; "$@"; }
tools/pythons.sh ends | while read -r v _; do
  dev=(); [ "$v" = "$(tools/pythons.sh newest | cut -d' ' -f1)" ] && dev=(-X dev)
  run "$v" ".cache/venv-$v/bin/python" "${dev[@]}" -m pytest -q python/tests </dev/null
done
tools/pythons.sh middle | while read -r v _; do
  run "$v (link and traps)" ".cache/venv-$v/bin/python" -m pytest -q -m "not frameworks" python/tests </dev/null
done
