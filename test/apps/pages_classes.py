"""Pages with a class, of a WSGI and of an ASGI application."""

import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import guado

KIND = os.environ.get("TEST_KIND", "wsgi")


class Board(guado.Page):
    """Counts what it is told, and does what the test asks."""

    count = 0

    def on_open(self, *, reopened: bool = False) -> None:
        """Tells the client of itself, and may refuse it."""
        if self.args.get("refuse") is True or (self.args.get("refuse") == "anew" and reopened):
            raise guado.PageError("forbidden", "not yours")
        self.push({"opened": self.args, "reopened": reopened, "user": self.user})

    def on_message(self, data: Any) -> Any:
        """One turn after the other."""
        self.count += 1
        match data:
            case {"push": n}:
                for i in range(n):
                    self.push(i)
            case {"die": _}:
                os.kill(os.getpid(), signal.SIGKILL)
            case {"fail": code}:
                raise guado.PageError(code, "as the test wants it")
            case {"raise": _}:
                raise RuntimeError("a failure in a handler")
            case {"wait": path}:
                with open(f"{path}.begun", "w", encoding="utf-8") as f:
                    f.write("begun")
                end = time.monotonic() + 60
                while not os.path.exists(path) and time.monotonic() < end:
                    time.sleep(0.01)
        return {"count": self.count, "data": data, "pid": os.getpid()}

    def on_snapshot(self) -> Any:
        """All there is."""
        return {"count": self.count}

    def on_close(self, why: str) -> None:
        """Leaves a trace."""
        if path := self.args.get("trace"):
            with open(path, "a", encoding="utf-8") as f:
                f.write(f"closed {why}\n")


class Beside(guado.Page):
    """Its messages need no turn."""

    @guado.concurrent
    def on_message(self, data: Any) -> Any:
        """May run beside another one."""
        if isinstance(data, str):
            end = time.monotonic() + 60
            while not os.path.exists(data) and time.monotonic() < end:
                time.sleep(0.01)
        return data


def answer(path: str, body: bytes) -> Any:
    """The routes."""
    match path:
        case "/new":
            return {"page": guado.new_page(Board, id=7)}
        case "/push":
            to = json.loads(body)
            delivery = guado.page(to["page"]).push(to["data"], ack=True, timeout=20)
            if KIND == "asgi":
                return delivery
            sent = delivery.result(30)
            return {
                "pages": sent.pages,
                "connected": sent.connected,
                "acknowledged": sent.acknowledged,
            }
        case "/named":
            named = guado.page(json.loads(body))
            if KIND == "wsgi":
                named.subscribe("tea").result(30)
                guado.publish("tea", 1).result(30)
                named.unsubscribe("tea").result(30)
                guado.publish("tea", 2).result(30)
            named.push("named")
            return {}
        case "/broadcast":
            guado.broadcast(json.loads(body))
            return {}
    return {"path": path}


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The same routes for both."""
    made = answer(environ["PATH_INFO"], environ["wsgi.input"].read())
    text = json.dumps(made).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
    )
    return [text]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The same routes for both."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    made = answer(scope["path"], body)
    if isinstance(made, guado.Delivery):
        sent = await made
        made = {"pages": sent.pages, "connected": sent.connected, "acknowledged": sent.acknowledged}
    text = json.dumps(made).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": text})


app: Any = asgi if KIND == "asgi" else wsgi
