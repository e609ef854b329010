"""The host's end of the link for tests of push, pages and events: what a worker asks is
answered here, and turns of pages are sent to its hidden application."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from asgi_host import END, HELLO, MORE, PING, TURN, Answer, Worker, text
from link_host import TURNS

CALL, CALL_CANCEL, REPLY = 0x4F, 0x50, 0x10
HOST = 2
DO = {name: 1 + i for i, name in enumerate(TURNS)}

# Kind of the application, loop, transport.
WAYS = ["wsgi--shm", "wsgi--socket", "asgi-asyncio-shm", "asgi-uvloop-shm", "asgi-uvloop-socket"]


class Asked(NamedTuple):
    """A CALL of the worker."""

    id: int
    verb: str
    data: Any
    milliseconds: int


class Refused(Exception):
    """What a verb is answered with instead of a result."""

    def __init__(self, status: int, code: str, text: str = "in words") -> None:
        self.status, self.code, self.text = status, code, text


def delivered(to: dict[str, Any]) -> dict[str, Any]:
    """The answer to a push."""
    if to["to"].get("page") == "gone":
        raise Refused(404, "no_page", "there is no page gone")
    return {"pages": 2, "connected": 1}


class PushWorker(Worker):
    """A worker of phase 3 with one application, whose pages are application 1."""

    def __init__(self, way: str, target: str = "push_apps", *, phase: int = 3, **more: Any) -> None:
        self.kind, loop, transport = way.split("-")
        if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
            pytest.skip("uvloop is not installed")
        self.phase = phase
        self.asked: list[Asked] = []
        self.withdrawn: list[int] = []
        self.held: list[Asked] = []
        self.verbs: dict[str, Callable[[Any], Any] | None] = {
            "worker.declares": lambda _: {},
            "push": delivered,
            "push.wait": lambda data: delivered(data) | {"acknowledged": 1},
            "publish": lambda _: {"pages": 3, "workers": 1},
            "touch": lambda _: {"connection": "C1", "user": ""},
            "login": lambda data: {"connection": "C1", "user": data["user"]},
            "logout": lambda _: {},
            "page.open": lambda _: {"page": "P9"},
            "page.get": lambda data: {
                "page": data["page"],
                "user": "anna",
                "connection": "C1",
                "class": "Board",
                "connected": True,
            },
            "page.end": lambda _: {},
            "page.subscribe": lambda _: {},
            "page.unsubscribe": lambda _: {},
        }
        env = {"TEST_LOOP": loop} | more.pop("env", {})
        super().__init__(f"{target}:{self.kind}", transport=transport, env=env, **more)

    # -- frames

    def send(
        self, kind: int, stream: int, payload: bytes = b"", *, flags: int = 0, arg: int = 0
    ) -> None:
        if kind == HELLO:
            hello = json.loads(payload) | {"phase": self.phase, "threads": 4}
            if self.phase >= 3:
                hello["apps"].append({"name": "app0.pages", "kind": "auto", "pages": "app0"})
            payload = json.dumps(hello).encode()
        super().send(kind, stream, payload, flags=flags, arg=arg)

    def _frame(self, kind: int, flags: int, stream: int, arg: int, payload: bytes) -> None:
        if kind == CALL:
            payload = self._parts.pop((arg, kind), b"") + payload
            if flags & MORE:
                self._parts[arg, kind] = payload
                return
            what, length, milliseconds = struct.unpack_from("<HHI", payload)
            assert what == HOST
            verb, data = payload[8 : 8 + length].decode(), json.loads(payload[8 + length :])
            self._asked(Asked(arg, verb, data, milliseconds))
        elif kind == CALL_CANCEL:
            self.withdrawn.append(arg)
        else:
            super()._frame(kind, flags, stream, arg, payload)

    def _asked(self, one: Asked) -> None:
        self.asked.append(one)
        answer = self.verbs.get(one.verb, _unknown)
        if answer is None:
            self.held.append(one)
            return
        try:
            self.reply(one, answer(one.data))
        except Refused as refusal:
            self.refuse(one, refusal)

    def reply(self, one: Asked, result: Any) -> None:
        self._reply(one, 200, "", json.dumps(result).encode())

    def refuse(self, one: Asked, refusal: Refused) -> None:
        self._reply(one, refusal.status, refusal.code, refusal.text.encode())

    def _reply(self, one: Asked, status: int, code: str, data: bytes) -> None:
        head = struct.pack("<HHI", status, len(code), 0) + code.encode()
        self.send(REPLY, 0, head + data, arg=one.id)
        self.send(PING, 0)

    def close(self) -> None:
        """Ends the link, as the end of the host would."""
        self.wire.close()
        self._control.close()

    # -- what tests ask

    def field(self, name: str, value: str) -> tuple[bytes, bytes]:
        """A field as the host gives it to an application of this kind."""
        if self.kind == "wsgi":
            name = "HTTP_" + name.upper().replace("-", "_")
        return name.lower().encode() if self.kind == "asgi" else name.encode(), value.encode()

    def run(self, path: str, **fields: str) -> Any:
        """What the route's function returned, or [class, message, code] of what it raised.
        Fields of the host are given as connection="C1"."""
        answer = self.call(path, **fields)
        self.wait(answer)
        assert answer.status == 200, (answer, self.logs)
        return answer.json()

    def call(self, path: str, **fields: str) -> Answer:
        headers = [self.field("host", "example")]
        headers += [self.field(f"guado-{name}", value) for name, value in fields.items()]
        return self.request("GET", path, headers=headers)

    def turn(self, do: str, **body: Any) -> Answer:
        """Sends a turn of a page to the hidden application."""
        of: dict[str, Any] = {"page": "P1", "class": "Board", "opened": do != "open"}
        of |= {"args": {}, "user": "", "connection": "C1", "topic": "", "why": ""} | body
        data = json.dumps(of["data"]) if "data" in of else ""
        strings = [of["page"], of["user"], of["connection"], data]
        strings += [of["class"], json.dumps(of["args"]), of["topic"], of["why"]]
        payload = struct.pack("<HBBI", 1, DO[do], of["opened"], 0)
        payload += b"".join(text(value) for value in strings)
        stream = 1 << 16 | self._slots
        self._slots += 1
        answer = self.answers[stream] = Answer(stream)
        self.send(TURN, stream, payload, flags=END)
        return answer

    def turned(self, do: str, **body: Any) -> tuple[int, Any]:
        return said(self.wait(self.turn(do, **body)))

    def of(self, verb: str) -> list[Any]:
        """The data of what was asked with this verb."""
        return [one.data for one in self.asked if one.verb == verb]


def said(answer: Answer) -> tuple[int, Any]:
    """The answer to a turn; data of one that succeeded by its name."""
    if answer.status == 200:
        return 200, {"data": answer.json()} if answer.body else {}
    return answer.status, answer.json()


def _unknown(_: Any) -> Any:
    raise Refused(404, "unknown_call")
