"""Routes of the WSGI tests: wsgi.input and wsgi.file_wrapper."""

from __future__ import annotations

import atexit
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from wsgi_routes import JOURNAL, KEPT, PLAIN, Environ, Start, passed, reply, route


@route
def read_script(environ: Environ, start: Start) -> Iterable[bytes]:
    """Runs the calls that the query names, e.g. read(5);readline();next()."""
    body = environ["wsgi.input"]
    results: list[Any] = []
    for step in environ["QUERY_STRING"].split(";"):
        method, _, argument = step.rstrip(")").partition("(")
        arguments = [None if a == "None" else int(a) for a in argument.split(",") if a]
        try:
            if method == "next":
                results.append(next(body).decode("latin-1"))
            elif method == "list":
                results.append([line.decode("latin-1") for line in body])
            elif method == "readinto":
                target = bytearray(arguments[0] or 0)
                results.append([body.readinto(target), target.decode("latin-1")])
            elif method == "readlines":
                results.append([x.decode("latin-1") for x in body.readlines(*arguments)])
            else:
                results.append(getattr(body, method)(*arguments).decode("latin-1"))
        except Exception as error:
            kind = "OSError" if isinstance(error, OSError) else type(error).__name__
            results.append({"error": kind, "type": type(error).__name__, "text": str(error)})
    return reply(start, results)


@route
def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)
    return [environ["wsgi.input"].read()]


@route
def count(environ: Environ, start: Start) -> Iterable[bytes]:
    total, source = 0, environ["wsgi.input"]
    while block := source.read(65536):
        total += len(block)
    return reply(start, total)


@route
def read_late(environ: Environ, start: Start) -> Iterable[bytes]:
    passed("read_late")
    return reply(start, environ["wsgi.input"].read().decode())


@route
def ignores_body(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(start, "ignored")


@route
def read_uncaught(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(start, len(environ["wsgi.input"].read()))


@route
def note_read(environ: Environ, start: Start) -> Iterable[bytes]:
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        JOURNAL.append(type(error).__name__)
        raise
    return reply(start, "unreachable")


@route
def keep_input(environ: Environ, start: Start) -> Iterable[bytes]:
    KEPT["input"], KEPT["start"] = environ["wsgi.input"], start
    KEPT["write"] = start("200 OK", PLAIN)
    return [b"kept"]


@route
def use_kept(environ: Environ, start: Start) -> Iterable[bytes]:
    results = []
    calls: list[Callable[[], Any]] = [
        lambda: KEPT["input"].read(),
        lambda: KEPT["start"]("200 OK", []),
        lambda: KEPT["write"](b"x"),
    ]
    for call in calls:
        try:
            results.append(repr(call()))
        except (ValueError, RuntimeError) as error:
            results.append(f"{type(error).__name__}: {error}")
    results.append(KEPT["input"] is environ["wsgi.input"])
    KEPT.clear()
    return reply(start, results)


@route
def read_elsewhere(environ: Environ, start: Start) -> Iterable[bytes]:
    """Another thread reads while this one answers: the read ends before the exchange does."""

    def reading() -> None:
        JOURNAL.append("reading")
        try:
            JOURNAL.append(environ["wsgi.input"].read().decode())
        except (OSError, ValueError) as error:
            JOURNAL.append(type(error).__name__)

    thread = threading.Thread(target=reading)
    thread.start()
    while "reading" not in JOURNAL:
        pass
    return reply(start, "answered")


BIG = Path(tempfile.mkdtemp(prefix="guado-wsgi-")) / "big"
BIG.write_bytes(bytes(range(256)) * 4096)
atexit.register(shutil.rmtree, BIG.parent)


class OwnFile(io.FileIO):
    """May give other bytes than its descriptor, for all the server knows."""


class OwnReader(io.BufferedReader):
    """The same for the reader over it."""


class Bare:
    """The least that PEP 3333 asks of a file-like object."""

    def __init__(self) -> None:
        self.left = [b"no ", b"close"]

    def read(self, size: int) -> bytes:
        return self.left.pop(0) if self.left else b""


def pipe() -> Any:
    read, write = os.pipe()
    os.write(write, b"from a pipe")
    os.close(write)
    return os.fdopen(read, "rb")


def big(at: int, whence: int = 0) -> Any:
    source = BIG.open("rb")
    source.seek(at, whence)
    if at and not whence:
        source.read(10)  # its buffer is ahead of the descriptor now
    return source


def raw(at: int) -> Any:
    source = io.FileIO(BIG)
    source.seek(at)
    return source


def closed() -> Any:
    source = BIG.open("rb")
    source.close()
    return source


def proc() -> Any:
    return Path("/proc/self/comm").open("rb")


def note_close(source: Any) -> None:
    """As Django does: the file's own close() is replaced, to end the response with it."""
    close = source.close

    def closing() -> None:
        JOURNAL.append("file close")
        close()

    source.close = closing


SOURCES: dict[str, Callable[[int], Any]] = {
    "buffered": big,
    "end": lambda at: big(-at, 2),
    "raw": raw,
    "subclass": lambda at: OwnFile(BIG),
    "reader subclass": lambda at: OwnReader(io.FileIO(BIG)),
    "memory": lambda at: io.BytesIO(b"in memory " * 2000),
    "pipe": lambda at: pipe(),
    "proc": lambda at: proc(),
    "closed": lambda at: closed(),
    "noclose": lambda at: Bare(),
}


@route
def file(environ: Environ, start: Start) -> Iterable[bytes]:
    """Query: how=SOURCE, at=OFFSET, declare=CONTENT_LENGTH, default, middleware."""
    query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    source = SOURCES[query["how"]](int(query.get("at", 0)))
    if query["how"] == "buffered":
        note_close(source)
    start("200 OK", [*PLAIN, ("Content-Length", query["declare"])] if "declare" in query else PLAIN)
    wrapper = environ["wsgi.file_wrapper"]
    body = wrapper(source) if "default" in query else wrapper(source, 8192)
    KEPT["file"] = body.filelike
    if "middleware" in query:
        return (block.swapcase() for block in body)
    return body  # type: ignore[no-any-return]


@route
def file_closed(environ: Environ, start: Start) -> Iterable[bytes]:
    return reply(start, KEPT.pop("file").closed)
