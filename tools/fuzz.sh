#!/usr/bin/env bash
# Fuzzes every decoder, GUADO_FUZZ_SECONDS (default 60) each; new inputs stay below .cache/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${GUADO_FUZZ_SECONDS:-60}
tools/setup.sh fuzz
grep -rlE '^func Fuzz' --include='*_test.go' internal cmd | sort | while read -r file; do
  grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | cut -c6- | while read -r name; do
    echo "== $name ($(dirname "$file"))"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "${seconds}s" "./$(dirname "$file")" </dev/null
  done
done
mkdir -p .cache/fuzz
sh python/guado/csrc/tests/run_fuzz.sh "$seconds" "$PWD/.cache/fuzz"
