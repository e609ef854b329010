"""Lifespan 2.0: startup before the worker is ready, shutdown after its last request.

Before: asgi.serve made the loop and imported the context. After: requests, each with a
shallow copy of `state`. Not here: HTTP.

`auto` takes an application that raises before it answered startup for one without
lifespan, as the specification wants (Django raises ValueError); `on` takes it for a
failure. A startup that the application itself calls failed ends the boot in both.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from guado.worker.errors import BootFailed, format_exception, last_line
from guado.worker.handshake import App

# What an application may still do behind its answer to shutdown before it is cancelled.
AFTER_ANSWER = 0.5

DEBUG, INFO, WARNING, ERROR = range(4)

Log = Callable[[int, str], object]


class Lifespan:
    """The lifespan of one application on one loop; `state` is filled by its startup."""

    def __init__(
        self, app: App, state: dict[str, Any], context: contextvars.Context, log: Log
    ) -> None:
        self._app = app
        self._state = state
        self._context = context
        self._log = log
        self._loop = asyncio.get_running_loop()
        # What the application answered: "" complete, otherwise why it failed.
        self._started: asyncio.Future[str | None] = self._loop.create_future()
        self._stopped: asyncio.Future[str | None] = self._loop.create_future()
        self._stop = asyncio.Event()
        self._parked: asyncio.Future[None] = self._loop.create_future()
        self._received = 0
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Returns when the application is ready for requests; raises BootFailed."""
        if self._app.lifespan == "off":
            return
        task = self._loop.create_task(self._run(), context=self._context.copy())
        await _first(task, self._started)
        if self._started.done():
            failure = self._started.result()
            if failure is not None:
                task.cancel()
                await asyncio.wait({task})
                raise self._failed(failure)
            self._task = task
            task.add_done_callback(self._watch)
            return
        error = None if task.cancelled() else task.exception()
        if self._app.lifespan == "on":
            if error is None:
                raise self._failed("the application returned without lifespan.startup.complete")
            raise BootFailed("lifespan", self._app.name, last_line(error), format_exception(error))
        if error is not None and self._received > 0:
            self._complain(
                'exception after lifespan.startup; going on without lifespan (lifespan = "on" '
                "makes it fail)",
                error,
                WARNING,
            )
        else:
            self._log(DEBUG, f"app {self._app.name}: no lifespan support")

    async def shutdown(self) -> None:
        """Lets the application clean up; what goes wrong is logged."""
        task = self._task
        if task is None or task.done():
            return
        task.remove_done_callback(self._watch)
        self._stop.set()
        await _first(task, self._stopped)
        if self._stopped.done():
            # What follows the answer is still the application's: until it returns or waits.
            await _first(task, self._parked, timeout=AFTER_ANSWER)
            failure = self._stopped.result()
            if failure is not None:
                self._log(ERROR, f"app {self._app.name}: lifespan shutdown failed: {failure}")
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            return
        error = None if task.cancelled() else task.exception()
        # Who calls its shutdown failed may raise the reason as well, as Starlette does.
        if error is not None and not (self._stopped.done() and self._stopped.result()):
            self._complain("exception in lifespan shutdown", error)

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        assert self._app.callable is not None
        try:
            await self._app.callable(scope, self._receive, self._send)
        except (KeyboardInterrupt, SystemExit) as error:
            # Through a task these would end the loop before anybody could say why.
            raise RuntimeError(f"the application raised {error!r} in lifespan") from error

    def _watch(self, task: asyncio.Task[None]) -> None:
        """The application left lifespan while it serves: it will not hear of shutdown."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._complain("exception in lifespan", error)

    async def _receive(self) -> dict[str, Any]:
        self._received += 1
        if self._received == 1:
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        if self._received == 2:
            return {"type": "lifespan.shutdown"}
        if not self._parked.done():
            self._parked.set_result(None)
        await self._loop.create_future()
        raise AssertionError("unreachable")

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        answer = {
            "lifespan.startup.complete": self._started,
            "lifespan.startup.failed": self._started,
            "lifespan.shutdown.complete": self._stopped,
            "lifespan.shutdown.failed": self._stopped,
        }.get(kind)
        if answer is None:
            raise RuntimeError(f"the application sent {kind!r} in lifespan")
        if answer.done() or (answer is self._stopped and not self._stop.is_set()):
            raise RuntimeError(f"the application sent {kind!r} out of order")
        if kind.endswith(".failed"):
            answer.set_result(str(message.get("message") or "no reason was given"))
        else:
            answer.set_result(None)

    def _complain(self, what: str, error: BaseException, level: int = ERROR) -> None:
        text = format_exception(error).rstrip()
        self._log(level, f"app {self._app.name}: {what}:\n{text}")

    def _failed(self, text: str) -> BootFailed:
        """Starlette sends a whole traceback as its message: the last line says it."""
        lines = [line for line in text.splitlines() if line.strip()]
        return BootFailed(
            stage="lifespan",
            app=self._app.name,
            message=lines[-1].strip() if lines else "lifespan startup failed",
            traceback=text if len(lines) > 1 else "",
        )


async def _first(*futures: asyncio.Future[Any], timeout: float | None = None) -> None:
    """Returns when one of them is done."""
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
