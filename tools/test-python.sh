#!/usr/bin/env bash
# Worker tests: all of them on the oldest and the newest CPython found, the link and trap
# tests on those between. `-X dev` is on for the newest.
#   tools/test-python.sh oldest|newest|middle
set -euo pipefail
cd "$(dirname "$0")/.."
oldest=$(tools/pythons.sh oldest | cut -d' ' -f1)
newest=$(tools/pythons.sh newest | cut -d' ' -f1)
[ "$1" = oldest ] && [ "$oldest" = "$newest" ] && exit # as the newest
options=()
[ "$1" = newest ] && options=(-X dev)
options+=(-m pytest -q)
[ "$1" = middle ] && options+=(-m "not frameworks")
tools/pythons.sh "$1" | while read -r v _; do
  echo "== CPython $v ($1)"
  ".cache/venv-$v/bin/python" "${options[@]}" python/tests </dev/null
done
