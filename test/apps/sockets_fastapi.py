"""WebSockets of a FastAPI application: dependencies, parameters, a room."""

import os
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, Query, WebSocket, WebSocketDisconnect
from fastapi import WebSocketException as Refusal

if os.environ.get("TEST_LOOP") == "asyncio":
    import asyncio

    asyncio.set_event_loop(asyncio.new_event_loop())

app = FastAPI()
room: list[WebSocket] = []


async def user(
    session: Annotated[str | None, Cookie()] = None, token: Annotated[str | None, Query()] = None
) -> str:
    """Who it is; strangers are refused with a close code."""
    if session is None and token is None:
        raise Refusal(code=1008, reason="who are you")
    return session or token or ""


@app.websocket("/items/{item}")
async def items(websocket: WebSocket, item: int, who: Annotated[str, Depends(user)]) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{who} item {item}: {text}")


@app.websocket("/room")
async def enter(websocket: WebSocket) -> None:
    await websocket.accept()
    room.append(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            for other in room:
                await other.send_text(text)
    except WebSocketDisconnect:
        room.remove(websocket)
        print("fastapi left, remain", len(room), flush=True)
