"""Requests that wait until their client leaves, and when each noticed."""

import json
import time
from typing import Any

waiting = 0
noticed: dict[str, float] = {}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """/wait?N waits for http.disconnect; /state tells how many wait, and who noticed when."""
    global waiting
    if scope["type"] != "http":
        raise RuntimeError("no " + scope["type"])
    await receive()
    if scope["path"] == "/wait":
        waiting += 1
        while (await receive())["type"] != "http.disconnect":
            pass
        noticed[scope["query_string"].decode()] = time.monotonic()
        waiting -= 1
        return
    body = json.dumps({"waiting": waiting, "noticed": noticed}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
