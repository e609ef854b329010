"""The benchmark's ASGI application: one answer per path."""

import asyncio
from typing import Any

HELLO = b"Hello, world!\n"
TEN_KIB = b"x" * 10240
CHUNK = b"y" * 1024
TEXT = (b"content-type", b"text/plain; charset=utf-8")


async def answer(send: Any, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT, length]})
    await send({"type": "http.response.body", "body": body})


async def hello(receive: Any, send: Any) -> None:
    await answer(send, HELLO)


async def reply(receive: Any, send: Any) -> None:
    await answer(send, TEN_KIB)


async def echo(receive: Any, send: Any) -> None:
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    await answer(send, body)


async def stream(receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    for _ in range(10):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def sleep(receive: Any, send: Any) -> None:
    await asyncio.sleep(0.01)
    await answer(send, HELLO)


ROUTES = {"/hello": hello, "/reply": reply, "/echo": echo, "/stream": stream, "/sleep": sleep}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("no " + scope["type"])
    await ROUTES[scope["path"]](receive, send)
