#!/usr/bin/env bash
# Prints the CPythons >= 3.11 of this machine that can build extensions, oldest
# first, one minor version a line: "3.11 /path/to/python". Looks in pyenv, then PATH.
# `pythons.sh ends` prints only the oldest and the newest; `pythons.sh newest` one.
set -euo pipefail
root=${PYENV_ROOT:-$HOME/.pyenv}
{
  ls "$root"/versions/*/bin/python3 2>/dev/null || true
  for name in python3 python3.11 python3.12 python3.13 python3.14 python3.15; do
    type -ap "$name" 2>/dev/null || true
  done
} | grep -v /shims/ | while read -r python; do
  "$python" - <<'P' 2>/dev/null || true
import os, sys, sysconfig
header = os.path.join(sysconfig.get_config_var("INCLUDEPY") or "", "Python.h")
if (sys.implementation.name == "cpython" and sys.version_info >= (3, 11)
        and sys.version_info.releaselevel == "final" and os.path.exists(header)
        and not sysconfig.get_config_var("Py_GIL_DISABLED") and sys.prefix == sys.base_prefix):
    print("%d.%d" % sys.version_info[:2], sys.executable)
P
done | sort -t. -k2,2n -s | awk '!seen[$1]++' > /tmp/guado-pythons.$$
trap 'rm -f /tmp/guado-pythons.$$' EXIT
case ${1:-all} in
  ends) sed -n '1p;$p' /tmp/guado-pythons.$$ | uniq ;;
  newest) tail -n 1 /tmp/guado-pythons.$$ ;;
  oldest) head -n 1 /tmp/guado-pythons.$$ ;;
  middle) sed '1d;$d' /tmp/guado-pythons.$$ ;;
  *) cat /tmp/guado-pythons.$$ ;;
esac
