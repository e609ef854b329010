"""An answer of a hundred files of a MiB each, and how far it got: EVENTS_FILE has a line for
each one that was sent, and one for how it ended."""

import os
import tempfile
from typing import Any

EVENTS = os.environ["EVENTS_FILE"]


def say(event: str) -> None:
    """Writes one line at once."""
    with open(EVENTS, "a") as events:
        events.write(f"{event}\n")


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """/files, and the process id."""
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200})
    if scope["path"] != "/files":
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
        return
    kind = "http.response.zerocopysend"
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        try:
            for i in range(100):
                await send({"type": kind, "file": file, "offset": 0, "more_body": i < 99})
                say("sent")
        except OSError as error:
            say(type(error).__name__)
            raise
    say("complete")
