"""The host's end of the link for the WSGI tests: as asgi_host, with environ's names."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Self

from asgi_host import COMMIT, HELLO, STARTED, Answer, Fields, Worker

__all__ = ["Answer", "WsgiWorker"]


class WsgiWorker(Worker):
    """A worker process that serves WSGI applications with `threads` threads."""

    def __init__(
        self,
        *targets: str,
        threads: int = 4,
        multiprocess: bool = False,
        **options: Any,
    ) -> None:
        self.reasons: dict[int, bytes] = {}
        self.started: set[int] = set()
        self._hello = {"threads": threads, "multiprocess": multiprocess}
        named = [{"target": t, "kind": "wsgi"} for t in targets or ("wsgi_apps:app",)]
        super().__init__(*named, **options)

    def __enter__(self) -> Self:
        return self

    def send(
        self, kind: int, stream: int, payload: bytes = b"", *, flags: int = 0, arg: int = 0
    ) -> None:
        if kind == HELLO:
            payload = json.dumps({**json.loads(payload), **self._hello}).encode()
        super().send(kind, stream, payload, flags=flags, arg=arg)

    def _answer(self, a: Answer, kind: int, flags: int, arg: int, payload: bytes) -> None:
        if kind == COMMIT:
            (n,) = struct.unpack_from("<I", payload, 12)
            self.reasons[a.stream] = payload[16 : 16 + n]
        if kind == STARTED:
            self.started.add(a.stream)
        super()._answer(a, kind, flags, arg, payload)

    def call(self, path: str, headers: Fields | None = None, **options: Any) -> Answer:
        """Sends a request for the route, with environ's names for its fields."""
        headers = [(b"HTTP_HOST", b"example")] if headers is None else headers
        method = options.pop("method", "GET")
        return self.request(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Answer:
        return self.wait(self.call(path, **options))

    def post(self, path: str, body: bytes, **options: Any) -> Answer:
        return self.get(path, method="POST", body=body, **options)

    def json(self, path: str, **options: Any) -> Any:
        """The JSON that a route answers with."""
        answer = self.get(path, **options)
        assert answer.status == 200, (answer, self.logs)
        return answer.json()

    def open(self, gate: str) -> None:
        """Lets the application pass `gate`."""
        self.get("/open", query=gate.encode())

    def journal(self) -> list[Any]:
        """What the application noted since the last call."""
        return list(self.json("/journal"))

    def stream_body(self, answer: Answer, body: bytes, size: Callable[[], int]) -> None:
        """Sends the body in pieces, never more than the application's reads allow."""
        allowed, at = 65536, 0
        while at < len(body):
            piece = body[at : at + size()]
            at += len(piece)
            self._allow(answer, at - allowed)
            self.body(answer, piece)
        self.body(answer, b"", end=True)

    def _allow(self, answer: Answer, credit: int) -> None:
        self.until(lambda: answer.credit >= credit or answer.over)
