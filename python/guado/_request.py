"""The request that runs: what push, pages and identity need to know of it.

Before: boot puts this around every application from phase 3 on. After: push, pages.
Not here: the fields' meaning, which is the host's (Guado-* of a request are always its).

guado._core runs each request in its own copy of the context, so nothing is reset here.
Threads that the application starts by itself have no request, unless it copies the
context for them (asyncio.to_thread and the thread pools of Starlette do).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

FIELDS = {
    "guado-exchange": "exchange",
    "guado-connection": "connection",
    "guado-user": "user",
    "guado-page": "page",
}


class Current:
    """A request. `source` is its environ or scope, which is read when somebody asks."""

    __slots__ = ("connection", "exchange", "handle", "page", "source", "stores", "user")

    exchange: int | None
    connection: str | None
    user: str | None
    page: str | None

    def __init__(self, source: dict[str, Any], handle: Any = None) -> None:
        self.source = source
        self.handle = handle  # start_response or receive, by which guado._core knows it
        self.stores: Any = None  # _state.Running, once it has touched a store

    def __getattr__(self, name: str) -> Any:
        if name not in FIELDS.values():
            raise AttributeError(name)
        found = _of_scope(self.source) if "type" in self.source else _of_environ(self.source)
        number = found.get("exchange", "")
        self.exchange = int(number) if number.isdigit() else None
        self.connection = found.get("connection")
        self.user = found.get("user")
        self.page = found.get("page")
        return getattr(self, name)

    def title(self) -> str:
        """The request, for people."""
        if "type" in self.source:
            return f"{self.source.get('method', 'WebSocket')} {self.source.get('path', '')}"
        if "PATH_INFO" in self.source:
            path = self.source.get("SCRIPT_NAME", "") + self.source["PATH_INFO"]
            return f"{self.source.get('REQUEST_METHOD')} {path}"
        return f"a turn of page {self.page}"


def _of_environ(environ: dict[str, Any]) -> dict[str, str]:
    found = {}
    for field, name in FIELDS.items():
        value = environ.get("HTTP_" + field.upper().replace("-", "_"))
        if value is not None:
            found[name] = value.encode("latin-1").decode("utf-8", "replace")
    return found


def _of_scope(scope: dict[str, Any]) -> dict[str, str]:
    found = {}
    for field, value in scope.get("headers") or ():
        name = FIELDS.get(field.decode("latin-1"))
        if name is not None:
            found[name] = value.decode("utf-8", "replace")
    return found


class Turn(Current):
    """The turn of a page: no request, but somebody's. `alone`: no other one of the page runs
    meanwhile."""

    __slots__ = ("alone",)

    def __init__(self, page: str, user: str | None, connection: str, handle: Any = None) -> None:
        self.source = _NOTHING
        self.handle = handle
        self.stores = None
        self.exchange = None
        self.page = page
        self.user = user
        self.connection = connection
        self.alone = True


_NOTHING: dict[str, Any] = {}
_current: ContextVar[Current] = ContextVar("guado_request")
enter = _current.set


def current() -> Current | None:
    return _current.get(None)


def around(kind: str, app: Callable[..., Any]) -> Callable[..., Any]:
    """The application, so that its code finds the request that it serves."""

    def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
        enter(Current(environ, start_response))
        return app(environ, start_response)

    def asgi(scope: dict[str, Any], receive: Any, send: Any) -> Any:
        enter(Current(scope, receive))
        return app(scope, receive, send)

    return wsgi if kind == "wsgi" else asgi
