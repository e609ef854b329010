"""Real clients of the framework applications: websocket_clients.py NAME URL.

Ends with 0 when everything was as it should be. Run by TestWebSocketsOfFrameworks."""

import asyncio
import json
import sys

import socketio
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

PATIENCE = 60


async def starlette(url: str) -> None:
    async with websockets.connect(url + "/echo") as ws:
        for data in ({"a": [1, "é", None]}, "text", 7):
            await ws.send(json.dumps(data))
            assert json.loads(await ws.recv()) == {"echo": data}
    async with websockets.connect(url + "/count", subprotocols=["other", "count"]) as ws:
        assert ws.response is not None
        assert ws.response.headers["x-framework"] == "starlette"
        assert ws.subprotocol == "count"
        await ws.send("3")
        assert [m async for m in both(ws)] == [b"3", b"2", b"1"]
        assert (ws.close_code, ws.close_reason) == (3001, "counted")
    assert await denied(url + "/locked") == (423, b"locked")
    assert (await denied(url + "/nowhere"))[0] == 403
    async with websockets.connect(url + "/lost") as ws:
        await ws.send("x")


async def fastapi(url: str) -> None:
    assert (await denied(url + "/items/1"))[0] == 403
    assert (await denied(url + "/items/none?token=t"))[0] == 403
    async with websockets.connect(
        url + "/items/7", additional_headers={"Cookie": "session=ada"}
    ) as ws:
        await ws.send("hello")
        assert await ws.recv() == "ada item 7: hello"
    clients = [await websockets.connect(url + "/room") for _ in range(5)]
    for n, ws in enumerate(clients):
        await ws.send(f"from {n}")
    for ws in clients:
        assert {await ws.recv() for _ in clients} == {f"from {n}" for n in range(5)}
    for ws in clients:
        await ws.close()


async def channels(url: str) -> None:
    async with websockets.connect(url + "/chat") as a, websockets.connect(url + "/chat") as b:
        for n, ws in enumerate((a, b)):
            await ws.send(json.dumps({"n": n}))
        for ws in (a, b):
            assert {json.loads(await ws.recv())["n"] for _ in range(2)} == {0, 1}
    assert (await denied(url + "/shout"))[0] == 403
    assert (await denied(url + "/shout?token=x", origin="http://evil.example"))[0] == 403
    async with websockets.connect(url + "/shout?token=x", subprotocols=["shout"]) as ws:
        assert ws.subprotocol == "shout"
        await ws.send("quiet")
        assert await ws.recv() == "QUIET"
        await ws.send(b"bytes")
        assert await ws.recv() == b"BYTES"
        await ws.send("stop")
        assert [m async for m in both(ws)] == []
        assert (ws.close_code, ws.close_reason) == (4009, "stopped")


async def socketio_(url: str) -> None:
    http = url.replace("ws://", "http://", 1)
    for transports in (["websocket"], ["polling", "websocket"]):
        client = socketio.AsyncClient(reconnection=False)
        said: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        client.on("said", said.put)
        await client.connect(http, transports=transports, wait_timeout=PATIENCE)
        assert await client.call("say", "hello", timeout=PATIENCE) == "heard hello"
        got = await said.get()
        assert got == {"text": "hello", "by": transports[-1]}
        assert await client.call("binary", bytes(range(256)), timeout=PATIENCE) == bytes(
            range(255, -1, -1)
        )
        await client.disconnect()
    try:
        await socketio.AsyncClient(reconnection=False).connect(
            http, auth="nobody", transports=["websocket"], wait_timeout=PATIENCE
        )
    except socketio.exceptions.ConnectionError:
        pass
    else:
        raise AssertionError("nobody was let in")


async def both(ws: websockets.ClientConnection) -> object:
    """What comes until the server closes, whatever its code."""
    try:
        while True:
            yield await ws.recv()
    except ConnectionClosed:
        return


async def denied(url: str, **options: object) -> tuple[int, bytes]:
    try:
        async with websockets.connect(url, **options):  # type: ignore[arg-type]
            raise AssertionError(f"{url} was accepted")
    except InvalidStatus as error:
        return error.response.status_code, bytes(error.response.body or b"")


async def main() -> None:
    name, url = sys.argv[1:]
    tests = {
        "starlette": starlette,
        "fastapi": fastapi,
        "channels": channels,
        "socketio": socketio_,
    }
    await asyncio.wait_for(tests[name](url), PATIENCE)


asyncio.run(main())
