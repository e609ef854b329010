"""WebSockets of a Django application by Channels: groups, the synchronous and the
asynchronous consumer, Origin by its own validator."""

import os

import django
from django.conf import settings

if os.environ.get("TEST_LOOP") == "asyncio":
    import asyncio

    asyncio.set_event_loop(asyncio.new_event_loop())

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="only for tests",
    ROOT_URLCONF="sockets_channels",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


class Chat(AsyncJsonWebsocketConsumer):
    """A group over the channel layer."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("chat", self.channel_name)
        await self.accept()

    async def receive_json(self, content: object, **_: object) -> None:
        await self.channel_layer.group_send("chat", {"type": "chat.message", "content": content})

    async def chat_message(self, event: dict[str, object]) -> None:
        await self.send_json(event["content"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("chat", self.channel_name)
        print("channels left", code, flush=True)


class Shout(WebsocketConsumer):
    """Synchronous: it runs in a thread."""

    def connect(self) -> None:
        if b"token=x" not in self.scope["query_string"]:
            self.close()
            return
        self.accept("shout" if "shout" in self.scope["subprotocols"] else None)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "stop":
            self.close(4009, "stopped")
        elif text_data is not None:
            self.send(text_data.upper())
        elif bytes_data is not None:
            self.send(bytes_data=bytes_data.upper())


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("http")


urlpatterns = [path("", index)]
app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            URLRouter([path("chat", Chat.as_asgi()), path("shout", Shout.as_asgi())])
        ),
    }
)
