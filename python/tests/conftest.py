"""What holds for every test here.

`--quick` is for the inner loop: shared memory and uvloop only, and none of the modules
that wait for clocks or sanitizers.
"""

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


SLOW = {"test_csrc", "test_interrupt", "test_asgi_stress"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="one transport, one loop, no long tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--quick"):
        return
    left = [item for item in items if not quick(item)]
    items[:] = [item for item in items if quick(item)]
    config.hook.pytest_deselected(items=left)


def quick(item: pytest.Item) -> bool:
    module = item.module.__name__  # type: ignore[attr-defined]
    call = getattr(item, "callspec", None)
    modes = (
        {
            part
            for value in call.params.values()
            if isinstance(value, str)
            for part in value.split("-")
        }
        if call
        else set()
    )
    return module not in SLOW and not modes & {"socket", "asyncio"}
