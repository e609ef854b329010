"""The request that runs, for code that may run on another server, too.

Before: the adapters. After: guado.page, guado.connection. Not here: frameworks.
"""

from __future__ import annotations

import os

import guado
from guado import _host, _request
from guado.errors import NoItem
from guado.push import Connection, PageHandle
from guado.store import Store


def hosted() -> bool:
    """Whether this process has a host: as a worker, one of its programs, or in a test."""
    return bool(guado._worker or _host.instead or os.environ.get("GUADO_PUSH"))


def page() -> PageHandle | None:
    """The page of the request; None: it has none, or this is no request of Guado's."""
    current = _request.current()
    return PageHandle(current.page) if current is not None and current.page else None


def connection() -> Connection | None:
    """The browser of the request; None: this is no request of Guado's."""
    current = _request.current()
    return Connection(current) if current is not None else None


def kept(make: bool = False) -> Store | None:
    """The store of the browser; None: nothing is kept of it. With `make` a browser that
    nobody has seen before gets one, and the answer its cookie; not where the request was sent
    before a login that has come meanwhile: what it has is nobody's."""
    current = _request.current()
    if current is None or not (make or current.connection):
        return None
    try:
        return Connection(current).store
    except NoItem:
        return None


def user() -> str | None:
    """Who has logged in."""
    current = _request.current()
    return (current.user or None) if current is not None else None
