"""Fixtures of the WSGI tests: every test runs over both transports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wsgi_host import TRANSPORTS, WsgiWorker, both_transports

TARGETS = ("wsgi_apps:app", "wsgi_apps:second", "wsgi_apps:validated")


@pytest.fixture(scope="module", params=TRANSPORTS)
def worker(request: pytest.FixtureRequest) -> Iterator[WsgiWorker]:
    with both_transports(request.param), WsgiWorker(*TARGETS) as worker:
        yield worker
