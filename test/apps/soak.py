"""What the soak test asks a million times, and /trim, which gives free memory back."""

import ctypes
import gc
from collections.abc import Callable, Iterable
from typing import Any

HELLO = b"Hello, world!\n"


def trim() -> None:
    """Collects, and returns what malloc holds to the system (glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """A small answer; a body is echoed."""
    if environ["PATH_INFO"] == "/trim":
        trim()
    body = environ["wsgi.input"].read() or HELLO
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The same for ASGI."""
    if scope["path"] == "/trim":
        trim()
    body = (await receive()).get("body") or HELLO
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
