"""Requests in memory: an application as the host would call it.

Before: the test client of a framework, or the test's own code. After: the application.
Not here: what the host knows (_memory).

A request that comes through here has what it would have under Guado: an own exchange, the
fields Guado-*, and the cookie of its connection, which the answer sets.
"""

from __future__ import annotations

import contextlib
import contextvars
import http.cookies
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from guado import _request
from guado._ledger import Exchange
from guado.testing._memory import Browser, Host, Visit
from guado.testing._stores import State

COOKIE = "guado"


@contextlib.contextmanager
def request(
    host: Host, state: State | None, browser: Browser | None, page: str | None
) -> Iterator[Visit]:
    """Around code that is to be a request's."""
    visit = host.enter(browser)
    token = _request.enter(current_of(visit, page))
    try:
        with running(state, visit):
            yield visit
    finally:
        host.leave(visit)
        _request._current.reset(token)


def running(
    state: State | None, visit: Visit
) -> contextlib.AbstractContextManager[Exchange | None]:
    if state is None:
        return contextlib.nullcontext()
    return state.around(f"request {visit.number}")


def current_of(visit: Visit, page: str | None) -> _request.Current:
    """The request as the API looks at it."""
    current = _request.Current({})
    current.exchange, current.page = visit.number, page
    current.connection = visit.browser.id if visit.browser else None
    current.user = (visit.browser.user or None) if visit.browser else None
    return current


class Road:
    """What both kinds share."""

    def __init__(
        self, host: Host, state: State | None, browser: Browser | None, identity: bool
    ) -> None:
        self.host = host
        self.state = state
        self.guest = browser  # whose requests are that bring no cookie
        self.identity = identity

    def enter(
        self, cookies: str, page: str, query: str, address: str, user_agent: str, path: str
    ) -> tuple[Visit, str | None]:
        parsed = http.cookies.SimpleCookie(cookies)
        token = parsed[COOKIE].value if COOKIE in parsed else None
        browser = self.host.by_token(token) if token else self.guest
        page = page or parse_qs(query).get("page_id", [""])[0]
        tab = self.host.tabs.get(page)
        mine = tab is not None and tab.browser is browser
        visit = self.host.enter(browser)
        visit.address, visit.user_agent, visit.path = address, user_agent, path
        return visit, page if mine else None

    def fields(self, visit: Visit, page: str | None) -> dict[str, str]:
        fields = {"Guado-Exchange": str(visit.number)}
        if visit.browser is not None:
            fields["Guado-Connection"] = visit.browser.id
            if visit.browser.user:
                fields["Guado-User"] = visit.browser.user
        if page:
            fields["Guado-Page"] = page
        return fields

    def answer(self, visit: Visit, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The fields of an answer as they reach the client. From now on it is too late."""
        for name, value in fields:
            if self.identity and name.lower() == "guado-user":
                self.say(visit, value)
        visit.sent = True
        left = [(n, v) for n, v in fields if not n.lower().startswith("guado-")]
        if visit.cookie and visit.browser is not None:
            left.append(("Set-Cookie", f"{COOKIE}={visit.browser.token}; {_ATTRIBUTES}"))
        return left

    def say(self, visit: Visit, user: str) -> None:
        name = user.encode("latin-1").decode()
        with self.host.lock:
            if name:
                self.host.login({"exchange": visit.number, "user": name})
            else:
                self.host.logout({"exchange": visit.number})
        self.host.flush()


_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"


def wsgi(road: Road, app: Callable[..., Any]) -> Any:
    """The application as Guado calls it."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        visit, page = road.enter(
            environ.get("HTTP_COOKIE", ""),
            environ.get("HTTP_GUADO_PAGE", ""),
            environ.get("QUERY_STRING", ""),
            environ.get("REMOTE_ADDR", ""),
            environ.get("HTTP_USER_AGENT", ""),
            environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
        )
        environ = {k: v for k, v in environ.items() if not k.startswith("HTTP_GUADO_")}
        for name, value in road.fields(visit, page).items():
            key = "HTTP_" + name.upper().replace("-", "_")
            environ[key] = value.encode().decode("latin-1")
        return _Answer(road, visit, app, environ, start_response)

    return application


class _Answer:
    """A WSGI answer on its way. Its application runs in a context of its own."""

    def __init__(
        self,
        road: Road,
        visit: Visit,
        app: Callable[..., Any],
        environ: dict[str, Any],
        start_response: Callable[..., Any],
    ) -> None:
        self.road, self.visit, self.start_response = road, visit, start_response
        self.head: tuple[str, list[tuple[str, str]], Any] | None = None
        self.write: Callable[[bytes], Any] | None = None
        self.context = contextvars.copy_context()
        self.context.run(_request.enter, _request.Current(environ))
        state = road.state
        self.exchange = state.enter(self.context, f"request {visit.number}") if state else None
        self.body: Iterable[bytes] = ()
        try:
            self.body = self.context.run(app, environ, self.start)
        except BaseException:
            self.end()
            raise

    def start(self, status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.visit.sent and exc_info:
            raise exc_info[1]
        self.head = status, fields, exc_info

        def write(data: bytes) -> None:
            self.send()
            assert self.write is not None
            self.write(data)

        return write

    def send(self) -> None:
        """The head leaves with the first bytes, as the host sends it."""
        if not self.visit.sent:
            if self.head is None:
                raise RuntimeError("the application has not called start_response")
            status, fields, exc_info = self.head
            if self.road.state and self.exchange:
                self.road.state.head(self.exchange)
            fields = self.road.answer(self.visit, fields)
            self.write = (
                self.start_response(status, fields, exc_info)
                if exc_info
                else self.start_response(status, fields)
            )

    def __iter__(self) -> Iterator[bytes]:
        chunks = self.context.run(iter, self.body)
        while True:
            try:
                chunk = self.context.run(next, chunks)
            except StopIteration:
                break
            if chunk:
                self.send()
                yield chunk
        self.send()

    def close(self) -> None:
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                self.context.run(close)
        finally:
            self.end()

    def end(self) -> None:
        if self.road.state and self.exchange:
            self.road.state.take(self.exchange, end=True)
        self.road.host.leave(self.visit)


def asgi(road: Road, app: Callable[..., Any]) -> Any:
    """The application as Guado calls it."""

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        sent = {name.lower(): value for name, value in scope["headers"]}
        visit, page = road.enter(
            sent.get(b"cookie", b"").decode("latin-1"),
            sent.get(b"guado-page", b"").decode("latin-1"),
            scope.get("query_string", b"").decode("latin-1"),
            (scope.get("client") or ("",))[0],
            sent.get(b"user-agent", b"").decode("latin-1"),
            scope.get("path", ""),
        )
        fields = [(n, v) for n, v in scope["headers"] if not n.lower().startswith(b"guado-")]
        for name, value in road.fields(visit, page).items():
            fields.append((name.lower().encode(), value.encode()))
        scope = {**scope, "headers": fields}

        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and road.state and exchange:
                road.state.head(exchange)
            if message["type"] in ("http.response.start", "websocket.accept"):
                told = [
                    (n.decode("latin-1"), v.decode("latin-1"))
                    for n, v in message.get("headers") or ()
                ]
                fields = [
                    (n.encode("latin-1"), v.encode("latin-1")) for n, v in road.answer(visit, told)
                ]
                message = {**message, "headers": fields}
            await send(message)

        token = _request.enter(_request.Current(scope))
        try:
            with running(road.state, visit) as exchange:
                await app(scope, receive, sending)
        finally:
            road.host.leave(visit)
            _request._current.reset(token)

    return application
