"""The host's end of the link for the WSGI tests: exchanges as in asgi_host, over both wires of
link_host, with environ's names for the fields of a request."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from asgi_host import COMMIT, HELLO, REQUEST, STARTED, Answer, Fields, Worker, _bootstrap_line
from link_host import MORE, ROOT, STATE_STARTED, MemoryWire, SocketWire, Wire, encode

__all__ = ["Answer", "WsgiWorker", "default_transport"]

MOST = 131072 - 16
TRANSPORTS = ("shm", "socket") if sys.platform == "linux" else ("socket",)
default_transport = TRANSPORTS[0]


class WsgiWorker(Worker):
    """A worker process that serves WSGI applications with `threads` threads."""

    def __init__(
        self,
        *targets: str | dict[str, Any],
        transport: str | None = None,
        threads: int = 4,
        multiprocess: bool = False,
        credit: int = 262144,
        automatic_credit: bool = True,
        env: dict[str, str] | None = None,
    ) -> None:
        self.timeout = 20.0
        self.automatic_credit = automatic_credit
        self.answers: dict[int, Answer] = {}
        self.logs: list[tuple[int, int, str]] = []
        self.reasons: dict[int, bytes] = {}
        self.ready: dict[str, object] | None = None
        self.failed: dict[str, object] | None = None
        self.closed = False
        self._slots = 0
        self._started: set[int] = set()
        self._descriptors: dict[tuple[int, int], int] = {}
        self._parts: dict[tuple[int, int], bytes] = {}
        transport = transport or default_transport
        self.wire: Wire = MemoryWire() if transport == "shm" else SocketWire()
        self._start(env or {})
        self.send(
            HELLO, 0, self._hello(targets or ("wsgi_apps:app",), threads, multiprocess, credit)
        )
        self.until(lambda: self.ready is not None or self.failed is not None)
        assert self.ready is not None, self.failed

    def _start(self, env: dict[str, str]) -> None:
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = dict(os.environ, GUADO_LINK=f"{self.wire.spec},{control.fileno()}")
        environ.update(GUADO_PACKAGE=str(ROOT), PYTHONFAULTHANDLER="1", **env)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", _bootstrap_line()],
            env=environ,
            pass_fds=(*self.wire.child, control.fileno()),
            stdin=subprocess.DEVNULL,
        )
        control.close()
        if isinstance(self.wire, SocketWire):
            self.wire.theirs.close()

    def _hello(
        self,
        targets: tuple[str | dict[str, Any], ...],
        threads: int,
        multiprocess: bool,
        credit: int,
    ) -> bytes:
        apps = [
            {"name": f"app{i}", "kind": "wsgi", "factory": False, "lifespan": "off"}
            | ({"target": t} if isinstance(t, str) else t)
            for i, t in enumerate(targets)
        ]
        hello = {
            "protocol": 1,
            "version": "0.1.0",
            "slot": "p01",
            "instance": "test",
            "apps": apps,
            "dir": os.path.dirname(__file__),
            "threads": threads,
            "concurrency": 1000,
            "multiprocess": multiprocess,
            "dev": False,
            "request_credit": 65536,
            "response_credit": credit,
        }
        return json.dumps(hello).encode()

    # -- frames

    def send(
        self, kind: int, stream: int, payload: bytes = b"", *, flags: int = 0, arg: int = 0
    ) -> None:
        if kind == REQUEST:
            self.wire.start(stream)
        while len(payload) > MOST:
            more = MORE if kind == REQUEST else 0
            self.wire.send(encode(kind, more, stream, 0, payload[:MOST]))
            payload = payload[MOST:]
        try:
            self.wire.send(encode(kind, flags, stream, arg, payload))
        except OSError:
            self.closed = True

    def pump(self, timeout: float) -> None:
        while select.select([self._control], [], [], 0)[0] and not self.closed:
            self._take_descriptor()
        frame = self.wire.receive()
        if frame is None and not self.closed:
            self.wire.wait(min(max(timeout, 0), 0.1))
            frame = self.wire.receive()
        if frame is not None:
            self._frame(frame.kind, frame.flags, frame.stream, frame.arg, frame.payload)

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

    # -- life

    def exit(self) -> int:
        deadline = time.monotonic() + self.timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"the worker does not exit; {self.summary()}"
            self.pump(0.1)
        return self.process.wait(self.timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._control.close()
        if isinstance(self.wire, SocketWire):
            self.wire.mine.close()
        for fd in self._descriptors.values():
            os.close(fd)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if isinstance(self.wire, MemoryWire):
            self.wire.close()


@contextmanager
def both_transports(transport: str) -> Iterator[None]:
    """Workers that a test starts by itself use the transport of the run."""
    global default_transport
    before, default_transport = default_transport, transport
    try:
        yield
    finally:
        default_transport = before
