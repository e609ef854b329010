"""Routes of the WSGI tests: close(), failures and clients that leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wsgi_routes import JOURNAL, PLAIN, Body, Environ, Mark, Start, passed, reply, route


@route
def closing(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)
    return Body("closing", [b"a", b"b"])


@route
def closing_length(environ: Environ, start: Start) -> Iterable[bytes]:
    """close() waits: the answer must be there before it returns."""

    class Slow(Body):
        def close(self) -> None:
            passed("closing_length")
            super().close()

    start("200 OK", [*PLAIN, ("Content-Length", "2")])
    return Slow("closing_length", [b"ab"])


@route
def closing_error(environ: Environ, start: Start) -> Iterable[bytes]:
    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise Mark("in iteration")

    start("200 OK", PLAIN)
    return Body("closing_error", chunks())


@route
def closing_first_error(environ: Environ, start: Start) -> Iterable[bytes]:
    class Broken(Body):
        def __iter__(self) -> Iterator[bytes]:
            raise Mark("in iter")

    start("200 OK", PLAIN)
    return Broken("closing_first_error", [])


@route
def closing_unstarted(environ: Environ, start: Start) -> Iterable[bytes]:
    return Body("closing_unstarted", [b"a"])


@route
def closing_list(environ: Environ, start: Start) -> Iterable[bytes]:
    class Listed(list[bytes]):
        def close(self) -> None:
            JOURNAL.append("closing_list close")

    start("200 OK", PLAIN)
    return Listed([b"ab"])


@route
def close_fails(environ: Environ, start: Start) -> Iterable[bytes]:
    class Failing(Body):
        def close(self) -> None:
            raise Mark("in close")

    start("200 OK", PLAIN)
    return Failing("close_fails", [b"ok"])


@route
def closing_generator(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", PLAIN)
    try:
        while True:
            yield b"x" * 1000
    finally:
        JOURNAL.append("closing_generator closed")


@route
def after_length(environ: Environ, start: Start) -> Iterator[bytes]:
    """Runs on after the byte that completes the answer."""
    start("200 OK", [*PLAIN, ("Content-Length", "2")])
    yield b"ab"
    JOURNAL.append("after the last byte")


@route
def after_length_fails(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", [*PLAIN, ("Content-Length", "2")])
    yield b"ab"
    raise Mark("after the last byte")


@route
def fails(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", PLAIN)
    raise ValueError("caf\u00e9 \ud800")


@route
def fails_grouped(environ: Environ, start: Start) -> Iterable[bytes]:
    raise ExceptionGroup("several", [Mark("one"), Mark("two")])


@route
def fails_at_length(environ: Environ, start: Start) -> Iterable[bytes]:
    raise Mark("x" + "\u20ac" * 500)


@route
def exits(environ: Environ, start: Start) -> Iterable[bytes]:
    raise SystemExit(3)


@route
def interrupts(environ: Environ, start: Start) -> Iterable[bytes]:
    raise KeyboardInterrupt


@route
def generator_exits(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", PLAIN)
    yield b"a"
    raise SystemExit(3)


@route
def writes_for_ever(environ: Environ, start: Start) -> Iterable[bytes]:
    write = start("200 OK", PLAIN)
    write(b"begun")
    passed("writes_for_ever")
    try:
        while True:
            write(b"x" * 10000)
    except OSError as error:
        JOURNAL.append(
            [type(error).__name__, [c.__name__ for c in type(error).__mro__], str(error)]
        )
        raise


@route
def wraps_disconnect(environ: Environ, start: Start) -> Iterable[bytes]:
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        raise RuntimeError("upload failed") from error
    return reply(start, "unreachable")


@route
def disconnected(environ: Environ, start: Start) -> Iterator[bytes]:
    gone = environ["guado.client_disconnected"]
    start("200 OK", PLAIN)
    JOURNAL.append(gone())
    yield b"begun"
    passed("disconnected")
    JOURNAL.append(gone())
