"""Serves ASGI applications: one event loop in the main thread, one task per request.

Before: boot imported the applications and opened the link. After: guado._core, whose
AsgiServer makes scopes and tasks. Not here: lifespan (lifespan.py), messages (C).

What an application can rely on
* The loop is uvloop when it is installed, else asyncio; a loop that the application
  made at import by asyncio.get_event_loop() is used instead, so what it bound works.
* A request runs in its own task and in its own copy of the context taken after import.
* When the client leaves, receive() gives http.disconnect and send() raises an OSError;
  the task is not cancelled. It is cancelled only when the worker stops and the request
  is still running at the end of the grace of DRAIN.
* Work behind the last body message (background tasks) goes on after the client has its
  answer, and a stop waits for it as for any request: before DRAIN comes, in the host.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from guado import _core
from guado.worker import loop, process
from guado.worker.errors import format_exception, head_line
from guado.worker.handshake import App, Hello
from guado.worker.lifespan import DEBUG, ERROR, WARNING, Lifespan

# How long a cancelled request may take to clean up before lifespan shutdown begins.
AFTER_CANCEL = 0.5


def serve(link: _core.Link, apps: list[App], hello: Hello, ending: process.Ending) -> None:
    """Runs the loop until the link is drained. Raises BootFailed when startup fails."""
    loop.run(_serve(link, apps, hello, ending), hello.context.copy())


async def _serve(link: _core.Link, apps: list[App], hello: Hello, ending: process.Ending) -> None:
    worker = _Worker(link, apps, hello, ending)
    started: list[Lifespan] = []
    try:
        for lifespan in worker.lifespans():
            await lifespan.startup()
            started.append(lifespan)
        await worker.run()
    finally:
        for lifespan in reversed(started):
            await lifespan.shutdown()


class _Worker:
    def __init__(
        self, link: _core.Link, apps: list[App], hello: Hello, ending: process.Ending
    ) -> None:
        self._link = link
        self._ending = ending
        self._apps = apps
        self._hello = hello
        self._loop = asyncio.get_running_loop()
        self._states: list[dict[str, Any]] = [{} for _ in apps]
        self._draining = asyncio.Event()
        self._idle = asyncio.Event()
        self._server = _core.AsgiServer(
            link=link,
            loop=self._loop,
            apps=[app.callable if app.kind == "asgi" else None for app in apps],
            states=self._states,
            context=hello.context,
            report=self._report,
            news=self._news,
        )

    def lifespans(self) -> list[Lifespan]:
        return [
            Lifespan(app, state, self._hello.context, self._log)
            for app, state in zip(self._apps, self._states, strict=True)
            if app.kind == "asgi"
        ]

    async def run(self) -> None:
        """Serves from READY to the end of the last request of a drain."""
        descriptors = self._server.descriptors
        for fd in descriptors:
            self._loop.add_reader(fd, self._server.ready)
        try:
            self._hello.ready(loop=loop.name(self._loop))
            self._server.ready()  # arms the wake-up
            await self._draining.wait()
            await self._drain(self._server.grace or 0.0)
        finally:
            for fd in descriptors:
                self._loop.remove_reader(fd)

    async def _drain(self, grace: float) -> None:
        self._ending.begin()
        if not await _within(self._idle.wait(), grace):
            stopped = self._server.cancel_all()
            self._log(ERROR, f"stopping: {stopped} requests cancelled after {round(grace, 1):g} s")
            await _within(self._idle.wait(), AFTER_CANCEL)
        if any(app.kind == "wsgi" for app in self._apps):
            # Threads of WSGI applications end beside the loop.
            await asyncio.to_thread(process.await_drained, self._link, self._ending)

    def _news(self, what: str) -> None:
        """Called by the server: "draining", then "idle"; or the end of the link."""
        if what == "closed":
            os._exit(0)  # the host is gone, and with it everybody who could be answered
        if what == "broken":
            print("guado: the host broke the protocol of the link", file=sys.stderr, flush=True)
            os._exit(1)
        (self._draining if what == "draining" else self._idle).set()

    def _log(self, level: int, text: str) -> None:
        self._link.log(level, text)

    def _report(self, stream: int, what: str, error: BaseException | None) -> None:
        """A failed exchange: called by the server, in the task that failed."""
        if error is None:
            self._link.log(ERROR, what, stream)
            return
        level = DEBUG if what == "gone" and _follows_disconnect(error) else ERROR
        if what == "interrupted":
            level = WARNING
        text = head_line(error, "ASGI application", what == "interrupted")
        self._link.log(level, f"{text}\n{format_exception(error).rstrip()}", stream)


async def _within(waiting: Any, seconds: float) -> bool:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return False
    return True


def _follows_disconnect(error: BaseException) -> bool:
    """Frameworks raise their own exception from ours, or out of http.disconnect: Starlette's
    ClientDisconnect is meant, which nobody can import here."""
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        if isinstance(chain, _core.ClientDisconnected) or (
            type(chain).__name__ in ("ClientDisconnect", "WebSocketDisconnect")
        ):
            return True
        if isinstance(chain, BaseExceptionGroup):
            return all(_follows_disconnect(one) for one in chain.exceptions)
        seen.add(id(chain))
        chain = chain.__cause__ or chain.__context__
    return False
