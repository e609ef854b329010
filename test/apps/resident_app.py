"""Pages whose object HTTP requests and messages meet, and whose long calls are polled; of a
WSGI and of an ASGI application, whose handlers are coroutines."""

import asyncio
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import guado

KIND = os.environ.get("TEST_KIND", "wsgi")

_lock = threading.Lock()  # guards _waits
_waits: dict[str, threading.Event] = {}


def event(name: str) -> threading.Event:
    """What a call waits for, and a later request sets."""
    with _lock:
        return _waits.setdefault(name, threading.Event())


class Shared(guado.Page):
    """Each call sees what the one before wrote, in the object and in its store."""

    value = 0
    calls = 0
    inside = 0

    def swap(self, value: int) -> Any:
        """Writes a value, and gives what was there."""
        before = [self.value, self.store.get("value", 0)]
        self.value = self.store["value"] = value
        return before

    def count(self) -> Any:
        """How many calls there were; and whether another one runs now."""
        self.inside += 1
        calls = self.calls
        if self.inside > 1:
            return "not alone"
        self.calls = calls + 1
        return calls + 1

    def act(self, data: Any) -> Any:
        """One call."""
        if data is None:
            counted = self.count()
            self.inside -= 1
            return counted
        return self.swap(data)


class Long(guado.Page):
    """A long call, which its client polls meanwhile."""

    polls = 0

    def poll(self) -> Any:
        """How far it is."""
        self.polls += 1
        return [self.polls, self.store.get("progress")]


class LongRequest(Long):
    """The other way round: a request over HTTP is long, and messages poll."""


if KIND == "wsgi":

    def shared_call(self: Shared, data: Any) -> Any:
        """A message."""
        return self.act(data)

    def shared_request(self: Shared, request: guado.PageRequest) -> Any:
        """The same over HTTP."""
        return self.act(request.data)

    def long_call(self: Long, data: Any) -> Any:
        """Until the event is set."""
        self.store["progress"] = "begun"
        self.flush()
        if not event(self.id).wait(60):
            raise guado.PageError("late", "nobody set the event")
        return self.polls

    @guado.concurrent
    def long_poll(self: Long, request: Any) -> Any:
        """Needs no turn."""
        return self.poll()
else:

    async def shared_call(self: Shared, data: Any) -> Any:
        """A message."""
        if data is not None:
            return self.swap(data)
        counted = self.count()
        await asyncio.sleep(0)  # others could come between, if they were let
        self.inside -= 1
        return counted

    async def shared_request(self: Shared, request: guado.PageRequest) -> Any:
        """The same over HTTP."""
        return await shared_call(self, request.data)

    async def long_call(self: Long, data: Any) -> Any:
        """Until the event is set."""
        self.store["progress"] = "begun"
        self.flush()
        if not await asyncio.to_thread(event(self.id).wait, 60):
            raise guado.PageError("late", "nobody set the event")
        return self.polls

    @guado.concurrent
    async def long_poll(self: Long, request: Any) -> Any:
        """Needs no turn."""
        return self.poll()


Shared.on_message = shared_call  # type: ignore[assignment,method-assign]
Shared.on_request = shared_request  # type: ignore[attr-defined]
Long.on_message = long_call  # type: ignore[assignment,method-assign]
Long.on_request = long_poll  # type: ignore[attr-defined]
LongRequest.on_message = long_poll  # type: ignore[method-assign]
LongRequest.on_request = long_call  # type: ignore[attr-defined]


def route(path: str, page: str | None) -> Any:
    """Routes of an application that knows no page classes; `wait` is a long one."""
    store = guado.page().store
    match path:
        case "/wait":
            store["progress"] = "begun"
            guado.page().flush()
            return event(page or "").wait(60)
        case "/poll":
            store["polls"] = store.get("polls", 0) + 1
            return [store["polls"], store.get("progress")]
        case "/set":
            event(page or "").set()
    return None


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """A plain request."""
    body = json.dumps(route(environ["PATH_INFO"], environ.get("HTTP_GUADO_PAGE"))).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The same."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    page = dict(scope["headers"]).get(b"guado-page", b"").decode()
    body = json.dumps(await asyncio.to_thread(route, scope["path"], page)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


app: Any = wsgi if KIND == "wsgi" else asgi
