"""What the routes of the WSGI tests share: a table, gates and a journal between requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
Handler = Callable[[Environ, Start], Iterable[bytes]]

ROUTES: dict[str, Handler] = {}
JOURNAL: list[Any] = []
GATES: dict[str, threading.Event] = {}
GATES_LOCK = threading.Lock()
KEPT: dict[str, Any] = {}
PLAIN = [("Content-Type", "text/plain")]


def route(handler: Handler) -> Handler:
    ROUTES["/" + handler.__name__.rstrip("_")] = handler
    return handler


def gate(name: str) -> threading.Event:
    with GATES_LOCK:
        return GATES.setdefault(name, threading.Event())


def passed(name: str) -> None:
    assert gate(name).wait(40), f"gate {name} was not opened"


def reply(start: Start, value: object) -> list[bytes]:
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    return ROUTES.get(path, dump)(environ, start)


validated = validator(app)


def second(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(start, "second")


@route
def dump(environ: Environ, start: Start) -> Iterable[bytes]:
    """Every entry of environ that JSON can show, and the types of all."""
    shown = {k: v for k, v in environ.items() if isinstance(v, str | bool | int | tuple)}
    types = sorted({type(k).__name__ for k in environ})
    return reply(start, {"environ": shown, "type": type(environ).__name__, "keys": types})


@route
def open_(environ: Environ, start: Start) -> Iterable[bytes]:
    gate(environ["QUERY_STRING"]).set()
    return reply(start, None)


@route
def journal(environ: Environ, start: Start) -> Iterable[bytes]:
    noted = JOURNAL[:]
    JOURNAL.clear()
    return reply(start, noted)


class Mark(Exception):
    """The application's own exception."""


class Body:
    """An iterable that notes what happens to it."""

    def __init__(self, name: str, chunks: Iterable[bytes]) -> None:
        self.name, self.chunks = name, chunks

    def __iter__(self) -> Iterator[bytes]:
        JOURNAL.append(f"{self.name} iter")
        return iter(self.chunks)

    def close(self) -> None:
        JOURNAL.append(f"{self.name} close")
