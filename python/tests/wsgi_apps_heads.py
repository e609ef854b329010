"""Routes of the WSGI tests: start_response, write(), bodies."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from wsgi_routes import JOURNAL, PLAIN, Environ, Mark, Start, passed, reply, route


@route
def lazy_start(environ: Environ, start: Start) -> Iterator[bytes]:
    start("201 Created", PLAIN)
    yield b"made"


class LazyIterator:
    def __init__(self, start: Start) -> None:
        self.start, self.left = start, 2

    def __iter__(self) -> LazyIterator:
        return self

    def __next__(self) -> bytes:
        if self.left == 2:
            self.start("202 Accepted", PLAIN)
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return b"x"


@route
def lazy_iterator(environ: Environ, start: Start) -> Iterable[bytes]:
    return LazyIterator(start)


@route
def never_start(environ: Environ, start: Start) -> Iterable[bytes]:
    return [b"x"]


@route
def never_start_lazily(environ: Environ, start: Start) -> Iterator[bytes]:
    yield b"x"


@route
def empty_first(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", PLAIN)
    yield b""
    yield b""
    passed("empty_first")
    try:
        raise LookupError("changed my mind")
    except LookupError:
        start("404 Not Found", [("X-Second", "yes")], sys.exc_info())
    yield b"gone"


@route
def write_nothing(environ: Environ, start: Start) -> Iterable[bytes]:
    write = start("200 OK", PLAIN)
    write(b"")
    passed("write_nothing")
    return [b"only"]


@route
def write_first(environ: Environ, start: Start) -> Iterable[bytes]:
    write = start("200 OK", PLAIN)
    write(b"one ")
    write(bytearray(b"two "))
    return [b"three ", b"four"]


@route
def write_then_one(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)(b"one ")
    return [b"two"]


@route
def write_fresh(environ: Environ, start: Start) -> Iterator[bytes]:
    """Chunks that are new for each request and large enough to be missed."""
    write = start("200 OK", PLAIN)
    write(bytes(50_000))
    write(bytearray(50_000))
    yield bytes(50_000)
    yield bytearray(50_000)


@route
def write_str(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)("text")  # type: ignore[arg-type]
    return []


@route
def exc_info_before(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-First", "1")])
    try:
        raise Mark("early")
    except Mark:
        start("500 Oops", [("X-Second", "2")], sys.exc_info())
    return [b"replaced"]


@route
def exc_info_after(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", PLAIN)
    yield b"begun"
    try:
        raise Mark("late")
    except Mark as mark:
        try:
            start("500 Oops", PLAIN, exc_info=sys.exc_info())
        except Mark as again:
            if again is not mark:
                raise RuntimeError("another exception") from again
            names = []
            trace = again.__traceback__
            while trace:
                names.append(trace.tb_frame.f_code.co_name)
                trace = trace.tb_next
            JOURNAL.append(["raised again", names])
            raise


@route
def exc_info_dropped(environ: Environ, start: Start) -> Iterable[bytes]:
    """No reference to the exception is left when the frame that handled it is."""
    gc.disable()
    try:

        class Local(Exception):
            pass

        def handle() -> weakref.ref[Local]:
            try:
                raise Local
            except Local as error:
                start("500 Oops", PLAIN, sys.exc_info())
                return weakref.ref(error)

        dead = handle()() is None
    finally:
        gc.enable()
    return [b"dropped" if dead else b"kept"]


@route
def start_twice(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)
    start("200 OK", PLAIN)
    return [b"x"]


@route
def start_caught(environ: Environ, start: Start) -> Iterable[bytes]:
    """What each bad call raises."""
    noted = {}
    for name, arguments in BAD_STARTS.items():
        try:
            start(*arguments)
            noted[name] = "accepted"
        except (TypeError, ValueError) as error:
            noted[name] = f"{type(error).__name__}: {error}"
    return reply(start, noted)


BAD_STARTS: dict[str, tuple[Any, ...]] = {
    "status bytes": (b"200 OK", []),
    "status int": (200, []),
    "status words": ("OK", []),
    "status crlf": ("200 OK\r\nX: y", []),
    "status nul": ("200 O\0K", []),
    "status informational": ("103 Early Hints", []),
    "status unicode": ("200 \u2713", []),
    "headers none": ("200 OK", None),
    "headers dict": ("200 OK", {"a": "b"}),
    "headers str": ("200 OK", "ab"),
    "item str": ("200 OK", ["ab"]),
    "item triple": ("200 OK", [("a", "b", "c")]),
    "name bytes": ("200 OK", [(b"a", "b")]),
    "value bytes": ("200 OK", [("a", b"b")]),
    "value int": ("200 OK", [("Content-Length", 3)]),
    "value none": ("200 OK", [("X-A", None)]),
    "name empty": ("200 OK", [("", "b")]),
    "name space": ("200 OK", [("a b", "c")]),
    "name colon": ("200 OK", [("a:", "c")]),
    "name newline": ("200 OK", [("a\n", "c")]),
    "name unicode": ("200 OK", [("\u00e9", "c")]),
    "value newline": ("200 OK", [("a", "b\nSet-Cookie: x=y")]),
    "value return": ("200 OK", [("a", "b\rc")]),
    "value nul": ("200 OK", [("a", "b\0c")]),
    "value delete": ("200 OK", [("a", "b\x7fc")]),
    "value unicode": ("200 OK", [("a", "\u20ac")]),
    "value surrogate": ("200 OK", [("a", "\ud800")]),
    "length words": ("200 OK", [("Content-Length", "many")]),
    "length negative": ("200 OK", [("Content-Length", "-1")]),
    "length plus": ("200 OK", [("Content-Length", "+1")]),
    "length empty": ("200 OK", [("Content-Length", "")]),
    "length huge": ("200 OK", [("Content-Length", "9" * 30)]),
    "length twice": ("200 OK", [("Content-Length", "1"), ("content-length", "2")]),
    "too few": ("200 OK",),
    "exc_info str": ("200 OK", [], "error"),
    "exc_info empty": ("200 OK", [], (None, None, None)),
    **{
        f"hop {name}": ("200 OK", [(name, "x")])
        for name in (
            "Connection",
            "keep-alive",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Trailers",
            "Transfer-Encoding",
            "UPGRADE",
        )
    },
}


@route
def good_heads(environ: Environ, start: Start) -> Iterable[bytes]:
    start(
        "299 R\u00e9ason with  spaces ",
        [
            ("Set-Cookie", "a=1"),
            ("X-Latin", "caf\u00e9"),
            ("Set-Cookie", "b=2; Path=/"),
            ("X-Padded", "  in\tside \t"),
            ["X-List", "ok"],  # type: ignore[list-item]
            ("X-Empty", ""),
        ],
    )
    return [b""]


@route
def large_head(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [(f"X-{i}", str(i) * 200) for i in range(500)])
    return [b"after a large head"]


@route
def head_tuple(environ: Environ, start: Start) -> Iterable[bytes]:
    start(response_headers=(("X-A", "b"),), status="200")
    return [b"x"]


@route
def hello(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def returning(environ: Environ, start: Start, value: Any, status: str = "200 OK") -> Any:
    declared = environ["QUERY_STRING"]
    start(status, [*PLAIN, ("Content-Length", declared)] if declared else PLAIN)
    return value


@route
def one(environ: Environ, start: Start) -> Iterable[bytes]:
    return list(returning(environ, start, [b"12345"]))


@route
def nothing(environ: Environ, start: Start) -> Iterable[bytes]:
    return list(returning(environ, start, []))


@route
def several(environ: Environ, start: Start) -> Iterable[bytes]:
    return tuple(returning(environ, start, (b"123", b"", b"45")))


@route
def large(environ: Environ, start: Start) -> Iterable[bytes]:
    return list(returning(environ, start, [b"x" * 100_000, b"y" * 300_000]))


@route
def streamed(environ: Environ, start: Start) -> Iterable[bytes]:
    return iter(returning(environ, start, [b"123", b"", b"45"]))


@route
def no_content(environ: Environ, start: Start) -> Iterable[bytes]:
    return list(returning(environ, start, [b"12345"], "204 No Content"))


@route
def not_modified(environ: Environ, start: Start) -> Iterable[bytes]:
    return list(returning(environ, start, [b"12345"], "304 Not Modified"))


class OneLong:
    """Says len() 1, as a framework's response object may."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[bytes]:
        yield b"12345"

    def close(self) -> None:
        JOURNAL.append("one_long close")


@route
def one_long(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)
    return OneLong()  # type: ignore[return-value]


@route
def buffers(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)
    return [bytearray(b"one "), memoryview(b"two "), b"three"]  # type: ignore[list-item]


BAD_BODIES: dict[str, Any] = {
    "str": "text",
    "bytes": b"bytes",
    "none": None,
    "int": 5,
    "str items": ["text"],
    "str generator": (s for s in ["text"]),
}


@route
def bad_body(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)
    name = environ["QUERY_STRING"].replace("+", " ")
    return iter(["text"]) if name == "str generator" else BAD_BODIES[name]  # type: ignore


@route
def gated(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", PLAIN)
    yield b"one"
    passed("gated one")
    yield b"two"
    passed("gated two")


@route
def flood(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", PLAIN)
    try:
        for i in range(64):
            JOURNAL.append(i)
            yield bytes([i]) * 16384
    finally:
        JOURNAL.append("flood closed")
