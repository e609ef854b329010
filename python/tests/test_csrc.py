"""Runs the C tests of the link (csrc/tests): golden vectors and stress, sanitized."""

from __future__ import annotations

import shutil
import subprocess

import link_host as h
import pytest

TESTS = h.ROOT / "guado" / "csrc" / "tests"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_the_link_in_c_holds(sanitizer: str) -> None:
    done = subprocess.run(
        [TESTS / "run.sh", "1", sanitizer], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vectors" in done.stdout
    assert done.stdout.count("served") == 6
