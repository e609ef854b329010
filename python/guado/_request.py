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
    b"guado-exchange": "exchange",
    b"guado-connection": "connection",
    b"guado-user": "user",
    b"guado-page": "page",
}
_OF_ENVIRON = {
    name: "HTTP_" + field.decode().upper().replace("-", "_") for field, name in FIELDS.items()
}


class Current:
    """A request. `source` is its environ or scope, which is read when somebody asks."""

    __slots__ = ("connection", "exchange", "handle", "page", "source", "stores", "user", "waits")

    exchange: int | None
    connection: str | None
    user: str | None
    page: str | None

    def __init__(self, source: dict[str, Any], handle: Any = None) -> None:
        self.source = source
        self.handle = handle  # start_response or receive, by which guado._core knows it
        self.stores: Any = None  # _state.Running, once it has touched a store
        self.waits = False  # it has logged in, and what it pushes waits for its commit

    def __getattr__(self, name: str) -> Any:
        key = _OF_ENVIRON.get(name)
        if key is None:
            raise AttributeError(name)
        source = self.source
        if "type" in source:
            self._read_scope(source)
            return getattr(self, name)
        value = source.get(key)
        if value is not None and not value.isascii():
            value = value.encode("latin-1").decode("utf-8", "replace")
        if name == "exchange":
            value = _number(value)
        setattr(self, name, value)
        return value

    def _read_scope(self, scope: dict[str, Any]) -> None:
        """All at once: its fields are a list."""
        found = {}
        for field, value in scope.get("headers") or ():
            name = FIELDS.get(field)
            if name is not None:
                found[name] = value.decode("utf-8", "replace")
        self.exchange = _number(found.get("exchange"))
        self.connection = found.get("connection")
        self.user = found.get("user")
        self.page = found.get("page")

    def name(self) -> dict[str, Any] | str:
        """What `title` makes the name of, when people want it."""
        return self.source


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def title(source: dict[str, Any]) -> str:
    """A request, for people."""
    if "type" in source:
        return f"{source.get('method', 'WebSocket')} {source.get('path', '')}"
    path = source.get("SCRIPT_NAME", "") + source.get("PATH_INFO", "")
    return f"{source.get('REQUEST_METHOD')} {path}"


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
        self.waits = True

    def name(self) -> str:
        return f"a turn of page {self.page}"


_NOTHING: dict[str, Any] = {}
_current: ContextVar[Current] = ContextVar("guado_request")
enter = _current.set


def current() -> Current | None:
    return _current.get(None)


def around(kind: str, app: Callable[..., Any]) -> Callable[..., Any]:
    """The application, so that its code finds the request that it serves."""

    def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
        here = Current(environ, start_response)
        page = environ.get("HTTP_GUADO_PAGE")
        if page is None or page.isascii():
            here.page = page  # whoever asks for anything asks for this
        enter(here)
        return app(environ, start_response)

    def asgi(scope: dict[str, Any], receive: Any, send: Any) -> Any:
        enter(Current(scope, receive))
        return app(scope, receive, send)

    return wsgi if kind == "wsgi" else asgi
