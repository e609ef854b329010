"""Keeps the GIL in a call of C until the test lets go: meanwhile this worker runs no Python.

/grip?said=FIFO&until=FIFO does that, /pid tells, everything else counts its body.
"""

import ctypes
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

libc = ctypes.PyDLL(None)  # CDLL would release the GIL around each call


def grip(query: str) -> None:
    """Says that it begins, and reads a byte without letting anybody else run."""
    fifos = parse_qs(query)
    said = os.open(fifos["said"][0], os.O_WRONLY)
    until = os.open(fifos["until"][0], os.O_RDONLY)
    os.write(said, b"x")
    libc.read(until, ctypes.create_string_buffer(1), 1)
    os.close(said)
    os.close(until)


def answer(path: str, query: str, size: int) -> bytes:
    """What both kinds answer."""
    if path == "/grip":
        grip(query)
    return str(os.getpid() if path == "/pid" else size).encode()


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    size = 0
    while piece := environ["wsgi.input"].read(65536):
        size += len(piece)
    start("200 OK", [("Content-Type", "text/plain")])
    return [answer(environ["PATH_INFO"], environ["QUERY_STRING"], size)]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The same for ASGI."""
    size, more = 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        size += len(event.get("body", b""))
        more = event.get("more_body", False)
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    body = answer(path, scope["query_string"].decode(), size)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
