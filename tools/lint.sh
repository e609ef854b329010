#!/usr/bin/env bash
# The linters, as `make lint` and CI run them.
set -euo pipefail
cd "$(dirname "$0")/.."
.cache/bin/golangci-lint run ./...
.cache/lint/bin/ruff check .
.cache/lint/bin/ruff format --check .
.cache/lint/bin/mypy --strict python/guado
.cache/lint/bin/clang-format --dry-run --Werror $(git ls-files 'python/guado/csrc/*.[ch]' 'python/guado/csrc/**/*.[ch]')
if timeout 120 go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... > .cache/govulncheck.txt 2>&1; then
  echo "govulncheck: nothing found"
elif grep -q "fetching\|dial\|connect\|Forbidden\|no such host\|status" .cache/govulncheck.txt; then
  echo "govulncheck: its database cannot be reached from here; skipped"
else
  cat .cache/govulncheck.txt; exit 1
fi
