"""What is to be seen from outside: applications that take time, hold the GIL or the loop,
and tell which trace they were given."""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

gate = os.environ.get("OBSERVED_GATE")
while gate and not os.path.exists(gate):  # an import that takes as long as the test wants
    time.sleep(0.02)


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """The traceparent, after ?s= seconds of computing without giving up the GIL for long."""
    end = time.monotonic() + float(parse_qs(environ["QUERY_STRING"]).get("s", ["0"])[0])
    while time.monotonic() < end:
        pass
    start("200 OK", [("Content-Type", "text/plain")])
    return [environ["HTTP_TRACEPARENT"].encode()]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The same, blocking the loop."""
    if scope["type"] == "lifespan":
        raise ValueError("no lifespan")
    query = parse_qs(scope["query_string"].decode())
    time.sleep(float(query.get("s", ["0"])[0]))
    traceparent = dict(scope["headers"])[b"traceparent"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": traceparent})
