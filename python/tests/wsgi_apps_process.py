"""Routes of the WSGI tests: threads, context, wsgi.errors, memory."""

from __future__ import annotations

import contextvars
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from wsgi_routes import JOURNAL, PLAIN, Body, Environ, Start, passed, reply, route

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")
VARIABLE.set("import")
LOCAL = threading.local()


@route
def who(environ: Environ, start: Start) -> Iterable[bytes]:
    LOCAL.count = getattr(LOCAL, "count", 0) + 1
    thread = threading.current_thread()
    return reply(start, [thread.name, threading.get_ident(), LOCAL.count, thread.daemon])


@route
def same_thread(environ: Environ, start: Start) -> Iterable[bytes]:
    seen = [threading.get_ident()]

    class Watching(Body):
        def __iter__(self) -> Iterator[bytes]:
            seen.append(threading.get_ident())
            yield b"a"
            seen.append(threading.get_ident())

        def close(self) -> None:
            JOURNAL.append(len({*seen, threading.get_ident()}))

    start("200 OK", PLAIN)
    return Watching("same_thread", [])


@route
def context(environ: Environ, start: Start) -> Iterable[bytes]:
    """Sets the variable in the call; iteration and close() see it, the next request does not."""
    seen = [VARIABLE.get()]
    VARIABLE.set("request")

    class Seeing(Body):
        def __iter__(self) -> Iterator[bytes]:
            seen.append(VARIABLE.get())
            VARIABLE.set("iteration")
            yield b"a"

        def close(self) -> None:
            JOURNAL.append([*seen, VARIABLE.get()])

    start("200 OK", PLAIN)
    return Seeing("context", [])


@route
def wait(environ: Environ, start: Start) -> Iterable[bytes]:
    JOURNAL.append(threading.get_ident())
    passed("wait")
    return reply(start, threading.get_ident())


@route
def errors(environ: Environ, start: Start) -> Iterable[bytes]:
    stream = environ["wsgi.errors"]
    results = [stream.write("whole line \u20ac \U0001f600 \ud800\n")]
    stream.write("in ")
    stream.write("parts\nand ")
    stream.flush()
    stream.writelines(["more", "\n", "left over"])
    print("by print", file=stream)
    stream.write("no end")
    try:
        stream.write(b"bytes")
    except TypeError as error:
        results.append(str(error))
    return reply(start, results)


@route
def hints(environ: Environ, start: Start) -> Iterable[bytes]:
    results = []
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    for bad in ([("X", "a\nb")], [("Connection", "x")], "str"):
        try:
            environ["wsgi.early_hints"](bad)
        except (TypeError, ValueError) as error:
            results.append(type(error).__name__)
    return reply(start, results)


@route
def stats(environ: Environ, start: Start) -> Iterable[bytes]:
    """What must not grow."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return reply(
        start, {"objects": len(gc.get_objects()), "rss": pages * os.sysconf("SC_PAGESIZE")}
    )


@route
def cycle(environ: Environ, start: Start) -> Iterable[bytes]:
    """Leaves environ and start_response in a reference cycle, as frameworks do."""
    environ["self"] = environ
    environ["start"] = start
    start("200 OK", PLAIN)
    return [b"cycle"]


@route
def forks(environ: Environ, start: Start) -> Iterable[bytes]:
    """The child answers too, as a careless os.fork() makes it."""
    child = os.fork()
    if child == 0:
        start("200 OK", PLAIN)
        return [b"from the child"]
    return reply(start, os.waitpid(child, 0)[1])


def traced(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(start, [sys.gettrace() is note_trace, sys.getprofile() is note_trace])


def note_trace(*_: object) -> None:
    """A tool that follows every thread, as coverage does."""


def make_traced() -> Callable[[Environ, Start], Iterable[bytes]]:
    threading.settrace(note_trace)
    threading.setprofile(note_trace)
    return traced


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"from asgi"})
