"""The request that runs, for code that may run on another server, too.

Before: the adapters. After: guado.page, guado.connection. Not here: frameworks.
"""

from __future__ import annotations

from guado import _request
from guado.push import Connection, PageHandle


def page() -> PageHandle | None:
    """The page of the request; None: it has none, or this is no request of Guado's."""
    current = _request.current()
    return PageHandle(current.page) if current is not None and current.page else None


def connection() -> Connection | None:
    """The browser of the request; None: this is no request of Guado's."""
    current = _request.current()
    return Connection(current) if current is not None else None


def known() -> Connection | None:
    """The browser of the request; None: also one that nobody has seen before."""
    current = _request.current()
    return Connection(current) if current is not None and current.connection else None


def user() -> str | None:
    """Who has logged in."""
    current = _request.current()
    return (current.user or None) if current is not None else None
