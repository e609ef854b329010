"""What the ASGI test modules share: workers on both loops, kept for a whole module."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
from asgi_host import Worker

LOOPS = ["asyncio", "uvloop"]


def environment(loop: str) -> dict[str, str]:
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed")
    return {"TEST_LOOP": loop}


@pytest.fixture(params=["asyncio-shm", "uvloop-shm", "uvloop-socket"], scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One worker for the tests of a module that leave it as it was."""
    loop, transport = request.param.split("-")
    with Worker("asgi_apps:app", env=environment(loop), transport=transport) as worker:
        yield worker
        assert worker.stop() == 0


@pytest.fixture(params=LOOPS)
def loop_env(request: pytest.FixtureRequest) -> dict[str, str]:
    return environment(request.param)
