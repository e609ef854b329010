"""WebSockets of a Starlette application."""

import os

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

if os.environ.get("TEST_LOOP") == "asyncio":
    import asyncio

    asyncio.set_event_loop(asyncio.new_event_loop())


class Echo(WebSocketEndpoint):
    """The class form, with JSON."""

    encoding = "json"

    async def on_receive(self, websocket: WebSocket, data: object) -> None:
        await websocket.send_json({"echo": data})

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        print("starlette ended", close_code, flush=True)


async def count(websocket: WebSocket) -> None:
    """The function form: counts down and closes."""
    await websocket.accept(subprotocol="count", headers=[(b"x-framework", b"starlette")])
    try:
        for n in range(int(await websocket.receive_text()), 0, -1):
            await websocket.send_bytes(str(n).encode())
        await websocket.close(code=3001, reason="counted")
    except WebSocketDisconnect as error:
        print("starlette left", error.code, flush=True)


async def locked(websocket: WebSocket) -> None:
    """Denies with a response of its own."""
    await websocket.send_denial_response(PlainTextResponse("locked", status_code=423))


async def lost(websocket: WebSocket) -> None:
    """Reads until its client leaves, and lets the exception out."""
    await websocket.accept()
    while True:
        await websocket.receive_text()


async def index(request: object) -> PlainTextResponse:
    return PlainTextResponse("http")


app = Starlette(
    routes=[
        Route("/", index),
        WebSocketRoute("/echo", Echo),
        WebSocketRoute("/count", count),
        WebSocketRoute("/locked", locked),
        WebSocketRoute("/lost", lost),
    ]
)
