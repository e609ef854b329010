"""An application whose threads wait for replies when it is imported, for as long as it lives; as
a WSGI and as an ASGI application."""

from __future__ import annotations

import threading
import time
from typing import Any

from guado import _calls
from guado._futures import Future

THREADS = 8


def settle(future: Future[Any], status: int, code: str, data: bytes) -> None:
    """Nobody answers; the link ends."""
    future.set_result(None)


def wait() -> None:
    """For something that takes long."""
    future: Future[None] = Future()
    _calls.shared().start(_calls.EXECUTE, "long", b"", future, settle)
    future.result()


for _ in range(THREADS):
    threading.Thread(target=wait, daemon=True).start()
while len(_calls.shared().expected) < THREADS:
    time.sleep(0.001)
time.sleep(0.05)  # the last one sleeps, too


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """A plain answer."""
    start_response("200 OK", [])
    return [b"served"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """The same."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"served"})
