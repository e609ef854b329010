#!/usr/bin/env bash
# The worker tests with an extension built with ASan and UBSan, on the oldest CPython.
# (Its pure C parts run under TSan and ASan in python/tests/test_csrc.py.)
set -euo pipefail
cd "$(dirname "$0")/.."
read -r version python < <(tools/pythons.sh oldest)
copy=.cache/sanitize
rm -rf "$copy" && mkdir -p "$copy" && cp -r python protocol test/apps "$copy" # the tests find what they need beside them
cp pytest.ini "$copy"
"$python" "$copy/python/build_ext.py" --sanitize >/dev/null
# CPython keeps what it allocates until exit: leaks are looked for in `make soak`.
export LD_PRELOAD="$(cc -print-file-name=libasan.so):$(cc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc
cd "$copy" && "../venv-$version/bin/python" -m pytest -q -p no:cacheprovider \
  -k "not csrc and not memory and not fork and not adapters and not store_interrupt" "${@:-python/tests}"
# Adapters are Python alone, and frameworks are slow here. Freed memory stays in ASan's
# quarantine, and a forked child may wait for a lock of ASan's allocator that another thread
# of its parent held.
