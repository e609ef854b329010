"""The event loop of a worker: made before lifespan, taken down after it.

Before: asgi.serve. After: the interpreter's own end, which joins threads and runs
atexit. Not here: what runs on the loop.

It ends as asyncio.run() would, but never waits long: a task that swallows its
cancellation, or a thread of the executor that hangs, must not keep atexit from running.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

# How long what the application left may take together: tasks, generators, threads.
PATIENCE = 1.0


def run(main: Coroutine[Any, Any, None], context: Context) -> None:
    """Runs `main` in a task with this context, then closes the loop."""
    loop = _make()
    asyncio.set_event_loop(loop)
    # Ours instead of the one that the loop makes at first use: it can be let go.
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(executor)
    try:
        loop.run_until_complete(loop.create_task(main, context=context))
    finally:
        loop.run_until_complete(_take_down(executor))
        asyncio.set_event_loop(None)
        loop.close()


def name(loop: asyncio.AbstractEventLoop) -> str:
    return "uvloop" if type(loop).__module__.startswith("uvloop") else "asyncio"


def _make() -> asyncio.AbstractEventLoop:
    """The loop made at import, else uvloop when it is installed, else asyncio's."""
    loop = _loop_of_import()
    if loop is not None:
        return loop
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _loop_of_import() -> asyncio.AbstractEventLoop | None:
    """The loop that the application made at import, if it did; never makes one."""
    if sys.version_info >= (3, 14):
        try:
            loop = asyncio.get_event_loop()
        except RuntimeError:
            return None
    else:
        # get_event_loop() would make one; there is no public way to only look.
        local = getattr(asyncio.get_event_loop_policy(), "_local", None)
        loop = getattr(local, "_loop", None)
    return loop if loop is not None and not loop.is_closed() and not loop.is_running() else None


async def _take_down(executor: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=PATIENCE / 2)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler(
                    {"message": "exception in a task at the end", "exception": error, "task": task}
                )
    threads = _joined(executor)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(end):
            await loop.shutdown_asyncgens()
            await threads


def _joined(executor: ThreadPoolExecutor) -> asyncio.Future[None]:
    """Is done when the executor's threads have ended."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    def join() -> None:
        executor.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop did not wait for us
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=join, name="guado-executor", daemon=True).start()
    return ended
