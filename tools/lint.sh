#!/usr/bin/env bash
# The linters, as `make lint` and CI run them.
set -euo pipefail
cd "$(dirname "$0")/.."
.cache/bin/golangci-lint run ./...
.cache/lint/bin/ruff check .
.cache/lint/bin/ruff format --check .
.cache/lint/bin/mypy --strict python/guado
MYPYPATH=python .cache/lint/bin/mypy --strict test/apps/typed.py
.cache/lint/bin/clang-format --dry-run --Werror $(git ls-files 'python/guado/csrc/*.[ch]' 'python/guado/csrc/**/*.[ch]')
# Exit code 3 means that it found something; anything else that is not 0, that its
# database was not reached (it is not one of the registries that every machine has).
set +e
timeout 180 go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... > .cache/govulncheck.txt 2>&1
found=$?
set -e
if [ "$found" = 0 ]; then
  echo "govulncheck: nothing found"
elif [ "$found" = 3 ] || grep -q "^Vulnerability #\|exit status 3" .cache/govulncheck.txt; then
  cat .cache/govulncheck.txt
  exit 1
else
  echo "govulncheck: its database cannot be reached from here; skipped"
fi
