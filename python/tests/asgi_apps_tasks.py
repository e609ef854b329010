"""Routes of the ASGI tests about errors and tasks."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from asgi_routes import (
    SEEN,
    VARIABLE,
    Receive,
    Scope,
    Send,
    answer,
    app,
    body,
    reply,
    route,
    signal,
    start,
)


class CustomError(Exception):
    pass


@route("/raise")
async def raise_early(scope: Scope, receive: Receive, send: Send) -> None:
    raise CustomError("before the start")


@route("/raise-held")
async def raise_held(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send)
    raise CustomError("after the start, before the body")


@route("/raise-late")
async def raise_late(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send)
    await body(send, b"some", more=True)
    await asyncio.sleep(0)
    raise CustomError("in the middle of the body")


@route("/raise-behind")
async def raise_behind(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"complete")
    await asyncio.sleep(0)
    raise CustomError("behind the answer")


@route("/stop-iteration")
async def stop_iteration(scope: Scope, receive: Receive, send: Send) -> None:
    next(iter(()))


@route("/system-exit")
async def system_exit(scope: Scope, receive: Receive, send: Send) -> None:
    sys.exit("the application wants to leave")


@route("/cancels-itself")
async def cancels_itself(scope: Scope, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


@route("/return-early")
async def return_early(scope: Scope, receive: Receive, send: Send) -> None:
    return None


@route("/return-held")
async def return_held(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send)


@route("/return-late")
async def return_late(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send)
    await body(send, b"some", more=True)


@route("/leaves-from-disconnect")
async def leaves_from_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """As Starlette does: its own exception made from ours, in a group."""
    signal("leaving").set()
    assert (await receive())["type"] == "http.request"
    await receive()
    try:
        await start(send)
        await body(send)
    except OSError:
        try:
            raise CustomError("client disconnect")
        except CustomError as error:
            raise BaseExceptionGroup("group", [error]) from None


def sync_raises(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    raise StopIteration("in the call itself")


def not_awaitable(scope: Scope, receive: Receive, send: Send) -> Any:
    return 42


class Awaits:
    """An application whose call gives an awaitable that is no coroutine."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.arguments = scope, receive, send

    def __await__(self) -> Any:
        return app(*self.arguments).__await__()


def sets_context(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """Does its work in the call, before there is a coroutine."""
    if scope["type"] == "http":
        seen = VARIABLE.get()
        VARIABLE.set("leaked")
        task = asyncio.current_task()
        return reply(send, [seen, task is not None])
    return app(scope, receive, send)


@route("/context")
async def context(scope: Scope, receive: Receive, send: Send) -> None:
    seen = VARIABLE.get()
    VARIABLE.set("leaked")
    await asyncio.sleep(0)
    VARIABLE.set("leaked again")
    await reply(send, [seen, VARIABLE.get()])


@route("/task")
async def task_facts(scope: Scope, receive: Receive, send: Send) -> None:
    before = asyncio.current_task()
    async with asyncio.timeout(5):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
    after = asyncio.current_task()
    assert before is after
    assert before is not None
    await reply(
        send,
        {
            "repr": repr(before),
            "coroutine": asyncio.iscoroutine(before.get_coro()),
            "stack": [frame.f_code.co_name for frame in before.get_stack()],
            "factory": str(asyncio.get_running_loop().get_task_factory()),
            "thread": threading.current_thread() is threading.main_thread(),
            "loop": type(asyncio.get_running_loop()).__module__,
        },
    )


@route("/background")
async def background(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"answered")
    await signal("background").wait()
    SEEN["background"] = "done"


@route("/busy-background")
async def busy_background(scope: Scope, receive: Receive, send: Send) -> None:
    """Work behind the answer that never yields must not hold the answer back."""
    await answer(send, b"answered")
    time.sleep(0.5)


@route("/sleep-sync")
async def sleep_sync(scope: Scope, receive: Receive, send: Send) -> None:
    """Holds the loop after its head has left."""
    await start(send)
    await body(send, b"holding", more=True)
    time.sleep(0.3)
    await body(send)


@route("/child-task")
async def child_task(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers from a child task and leaves before it does."""

    async def later() -> None:
        await signal("child").wait()
        try:
            await answer(send, b"from the child")
        except OSError as error:
            SEEN["child"] = str(error)
        SEEN["child-receive"] = (await receive())["type"]
        signal("child-done").set()

    SEEN["task"] = None
    TASKS.append(asyncio.create_task(later()))


TASKS: list[asyncio.Task[None]] = []


@route("/forever")
async def forever(scope: Scope, receive: Receive, send: Send) -> None:
    signal("forever").set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("forever: cancelled", file=sys.stderr, flush=True)
        raise


@route("/stubborn")
async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
    signal("stubborn").set()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(until - time.monotonic())


@route("/sleep")
async def sleep(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.3)
    await answer(send, b"slept")


@route("/background-sleep")
async def background_sleep(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"answered")
    await asyncio.sleep(0.4)


@route("/fork")
async def fork(scope: Scope, receive: Receive, send: Send) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            await answer(send, b"child")
        except OSError:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    await answer(send, b"parent")


@route("/forever-stream")
async def forever_stream(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send)
    await body(send, b"begun", more=True)
    await asyncio.Event().wait()


@route("/weak")
async def weak(scope: Scope, receive: Receive, send: Send) -> None:
    """Suspends on a future that nothing else refers to."""
    import gc

    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.05, future.set_result, None)
    del scope, receive
    asyncio.get_running_loop().call_soon(gc.collect)
    await future
    await answer(send, b"alive")


@route("/factory")
async def factory(scope: Scope, receive: Receive, send: Send) -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = SEEN.setdefault("made", [])

    def make(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(type(coro).__name__)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(None if scope["query_string"] == b"off" else make)
    await answer(send, b"ok")


@route("/memory")
async def memory(scope: Scope, receive: Receive, send: Send) -> None:
    import gc

    gc.collect()
    with open("/proc/self/status") as file:  # the rings are shared memory: not counted
        anonymous = next(line for line in file if line.startswith("RssAnon"))
    rss = int(anonymous.split()[1]) * 1024
    await reply(send, {"rss": rss, "objects": len(gc.get_objects())})


@route("/leaves-quietly")
async def leaves_quietly(scope: Scope, receive: Receive, send: Send) -> None:
    """Waits for the client to leave and has nothing to say."""
    while (await receive())["type"] != "http.disconnect":
        pass


class ClientDisconnect(Exception):
    """As Starlette names what its request raises out of http.disconnect."""


@route("/leaves-by-exception")
async def leaves_by_exception(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


@route("/breaks-after-disconnect")
async def breaks_after_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise CustomError("a bug behind the disconnect")


KEPT: list[AsyncIterator[int]] = []


@route("/hangs")
async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
    """Leaves behind all that may keep a loop from ending."""

    async def swallows() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    KEPT.append(generator())
    await anext(KEPT[0])
    TASKS.append(asyncio.create_task(swallows()))
    atexit.register(lambda: print("atexit", file=sys.stderr, flush=True))
    await answer(send, b"hanging")


def wsgi_hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/slow":
        GATE.wait(10)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello from wsgi"]


GATE = threading.Event()


@route("/open-gate")
async def open_gate(scope: Scope, receive: Receive, send: Send) -> None:
    asyncio.get_running_loop().call_later(0.3, GATE.set)
    await answer(send, b"soon")


@route("/sleep-briefly")
async def sleep_briefly(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send)
    for _ in range(3):
        await asyncio.sleep(0.001)
        await body(send, b"x", more=True)
    await body(send)
