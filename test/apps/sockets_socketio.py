"""A python-socketio server: long polling that upgrades, rooms, acknowledgements."""

import os

import socketio

if os.environ.get("TEST_LOOP") == "asyncio":
    import asyncio

    asyncio.set_event_loop(asyncio.new_event_loop())

server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")
app = socketio.ASGIApp(server)


@server.event
async def connect(sid: str, environ: dict[str, object], auth: object) -> bool:
    await server.enter_room(sid, "all")
    return auth != "nobody"


@server.event
async def say(sid: str, text: str) -> str:
    await server.emit("said", {"text": text, "by": server.transport(sid)}, room="all")
    return "heard " + text


@server.event
async def binary(sid: str, data: bytes) -> bytes:
    return data[::-1]


@server.event
async def disconnect(sid: str, reason: str) -> None:
    print("socketio left", reason, flush=True)
