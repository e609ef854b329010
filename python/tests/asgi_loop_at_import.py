"""An application that binds the event loop when it is imported."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        LOOP = asyncio.get_event_loop()
    except RuntimeError:  # 3.14 no longer makes one
        LOOP = asyncio.new_event_loop()
        asyncio.set_event_loop(LOOP)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    same = asyncio.get_running_loop() is LOOP
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"same loop" if same else b"another"})
