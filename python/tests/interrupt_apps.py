"""Applications of the tests of interrupts: what a request can be doing at its deadline.

A request says that it has come so far by making the file that its query names.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import queue
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import guado
from guado import executors

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

NOTES: list[Any] = []
LOCK = threading.Lock()
QUEUE: queue.Queue[int] = queue.Queue()
MINE, THEIRS = socket.socketpair()
HELD = asyncio.Event()

LOCK.acquire()


def spin(seconds: float) -> None:
    """Runs instructions, and nothing but instructions."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def noted(work: Callable[[], object]) -> None:
    """Notes what ends the work, and whether the cleanup behind it is left alone."""
    try:
        work()
        NOTES.append("returned")
    except BaseException as error:
        NOTES.append([type(error).__name__, str(error), isinstance(error, Exception)])
        spin(0.05)
        NOTES.append("cleaned up")
        raise


# -- WSGI


def here(environ: Environ) -> None:
    Path(environ["QUERY_STRING"]).touch()


def loop(environ: Environ) -> None:
    while True:
        here(environ)


def read(environ: Environ) -> None:
    here(environ)
    environ["wsgi.input"].read()


def sleep(environ: Environ) -> None:
    here(environ)
    time.sleep(2)


def acquire(environ: Environ) -> None:
    here(environ)
    with LOCK:
        pass
    LOCK.acquire()


def get(environ: Environ) -> None:
    here(environ)
    QUEUE.get()


def recv(environ: Environ) -> None:
    here(environ)
    MINE.recv(1)


def task(environ: Environ) -> None:
    """Waits for a task of an executor that never answers; another thread waits for it, too."""
    waited = executors.Task[int]()
    other = threading.Thread(target=lambda: NOTES.append(waited.result()))
    other.start()
    try:
        here(environ)
        waited.result()
    finally:
        waited.set_result(7)
        other.join()


def hold_gil(environ: Environ) -> None:
    """Waits in C as a long computation would, without giving up the GIL."""
    here(environ)
    ctypes.PyDLL(None).poll(None, 0, 4000)


WORK = {f"/{f.__name__}": f for f in (loop, read, sleep, acquire, get, recv, task, hold_gil)}


def wsgi(environ: Environ, start: Start) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/write":
        return write_for_ever(environ, start)
    if path == "/file":
        # Iterated in C, closed in C, and its answer is complete with the first line.
        start("200 OK", [("Content-Length", "6")])
        return open(environ["QUERY_STRING"], "rb", buffering=0)
    if path in WORK:
        noted(lambda: WORK[path](environ))
    elif path == "/after":
        return read_again(environ, start)
    elif path == "/release":
        LOCK.release()
        QUEUE.put(0)
        THEIRS.send(b"x")
    elif path == "/spin":
        spin(0.005)
    elif path == "/notes":
        body = json.dumps(NOTES).encode()
        NOTES.clear()
        start("200 OK", [])
        return [body]
    start("200 OK", [])
    return [b"done"]


def write_for_ever(environ: Environ, start: Start) -> Iterator[bytes]:
    write = start("200 OK", [])

    def work() -> None:
        here(environ)
        while True:
            write(bytes(65536))

    noted(work)
    return iter([b""])


def read_again(environ: Environ, start: Start) -> Iterable[bytes]:
    """Goes on after it was interrupted: each later call says so again."""
    again = 0
    try:
        loop(environ)
    except guado.RequestTimeout:
        for work in (lambda: environ["wsgi.input"].read(), lambda: start("200 OK", [])(b"x")):
            try:
                work()
            except guado.RequestTimeout:
                again += 1
    NOTES.append(again)
    return [b"nobody hears this"]


# -- ASGI


async def waits(scope: Message, receive: Receive, send: Send) -> None:
    await asyncio.sleep(600)


async def tidies(scope: Message, receive: Receive, send: Send) -> None:
    """Its cleanup blocks the loop for longer than an interrupt takes to be tried again."""
    try:
        await asyncio.sleep(600)
    finally:
        time.sleep(0.2)
        spin(0.01)
        NOTES.append("cleaned up")


async def loops(scope: Message, receive: Receive, send: Send) -> None:
    loop({"QUERY_STRING": scope["query_string"].decode()})


async def sleeps(scope: Message, receive: Receive, send: Send) -> None:
    time.sleep(2)


async def receives(scope: Message, receive: Receive, send: Send) -> None:
    try:
        await receive()
    except asyncio.CancelledError:
        NOTES.append("cancelled")
        await send({"type": "http.response.start", "status": 200})


async def ignores(scope: Message, receive: Receive, send: Send) -> None:
    try:
        await HELD.wait()
    except asyncio.CancelledError:
        await stubborn()


async def stubborn() -> None:
    await HELD.wait()


class Blocked:
    """Awaited in C, to its end: no instruction runs behind the read."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "rb", buffering=0)  # noqa: SIM115

    def __await__(self) -> Iterator[Any]:
        return iter(self.file.readline, b"x")


ASGI_WORK = {f"/{f.__name__}": f for f in (waits, tidies, loops, sleeps, receives, ignores)}


def asgi(scope: Message, receive: Receive, send: Send) -> Any:
    if scope["type"] == "http" and scope["path"] == "/file":
        return Blocked(scope["query_string"].decode())
    return handle(scope, receive, send)


async def handle(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    path, body = scope["path"], b"done"
    if path in ASGI_WORK:
        try:
            Path(scope["query_string"].decode()).touch()
            await ASGI_WORK[path](scope, receive, send)
        except BaseException as error:
            NOTES.append(type(error).__name__)
            raise
    elif path == "/release":
        HELD.set()
    elif path == "/spin":
        spin(0.005)
    elif path == "/notes":
        body = json.dumps(NOTES).encode()
        NOTES.clear()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
