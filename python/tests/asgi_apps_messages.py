"""Routes of the ASGI tests that send and receive messages and files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import Any

from asgi_routes import SEEN, Receive, Scope, Send, answer, body, read, reply, route, signal, start


@route("/echo")
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, await read(receive))


@route("/messages")
async def messages(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers chunk sizes as they came, one line each, streaming."""
    await start(send)
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        line = f"{message['type']} {len(message.get('body', b''))} {more}\n"
        await body(send, line.encode(), more=True)
    await body(send)


@route("/disconnect")
async def disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, then waits for the client to leave, and tells what it got."""
    await read(receive)
    signal("waiting").set()
    SEEN["disconnect"] = [(await receive())["type"] for _ in range(3)]
    try:
        await answer(send, b"too late")
        SEEN["send"] = "sent"
    except OSError as error:
        SEEN["send"] = [type(error).__name__, isinstance(error, OSError), str(error)]
        raise
    finally:
        signal("disconnected").set()


@route("/disconnect-early")
async def disconnect_early(scope: Scope, receive: Receive, send: Send) -> None:
    """Never reads the body before the client has left."""
    signal("working").set()
    await signal("look").wait()
    SEEN["early"] = [(await receive())["type"] for _ in range(2)]
    signal("looked").set()


@route("/half-closed")
async def half_closed(scope: Scope, receive: Receive, send: Send) -> None:
    first = await receive()
    second = await receive()
    await reply(send, [first["body"].decode(), second["type"]])


@route("/cut")
async def cut(scope: Scope, receive: Receive, send: Send) -> None:
    types = []
    for _ in range(4):
        message = await receive()
        types.append([message["type"], message.get("more_body")])
        if message["type"] == "http.request" and message["body"]:
            signal("part").set()
    await reply(send, types)


@route("/after-response")
async def after_response(scope: Scope, receive: Receive, send: Send) -> None:
    await read(receive)
    waiting = asyncio.create_task(receive())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert not waiting.done()
    await answer(send, b"answered")
    SEEN["after"] = [(await waiting)["type"], (await receive())["type"], (await receive())["type"]]


@route("/cancel-receive")
async def cancel_receive(scope: Scope, receive: Receive, send: Send) -> None:
    """A cancelled receive() loses nothing: by wait_for, by task, before and after its start."""
    never = receive()
    never.close()  # type: ignore[attr-defined]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(receive(), 0.01)
    for turns in range(3):
        task = asyncio.create_task(receive())  # type: ignore[arg-type]
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert task.cancelled()
        else:
            raise AssertionError("not cancelled")
    task = asyncio.create_task(receive())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    signal("receiving").set()
    await signal("arrived").wait()
    task.cancel()  # the body is there and the task woken: it must not be lost
    with contextlib.suppress(asyncio.CancelledError):
        await task
    first = b"" if task.cancelled() else task.result()["body"]
    await answer(send, first + await read(receive))


@route("/two-receivers")
async def two_receivers(scope: Scope, receive: Receive, send: Send) -> None:
    await read(receive)
    tasks = [asyncio.create_task(receive()) for _ in range(3)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    signal("two").set()
    SEEN["two"] = [(await task)["type"] for task in tasks]
    signal("two-seen").set()


@route("/order")
async def order(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the messages of the query string's JSON; errors are answered as text."""
    errors = []
    for message in json.loads(await read(receive)):
        message = {k: unplain(v) for k, v in message.items()}
        try:
            await send(message)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    SEEN["errors"] = errors


def unplain(value: Any) -> Any:
    if isinstance(value, dict) and "bytes" in value:
        return value["bytes"].encode("latin-1")
    if isinstance(value, dict) and "pair" in value:
        return tuple(unplain(v) for v in value["pair"])
    if isinstance(value, list):
        return [unplain(v) for v in value]
    return value


@route("/buffers")
async def buffers(scope: Scope, receive: Receive, send: Send) -> None:
    fields = ((b"x-" + bytes([97 + i]), v) for i, v in enumerate([b"1", bytearray(b"2")]))
    await start(send, headers=fields)
    await body(send, bytearray(b"one "), more=True)
    await body(send, memoryview(b"-two-")[1:4], more=True)
    await send({"type": "http.response.body"})


@route("/stream")
async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """A head and empty chunks, then waits: nothing may be held back."""
    await start(send, headers=[(b"content-type", b"text/event-stream")])
    await body(send, b"", more=True)
    await signal("go").wait()
    await body(send, b"data: 1\n\n", more=True)
    await body(send, b"", more=True)
    await signal("go on").wait()
    await body(send, b"data: 2\n\n", more=True)
    await body(send)


@route("/flood")
async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends for ever; `sent` counts what send() let pass."""
    SEEN["flood"] = 0
    await start(send)
    try:
        while True:
            await body(send, bytes(65536), more=True)
            SEEN["flood"] += 65536
    except OSError as error:
        SEEN["flood-error"] = str(error)
        signal("flooded").set()
        raise


@route("/big")
async def big(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, bytes(range(256)) * 40000)
    SEEN["big"] = "returned"


@route("/hints")
async def hints(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send)
    links = iter([b"</a.css>; rel=preload", b"</b.js>; rel=preload"])
    await send({"type": "http.response.early_hint", "links": links})
    await send({"type": "http.response.early_hint", "links": [b"</c.js>; rel=preload"]})
    await body(send, b"x", more=True)
    await send({"type": "http.response.early_hint", "links": [b"</late.js>; rel=preload"]})
    await body(send)


@route("/trailers")
async def trailers(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, headers=[(b"trailer", b"x-sum, x-more")], trailers=True)
    await body(send, b"one ", more=True)
    await body(send, b"two")
    await send(
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True}
    )
    await send({"type": "http.response.trailers", "headers": [(b"X-More", b"2")]})
    await send({"type": "http.response.trailers", "headers": [(b"x-ignored", b"3")]})


@route("/no-trailers")
async def no_trailers(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, trailers=True)
    await body(send, b"body")
    if "wait" in scope["query_string"].decode():
        await signal("never").wait()


@route("/pathsend")
async def pathsend(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["query_string"].decode()
    size = os.path.getsize(path)
    await start(send, headers=[(b"content-length", str(size).encode())])
    await send({"type": "http.response.pathsend", "path": path})


@route("/pathsend-wrong")
async def pathsend_wrong(scope: Scope, receive: Receive, send: Send) -> None:
    errors = []

    async def attempt(message: dict[str, Any]) -> None:
        try:
            await send(message)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    here = os.path.abspath(__file__)
    await attempt({"type": "http.response.pathsend", "path": here})
    await start(send)
    for path in ("relative", "/", "/does/not/exist", b"/bytes", None, "/dev/null", "/nul\0"):
        await attempt({"type": "http.response.pathsend", "path": path})
    await attempt({"type": "http.response.pathsend"})
    await body(send, b" ", more=True)
    await attempt({"type": "http.response.pathsend", "path": here})
    await body(send, json.dumps(errors).encode())


@route("/zerocopy")
async def zerocopy(scope: Scope, receive: Receive, send: Send) -> None:
    name = scope["query_string"].decode()
    kind = "http.response.zerocopysend"
    await start(send)
    with open(name, "rb") as file:
        await body(send, b"<", more=True)
        await send({"type": kind, "file": file, "offset": 2, "count": 3, "more_body": True})
        file.seek(5)
        await send({"type": kind, "file": file, "count": 2, "more_body": True})
        SEEN["position"] = file.tell()
        await send({"type": kind, "file": file, "more_body": True})
        await body(send, b">", more=True)
        await send({"type": kind, "file": file.fileno(), "offset": 0, "count": 1})


@route("/zerocopy-whole")
async def zerocopy_whole(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send)
    with open(scope["query_string"].decode(), "rb") as file:
        await send({"type": "http.response.zerocopysend", "file": file})


@route("/zerocopy-wrong")
async def zerocopy_wrong(scope: Scope, receive: Receive, send: Send) -> None:
    errors = []
    await start(send)
    r, w = os.pipe()
    with open(__file__, "rb") as file:
        for more in (
            {"file": r},
            {"file": file, "offset": -1},
            {"file": file, "count": "1"},
            {"file": object()},
            {},
        ):
            try:
                await send({"type": "http.response.zerocopysend", **more})
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
    os.close(r)
    os.close(w)
    await body(send, json.dumps(errors).encode())


@route("/zerocopy-many")
async def zerocopy_many(scope: Scope, receive: Receive, send: Send) -> None:
    """A byte of the file at a time, a hundred times; notes how many have been sent."""
    kind = "http.response.zerocopysend"
    SEEN["files"], SEEN["files-end"] = 0, ""
    await start(send)
    with open(scope["query_string"].decode(), "rb") as file:
        try:
            for i in range(100):
                await send(
                    {"type": kind, "file": file, "offset": i % 10, "count": 1, "more_body": i < 99}
                )
                SEEN["files"] += 1
        except BaseException as error:
            SEEN["files-end"] = type(error).__name__
            raise
