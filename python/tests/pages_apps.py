"""Applications of the tests of page classes. What handlers do is noted, and read by the
turn "request" of class Notes."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import guado

if os.environ.get("TEST_LOOP") == "uvloop":
    import uvloop

    asyncio.set_event_loop(uvloop.new_event_loop())
elif os.environ.get("TEST_LOOP") == "asyncio":
    asyncio.set_event_loop(asyncio.new_event_loop())

NOTES: list[Any] = []
GATE = threading.Event()
MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="")


class Board(guado.Page):
    """Plain handlers."""

    def __init__(self) -> None:
        self.moves: list[Any] = []
        self.size = self.args.get("size")

    def on_open(self, *, reopened: bool = False) -> None:
        NOTES.append(["open", self.id, reopened, self.size, self.user])
        if self.args.get("refuse"):
            raise guado.PageError("full", "no more boards")
        if self.args.get("crash"):
            raise LookupError("the secret reason")
        if self.args.get("wait"):
            GATE.wait(60)

    def on_message(self, data: Any) -> Any:
        match data:
            case "crash":
                raise LookupError("the secret reason")
            case "refuse":
                raise guado.PageError("not_now", "è tardi")
            case "set":
                return {1, 2}
            case "push":
                self.push({"from": self.id})
                return guado.page().push("again").result(60).pages
            case "who":
                same = guado.connection()
                return [self.user, self.connection, same.user, same.id]
            case "login":
                guado.connection().login("x")
            case "subscribe":
                self.subscribe("a.*").result(60)
                self.unsubscribe("a.*").result(60)
                self.snapshot([1]).result(60)
                return self.end().result(60)
            case "thread":
                return threading.current_thread().name
            case "sleep":
                time.sleep(60)
        self.moves.append(data)
        return self.moves

    def on_snapshot(self) -> Any:
        return self.moves

    def on_event(self, topic: str, data: Any) -> None:
        NOTES.append(["event", topic, data])

    def on_close(self, why: str) -> None:
        NOTES.append(["close", self.id, why])


class Bare(guado.Page, name="bare"):
    """Nothing of its own."""


class _Base(guado.Page):
    """Cannot be opened."""


class Beside(_Base):
    """Its messages run beside each other."""

    @guado.concurrent
    def on_message(self, data: Any) -> Any:
        if data == "open":
            GATE.set()
        return GATE.wait(60)


class Notes(guado.Page):
    """Gives the notes away."""

    def on_message(self, data: Any) -> Any:
        taken = list(NOTES)
        NOTES.clear()
        return taken


@guado.on("invoice.*")
def archive(topic: str, data: Any) -> None:
    NOTES.append(["archive", topic, data])
    if data == "crash":
        raise LookupError("the secret reason")


@guado.on(">")
def all(topic: str, data: Any) -> None:
    NOTES.append(["all", topic, data])


if os.environ.get("TEST_ASYNC"):

    class Later(guado.Page):
        """Coroutines."""

        async def on_open(self, *, reopened: bool = False) -> None:
            MARK.set("open")
            await asyncio.sleep(0)
            self.n = 0

        async def on_message(self, data: Any) -> Any:
            if data == "crash":
                raise LookupError("the secret reason")
            if data == "sleep":
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    NOTES.append(["cancelled", self.id])
                    raise
            await self.push(self.n)
            self.n += 1
            return [self.n, guado.page().id, threading.current_thread() is threading.main_thread()]

    @guado.on("later.*")
    async def later(topic: str, data: Any) -> None:
        await asyncio.sleep(0)
        NOTES.append(["later", topic, data])


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("200 OK", [("Content-Length", "0")])
    return [b""]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b""})
