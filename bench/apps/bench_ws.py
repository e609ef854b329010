"""The WebSocket benchmark's ASGI application: an echo, and a broadcast to who joined."""

import ctypes
import gc
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

joined: set[Send] = set()


async def echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def join(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    joined.add(send)
    try:
        while (await receive())["type"] == "websocket.receive":
            pass
    finally:
        joined.discard(send)


async def broadcast(size: int) -> None:
    message = {"type": "websocket.send", "text": "x" * size}
    for send in list(joined):
        await send(message)


def trim() -> None:
    """Gives memory back, so that what is left is what connections take."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


async def http(scope: Message, send: Send) -> None:
    body = b"Hello, world!\n"
    if scope["path"] == "/broadcast":
        await broadcast(int(parse_qs(scope["query_string"])[b"size"][0]))
        body = b"ok"
    elif scope["path"] == "/trim":
        trim()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await http(scope, send)
    elif scope["path"] == "/join":
        await join(receive, send)
    else:
        await echo(receive, send)
