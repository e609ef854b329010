"""An ASGI application with a page class that hears events, and one that does not."""

from typing import Any

import guado
from events_heard import hear


@guado.on("invoice.>")
async def also(topic: str, data: Any) -> None:
    hear("asgi", topic, data)
    if topic == "invoice.broken":
        raise ValueError("an event that cannot be handled")


class Till(guado.Page):
    """Hears events itself."""

    def on_open(self, *, reopened: bool = False) -> None:
        self.subscribe("invoice.paid")
        self.subscribe("*.paid")

    async def on_event(self, topic: str, data: Any) -> None:
        self.push({"till": topic, "n": data})

    def on_message(self, data: Any) -> Any:
        return "ready"


class Window(guado.Page):
    """Has its client hear them."""

    def on_open(self, *, reopened: bool = False) -> None:
        self.subscribe("invoice.paid")

    def on_message(self, data: Any) -> Any:
        return "ready"


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})
