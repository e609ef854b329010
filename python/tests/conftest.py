"""What holds for every test here."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def temporary() -> Iterator[None]:
    """Files of applications whose worker was killed go with the run."""
    before, folder = tempfile.tempdir, tempfile.mkdtemp(prefix="guado-tests-")
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    yield
    tempfile.tempdir = before
    shutil.rmtree(folder)
