"""Answers that take their time: what fault tests hold on to."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

gate = threading.Event()
calls = 0
lock = threading.Lock()


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """/pid, /echo, /hold (until /open), /big?n=, /digest, /spin?s= (a Python loop)."""
    global calls
    path = environ["PATH_INFO"]
    query = parse_qs(environ["QUERY_STRING"])
    text = [("Content-Type", "text/plain")]
    if path == "/pid":
        start("200 OK", text)
        return [str(os.getpid()).encode()]
    if path == "/big":
        start("200 OK", text)
        return big(int(query["n"][0]))
    if path == "/open":
        gate.set()
        start("200 OK", text)
        return [b"opened"]
    if path == "/spin":
        end = time.monotonic() + float(query["s"][0])
        while time.monotonic() < end:
            pass
        start("200 OK", text)
        return [b"spun"]
    if path == "/digest":
        start("200 OK", text)
        return digest(environ["wsgi.input"])
    body = environ["wsgi.input"].read()
    if path == "/hold":
        with lock:
            calls += 1
        gate.wait()
    start("200 OK", [*text, ("X-Pid", str(os.getpid()))])
    return [body or b"empty"]


def big(size: int) -> Iterator[bytes]:
    """size bytes in pieces of 64 KiB."""
    piece = b"x" * 65536
    while size > 0:
        yield piece[: min(size, len(piece))]
        size -= len(piece)


def digest(body: Any) -> Iterator[bytes]:
    """A line for each 64 MiB that were read, then the sum."""
    sums, size = hashlib.sha256(), 0
    while piece := body.read(65536):
        sums.update(piece)
        size += len(piece)
        if size % (64 << 20) == 0:
            yield b".\n"
    yield sums.hexdigest().encode()
