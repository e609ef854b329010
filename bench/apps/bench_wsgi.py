"""The benchmark's WSGI application: one answer per path."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

HELLO = b"Hello, world!\n"
TEN_KIB = b"x" * 10240
CHUNK = b"y" * 1024
TEXT = [("Content-Type", "text/plain; charset=utf-8")]


def hello(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Content-Length", "14")])
    return [HELLO]


def reply(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("200 OK", [*TEXT, ("Content-Length", "10240")])
    return [TEN_KIB]


def echo(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def stream(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
    start("200 OK", TEXT)
    for _ in range(10):
        yield CHUNK


def sleep(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    time.sleep(0.01)
    return hello(environ, start)


ROUTES = {"/hello": hello, "/reply": reply, "/echo": echo, "/stream": stream, "/sleep": sleep}


def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    return ROUTES[environ["PATH_INFO"]](environ, start)
