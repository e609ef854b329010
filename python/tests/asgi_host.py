"""The host's end of the link for the ASGI tests: a real worker process on a real link.

Small and synchronous: a test sends frames and pumps what comes back until it has what
it waits for. Frames are those of protocol/link.md, over either wire of link_host.
"""

from __future__ import annotations

import array
import json
import os
import runpy
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from link_host import HOST_ASLEEP, UP_HEAD, MemoryWire, SocketWire, Wire, encode

HERE = Path(__file__).parent
PACKAGE = HERE.parent

HELLO, REQUEST, BODY, CANCEL, INTERRUPT, TURN = 0x01, 0x02, 0x03, 0x04, 0x05, 0x14
MESSAGE, DISCONNECT, MESSAGE_UP, CLOSE = 0x06, 0x07, 0x51, 0x52
TEXT, BINARY, MESSAGE_COST = 1, 2, 64
FILE_CREDIT, CREDIT_DOWN, DRAIN, PING = 0x0C, 0x0D, 0x0E, 0x0F
READY, COMMIT, STARTED, INFORMATIONAL, RESPONSE_BODY = 0x41, 0x42, 0x43, 0x44, 0x45
TRAILERS, FILE, CREDIT_UP, LOG, FAILED, ABORT, DONE = 0x46, 0x47, 0x48, 0x4A, 0x4C, 0x4D, 0x4E
END, MORE, BUSY = 1, 2, 4
GONE, HALF_CLOSED, DEADLINE, STOPPING = 1, 2, 3, 4
NO_LENGTH, EXPECT, TAKES_TRAILERS, HEAD, WEBSOCKET = 1, 2, 4, 8, 16

LARGEST = 131072 - 16  # payload of one frame

Fields = list[tuple[bytes, bytes]]


def _bootstrap_line() -> str:
    """The line by which the host starts a worker, as the package itself has it."""
    path = PACKAGE / "guado" / "_bootstrap.py"
    return str(runpy.run_path(str(path))["LINE"])


def text(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def encode_fields(fields: Fields) -> bytes:
    return b"".join(struct.pack("<HHI", len(n), 0, len(v)) + n + v for n, v in fields)


def decode_fields(data: bytes, at: int, count: int) -> tuple[Fields, int]:
    fields = []
    for _ in range(count):
        n, _, v = struct.unpack_from("<HHI", data, at)
        at += 8
        fields.append((data[at : at + n], data[at + n : at + n + v]))
        at += n + v
    return fields, at


def decode_head(data: bytes) -> tuple[int, int, Fields, bytes]:
    status, count, length, reason = struct.unpack_from("<HHqI", data)
    fields, at = decode_fields(data, 16 + reason, count)
    return status, length, fields, data[at:]


@dataclass
class Answer:
    """What the worker sent on one stream so far."""

    stream: int
    kinds: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    status: int = 0
    length: int = -1
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    informational: list[tuple[int, Fields]] = field(default_factory=list)
    trailers: Fields | None = None
    files: list[tuple[int, int, int]] = field(default_factory=list)
    credit: int = 0
    ended: bool = False
    busy: bool = False
    done: bool = False
    abort: tuple[int, str] | None = None
    messages: list[str | bytes] = field(default_factory=list)
    close: tuple[int, str] | None = None

    @property
    def over(self) -> bool:
        """The worker is through with the stream."""
        return self.abort is not None or self.done or (self.ended and not self.busy)

    def header(self, name: bytes) -> list[bytes]:
        return [v for n, v in self.fields if n == name]

    def json(self) -> object:
        return json.loads(self.body)


class Worker:
    """A worker process that serves `targets`."""

    def __init__(
        self,
        *targets: str | dict[str, object],
        env: dict[str, str] | None = None,
        python: str = sys.executable,
        credit: int = 262144,
        request_credit: int = 65536,
        file_credit: int = 16,
        exit_timeout: int = 4000,
        automatic_credit: bool = True,
        boot: bool = True,
        transport: str = "shm",
    ) -> None:
        self.timeout = 40.0
        self.automatic_credit = automatic_credit
        self.answers: dict[int, Answer] = {}
        self.logs: list[tuple[int, int, str]] = []
        self.ready: dict[str, object] | None = None
        self.failed: dict[str, object] | None = None
        self.closed = False
        self._slots = 0
        self._descriptors: dict[tuple[int, int], int] = {}
        self._parts: dict[tuple[int, int], bytes] = {}
        self.wire: Wire = SocketWire()
        if transport == "shm" and sys.platform == "linux":
            self.wire.close()
            self.wire = MemoryWire()
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = dict(os.environ, GUADO_LINK=f"{self.wire.spec},{control.fileno()}")
        environ.update(GUADO_PACKAGE=str(PACKAGE), PYTHONFAULTHANDLER="1", **(env or {}))
        self.process = subprocess.Popen(
            [python, "-u", "-c", _bootstrap_line()],
            env=environ,
            pass_fds=(*self.wire.child, control.fileno()),
            stdin=subprocess.DEVNULL,
        )
        control.close()
        if isinstance(self.wire, SocketWire):
            self.wire.theirs.close()
        apps: list[dict[str, object]] = []
        for i, target in enumerate(targets):
            app = {"target": target} if isinstance(target, str) else dict(target)
            apps.append(
                {"name": f"app{i}", "kind": "auto", "factory": False, "lifespan": "auto", **app}
            )
        hello = {
            "protocol": 1,
            "version": "0.1.0",
            "slot": "p01",
            "instance": "test",
            "apps": apps,
            "dir": str(HERE),
            "threads": 2,
            "concurrency": 1000,
            "multiprocess": False,
            "dev": False,
            "request_credit": request_credit,
            "response_credit": credit,
            "file_credit": file_credit,
            "exit_timeout": exit_timeout,
        }
        self.send(HELLO, 0, json.dumps(hello).encode())
        if boot:
            self.until(lambda: self.ready is not None or self.failed is not None)
            assert self.ready is not None, self.failed

    # -- requests

    def request(
        self,
        method: str = "GET",
        path: str | bytes = "/",
        *,
        headers: Fields | None = None,
        body: bytes = b"",
        complete: bool = True,
        length: int | None = None,
        flags: int = 0,
        app: int = 0,
        version: int = 11,
        scheme: str = "http",
        query: bytes = b"",
        raw_path: bytes | None = None,
        root: bytes = b"",
        server: tuple[str, int] = ("127.0.0.1", 8000),
        client: tuple[str, int] = ("127.0.0.1", 50000),
        tls: tuple[int, int] = (0, 0),
    ) -> Answer:
        """Sends a request; `complete` says that `body` is all of it."""
        path = path.encode() if isinstance(path, str) else path
        headers = [(b"host", b"example")] if headers is None else headers
        if length is None:
            length = len(body) if complete else -1
        if length < 0:
            flags |= NO_LENGTH
        if method == "HEAD":
            flags |= HEAD
        payload = struct.pack(
            "<BBHHHqHHHH",
            version,
            0,
            flags,
            app,
            len(headers),
            length,
            tls[0],
            tls[1],
            server[1],
            client[1],
        )
        raw = path if raw_path is None else raw_path
        for value in (
            f"id{self._slots}",
            method,
            scheme,
            path,
            raw,
            query,
            raw + (b"?" + query if query else b""),
            root,
            server[0],
            client[0],
            "",
        ):
            payload += text(value)
        payload += encode_fields(headers) + text(body)
        # Slots come round with the next generation, long after their last use.
        stream = (1 + self._slots // 16000) << 16 | self._slots % 16000
        self._slots += 1
        answer = self.answers[stream] = Answer(stream)
        self.send(REQUEST, stream, payload, flags=END if complete else 0)
        return answer

    def get(self, path: str | bytes, *, method: str = "GET", **options: object) -> Answer:
        """A whole exchange: request, answer, end of the coroutine."""
        answer = self.request(method, path, **options)  # type: ignore[arg-type]
        self.until(lambda: answer.over)
        return answer

    def socket(self, path: str, **options: Any) -> Answer:
        """Asks for a WebSocket."""
        return self.request(path=path, complete=False, length=0, flags=WEBSOCKET, **options)

    def message(self, answer: Answer, data: str | bytes, *, more: bool = False) -> int:
        """Sends a message, or a part of one; what it costs of the credit."""
        raw, kind = (data.encode(), TEXT) if isinstance(data, str) else (data, BINARY)
        self.send(MESSAGE, answer.stream, raw, flags=MORE if more else 0, arg=kind)
        return len(raw) + (0 if more else MESSAGE_COST)

    def disconnect(self, answer: Answer, code: int = 1006, reason: str = "") -> None:
        self.send(DISCONNECT, answer.stream, reason.encode(), flags=END, arg=code)

    def body(self, answer: Answer, data: bytes, *, end: bool = False, cut: bool = False) -> None:
        self.send(BODY, answer.stream, data, flags=END if end or cut else 0, arg=int(cut))

    def cancel(self, answer: Answer, why: int = GONE) -> None:
        self.send(CANCEL, answer.stream, arg=why)

    def credit(self, answer: Answer, n: int) -> None:
        self.send(CREDIT_DOWN, answer.stream, arg=n)

    def drain(self, grace_ms: int = 10000) -> None:
        self.send(DRAIN, 0, arg=grace_ms)

    def signal(self, name: str) -> None:
        """Sets an event of the test application."""
        assert self.get(f"/set/{name}").body == b"set"

    def await_signal(self, name: str) -> None:
        """Waits for an event of the test application."""
        assert self.get(f"/wait/{name}").body == name.encode()

    def signal_http(self) -> None:
        """Any HTTP request: it opens what test/apps/sockets.py waits for."""
        assert self.get("/").body == b"http"

    def seen(self, name: str) -> object:
        """What the test application noted down."""
        return self.get(f"/seen/{name}").json()

    def wait(self, answer: Answer) -> Answer:
        self.until(lambda: answer.over)
        return answer

    # -- frames

    def send(
        self, kind: int, stream: int, payload: bytes = b"", *, flags: int = 0, arg: int = 0
    ) -> None:
        if kind in (REQUEST, TURN):
            self.wire.start(stream)
        while len(payload) > LARGEST:
            assert kind in (REQUEST, TURN, BODY)
            part, payload = payload[:LARGEST], payload[LARGEST:]
            self.wire.send(encode(kind, MORE if kind != BODY else 0, stream, 0, part))
        try:
            self.wire.send(encode(kind, flags, stream, arg, payload))
        except OSError:
            self.closed = True

    def until(self, condition: Callable[[], object], timeout: float | None = None) -> None:
        """Handles frames until the condition holds; fails after the timeout."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"nothing came in time; {self.summary()}"
            assert not self.closed, f"the worker has closed the link; {self.summary()}"
            self.pump(left)

    def quiet(self, condition: Callable[[], object], seconds: float = 0.3) -> bool:
        """Whether the condition still does not hold after `seconds` of handling frames."""
        deadline = time.monotonic() + seconds
        while not condition() and (left := deadline - time.monotonic()) > 0:
            self.pump(left)
        return not condition()

    def summary(self) -> str:
        last = list(self.answers.values())[-3:]
        return f"logs: {self.logs}, last answers: {last}, exit: {self.process.poll()}"

    def pump(self, timeout: float) -> None:
        """Handles what has come, after waiting for something."""
        frame = self.wire.receive()
        if frame is None and not self.closed:
            self._wait(max(timeout, 0))
            frame = self.wire.receive()
        while frame is not None:
            self._frame(frame.kind, frame.flags, frame.stream, frame.arg, frame.payload)
            frame = self.wire.receive()
        while not self.closed and select.select([self._control], [], [], 0)[0]:
            self._take_descriptor()

    def _wait(self, timeout: float) -> None:
        """Sleeps until the link or the control socket has something."""
        wire = self.wire
        if isinstance(wire, SocketWire):
            select.select([wire.mine, self._control], [], [], timeout)
            return
        assert isinstance(wire, MemoryWire)
        wire.set_word(HOST_ASLEEP, 1)
        if wire.cursor(UP_HEAD) == wire.tail:
            readable, _, _ = select.select([wire.to_host, self._control], [], [], timeout)
            if wire.to_host in readable:
                os.eventfd_read(wire.to_host)
        wire.set_word(HOST_ASLEEP, 0)

    def _take_descriptor(self) -> None:
        data, ancillary, _, _ = self._control.recvmsg(64, 256)
        if not data:
            self.closed = True
            return
        _, stream, sequence, _ = struct.unpack("<IIII", data)
        for _, _, raw in ancillary:
            descriptors = array.array("i")
            descriptors.frombytes(raw)
            self._descriptors[stream, sequence] = descriptors[0]

    def descriptor(self, answer: Answer, sequence: int = 0) -> int:
        key = (answer.stream, sequence)
        self.until(lambda: key in self._descriptors)
        return self._descriptors.pop(key)

    def _frame(self, kind: int, flags: int, stream: int, arg: int, payload: bytes) -> None:
        if kind == MESSAGE_UP and self.automatic_credit:
            cost = len(payload) + (0 if flags & MORE else MESSAGE_COST)
            self.send(CREDIT_DOWN, stream, arg=cost)
        if flags & MORE and kind in (COMMIT, LOG, READY, FAILED, MESSAGE_UP):
            self._parts[stream, kind] = self._parts.get((stream, kind), b"") + payload
            return
        payload = self._parts.pop((stream, kind), b"") + payload
        if kind == LOG:
            self.logs.append((stream, arg, payload.decode()))
        elif kind == READY:
            self.ready = json.loads(payload)
        elif kind == FAILED:
            self.failed = json.loads(payload)
        elif stream in self.answers:
            self._answer(self.answers[stream], kind, flags, arg, payload)

    def _answer(self, a: Answer, kind: int, flags: int, arg: int, payload: bytes) -> None:
        assert not a.over, f"a frame of kind {kind:#x} after the last one"
        if kind == STARTED:
            assert not a.kinds, "started late"
            return
        a.kinds.append(kind)
        a.flags.append(flags)
        if kind == COMMIT:
            assert a.status == 0, "two heads"
            a.status, a.length, a.fields, rest = decode_head(payload)
            (n,) = struct.unpack_from("<I", rest)
            assert n == len(rest) - 4
            self._body(a, rest[4:])
        elif kind == RESPONSE_BODY:
            self._body(a, payload)
        elif kind == INFORMATIONAL:
            status, _, fields, _ = decode_head(payload)
            a.informational.append((status, fields))
        elif kind == TRAILERS:
            a.trailers, _ = decode_fields(payload, 2, struct.unpack_from("<H", payload)[0])
        elif kind == FILE:
            a.files.append((arg, *struct.unpack("<QQ", payload)))
        elif kind == CREDIT_UP:
            a.credit += arg
        elif kind == ABORT:
            a.abort = (arg, payload.decode())
        elif kind == DONE:
            a.done = True
        elif kind == MESSAGE_UP:
            a.messages.append(payload.decode() if arg == TEXT else payload)
        elif kind == CLOSE:
            a.close = (arg, payload.decode())
        if flags & END and kind in (COMMIT, RESPONSE_BODY, TRAILERS, FILE, CLOSE):
            a.ended = True
            a.busy = bool(flags & BUSY)

    def _body(self, a: Answer, data: bytes) -> None:
        if data:
            a.chunks.append(data)
            a.body += data
            if self.automatic_credit:
                self.credit(a, len(data))

    # -- life

    def stop(self, grace_ms: int = 10000) -> int:
        """A clean drain; the exit code."""
        self.drain(grace_ms)
        return self.exit()

    def exit(self) -> int:
        """Waits for the end of the process, reading to the last frame; its exit code."""
        deadline = time.monotonic() + self.timeout
        while self.process.poll() is None:
            left = deadline - time.monotonic()
            assert left > 0, f"the worker does not exit; {self.summary()}"
            if self.closed:
                self.process.wait(left)
            else:
                self.pump(left)
        self.pump(0)
        return self.process.wait()

    def leave(self) -> None:
        """The host is gone: every descriptor of its end is closed."""
        self._control.close()
        self.wire.close()

    def errors(self) -> list[str]:
        """Texts of the log at level error."""
        return [line for _, level, line in self.logs if level == 3]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._control.close()
        if isinstance(self.wire, SocketWire):
            self.wire.mine.close()
        for fd in self._descriptors.values():
            os.close(fd)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if isinstance(self.wire, MemoryWire) and not self.wire.map.closed:
            self.wire.close()
