"""The host's end of the link for the WSGI tests: as asgi_host, with environ's names for the
fields of a request, and the number of threads to choose."""

from __future__ import annotations

import json
import select
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from asgi_host import COMMIT, HELLO, STARTED, Answer, Fields, Worker
from link_host import STATE_STARTED, MemoryWire

__all__ = ["TRANSPORTS", "Answer", "WsgiWorker", "both_transports", "raised"]

TRANSPORTS = ("shm", "socket") if sys.platform == "linux" else ("socket",)
default_transport = TRANSPORTS[0]


class WsgiWorker(Worker):
    """A worker process that serves WSGI applications with `threads` threads."""

    def __init__(
        self,
        *targets: str | dict[str, Any],
        threads: int = 4,
        multiprocess: bool = False,
        **options: Any,
    ) -> None:
        self.reasons: dict[int, bytes] = {}
        self._started: set[int] = set()
        self._own_hello = {"threads": threads, "multiprocess": multiprocess}
        apps = [
            {"kind": "wsgi"} | ({"target": t} if isinstance(t, str) else t)
            for t in targets or ("wsgi_apps:app",)
        ]
        super().__init__(*apps, transport=default_transport, **options)

    # -- frames

    def send(
        self, kind: int, stream: int, payload: bytes = b"", *, flags: int = 0, arg: int = 0
    ) -> None:
        if kind == HELLO:
            payload = json.dumps(json.loads(payload) | self._own_hello).encode()
        super().send(kind, stream, payload, flags=flags, arg=arg)

    def pump(self, timeout: float) -> None:
        """One frame at a time: some applications here never stop sending."""
        while self._has_descriptor():
            self._take_descriptor()
        frame = self.wire.receive()
        if frame is None and not self.closed:
            self._wait(min(max(timeout, 0), 0.1))  # nothing tells when a slot word changes
            frame = self.wire.receive()
        if frame is not None:
            self._frame(frame.kind, frame.flags, frame.stream, frame.arg, frame.payload)

    def _has_descriptor(self) -> bool:
        return not self.closed and bool(select.select([self._control], [], [], 0)[0])

    def _answer(self, a: Answer, kind: int, flags: int, arg: int, payload: bytes) -> None:
        if kind == COMMIT:
            (n,) = struct.unpack_from("<I", payload, 12)
            self.reasons[a.stream] = payload[16 : 16 + n]
        if kind == STARTED:
            self._started.add(a.stream)
        super()._answer(a, kind, flags, arg, payload)

    def started(self, answer: Answer) -> bool:
        """The worker has called the application, or is about to."""
        if isinstance(self.wire, MemoryWire):
            return self.wire.state(answer.stream) & 0xFFFF == STATE_STARTED
        return answer.stream in self._started

    # -- exchanges

    def call(self, path: str | bytes, headers: Fields | None = None, **options: Any) -> Answer:
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

    def __enter__(self) -> Self:
        return self


def raised(answer: Answer) -> str | None:
    """The exception that ended the exchange, without its module; None: none did."""
    if answer.abort is None or answer.abort[0] != 1:
        return None
    return answer.abort[1].rpartition("wsgi_routes.")[2]


@contextmanager
def both_transports(transport: str) -> Iterator[None]:
    """Workers that a test starts by itself use the transport of the run."""
    global default_transport
    before, default_transport = default_transport, transport
    try:
        yield
    finally:
        default_transport = before
