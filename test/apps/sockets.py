"""WebSockets of a raw ASGI application: what it is told and may say, by path."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

if os.environ.get("TEST_LOOP") == "asyncio":
    asyncio.set_event_loop(asyncio.new_event_loop())

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def say(event: str, *what: Any) -> None:
    """One line that the test waits for."""
    print(event, json.dumps(what), flush=True)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    say("ended", message["type"], message["code"], message["reason"])


async def look(scope: Message, receive: Receive, send: Send) -> None:
    names = [n for n in scope["subprotocols"] if n == "second"]
    await send(
        {
            "type": "websocket.accept",
            "subprotocol": names[0] if names else None,
            "headers": [(b"X-One", b"1"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")],
        }
    )
    shown = {k: v for k, v in scope.items() if k not in ("headers", "state")}
    shown["headers"] = [[n.decode(), v.decode()] for n, v in scope["headers"]]
    shown["loop"] = type(asyncio.get_running_loop()).__module__
    text = json.dumps(shown, default=lambda b: b.decode())
    await send({"type": "websocket.send", "bytes": None, "text": text})
    await receive()


async def refuse(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})
    message = await receive()
    say("ended", message["type"], message["code"])


async def deny(scope: Message, receive: Receive, send: Send) -> None:
    start = {"type": "websocket.http.response.start", "status": 418}
    await send({**start, "headers": [(b"x-why", b"tea"), (b"content-type", b"text/plain")]})
    for piece in (b"no ", b"coffee"):
        await send({"type": "websocket.http.response.body", "body": piece, "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b" here"})
    message = await receive()
    say("ended", message["type"], message["code"])


async def close(scope: Message, receive: Receive, send: Send) -> None:
    """Closes with what the query says; afterwards hears of its own end, and may not send."""
    query = dict(parse_qsl(scope["query_string"].decode()))
    await send({"type": "websocket.accept"})
    message: Message = {"type": "websocket.close"}
    if "code" in query:
        message["code"] = int(query["code"])
    if "reason" in query:
        message["reason"] = query["reason"]
    await send(message)
    heard = [await receive(), await receive()]
    try:
        await send({"type": "websocket.send", "text": "late"})
    except OSError as error:
        say("closed", [(m["type"], m["code"]) for m in heard], str(error))


async def returns(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] != "/returns/before":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "last words"})


async def raises(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] != "/raises/before":
        await send({"type": "websocket.accept"})
    raise LookupError("the secret reason")


async def wrong(scope: Message, receive: Receive, send: Send) -> None:
    """Every message that is none, and what becomes of it."""
    results = []

    async def attempt(**message: Any) -> None:
        try:
            await send(message)
        except Exception as error:
            results.append(type(error).__name__)
        else:
            results.append("sent")

    await attempt(type="websocket.send", text="early")
    await attempt(type="http.response.start", status=200)
    bad = [(b"sec-websocket-protocol", b"x")]
    await attempt(type="websocket.accept", headers=bad)
    await attempt(type="websocket.accept", headers=[(b"x", b"a\r\nb: c")])
    await send({"type": "websocket.accept"})
    await attempt(type="websocket.accept")
    await attempt(type="websocket.send")
    await attempt(type="websocket.send", text="a", bytes=b"b")
    await attempt(type="websocket.send", text=b"bytes")
    await attempt(type="websocket.send", bytes="text")
    await attempt(type="websocket.send", text="\ud800")
    await attempt(type="websocket.http.response.start", status=200)
    await attempt(type="websocket.close", code=1006)
    await attempt(type="websocket.close", reason="x" * 124)
    await attempt(type="websocket.nothing")
    await send({"type": "websocket.send", "text": json.dumps(results)})
    await receive()


async def flood(scope: Message, receive: Receive, send: Send) -> None:
    """Sends until nothing more is taken; the test then reads."""
    await send({"type": "websocket.accept"})
    sent = 0
    while True:
        try:
            message = {"type": "websocket.send", "bytes": bytes(65536)}
            await asyncio.wait_for(send(message), 1)
        except TimeoutError:
            break
        sent += 1
    say("blocked", sent)
    await send({"type": "websocket.send", "text": "after the flood"})
    say("through")
    message = await receive()
    say("ended", message["type"], message["code"])


async def deaf(scope: Message, receive: Receive, send: Send) -> None:
    """Takes nothing until another client asks for it."""
    await send({"type": "websocket.accept"})
    await opened.wait()
    total = 0
    while (message := await receive())["type"] == "websocket.receive":
        total += len(message["bytes"])
    say("taken", total, message["code"])


async def patient(scope: Message, receive: Receive, send: Send) -> None:
    """Never accepts; hears of a client that leaves."""
    say("waiting")
    message = await receive()
    say("ended", message["type"], message["code"])
    try:
        await send({"type": "websocket.accept"})
    except OSError as error:
        say("refused", str(error))


async def cancels(scope: Message, receive: Receive, send: Send) -> None:
    """Waits for messages with a time limit: what comes later is not lost."""
    await send({"type": "websocket.accept"})
    got = []
    while len(got) < 3:
        try:
            got.append((await asyncio.wait_for(receive(), 0.05))["text"])
        except TimeoutError:
            await send({"type": "websocket.send", "text": "tick"})
    await send({"type": "websocket.send", "text": "got " + "".join(got)})
    await receive()


opened = asyncio.Event()
routes = {
    "echo": echo,
    "look": look,
    "refuse": refuse,
    "deny": deny,
    "close": close,
    "returns": returns,
    "raises": raises,
    "wrong": wrong,
    "flood": flood,
    "deaf": deaf,
    "patient": patient,
    "cancels": cancels,
}


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["type"] == "http":
        opened.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"http"})
        return
    first = await receive()
    assert first == {"type": "websocket.connect"}, first
    await routes[scope["path"].split("/")[1]](scope, receive, send)
