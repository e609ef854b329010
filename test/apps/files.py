"""An application of each kind whose answers have the fields that the query names."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    fields = parse_qsl(environ["QUERY_STRING"])
    size = 0
    while chunk := environ["wsgi.input"].read(65536):
        size += len(chunk)
    time.sleep(sum(float(value) for name, value in fields if name == "sleep"))
    start("200 OK", [("X-Powered-By", "WSGI"), *fields])
    return [f"the application read {size}, saw {environ.get('HTTP_AUTHORIZATION')}".encode()]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        raise RuntimeError("only http")
    fields = parse_qsl(scope["query_string"].decode())
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await asyncio.sleep(sum(float(value) for name, value in fields if name == "sleep"))
    seen = dict(scope["headers"]).get(b"authorization", b"None").decode()
    body = f"the application read {size}, saw {seen}".encode()
    headers = [(b"x-powered-by", b"ASGI"), *((n.lower().encode(), v.encode()) for n, v in fields)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
