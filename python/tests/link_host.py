"""The host's end of the link in Python, for tests of the worker: an implementation of
protocol/link.md that shares no code with the Go and C ones, over both transports.

It never sleeps: it waits on descriptors with a deadline.
"""

from __future__ import annotations

import array
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 40.0

HELLO, REQUEST, BODY, CANCEL, INTERRUPT, CREDIT, DRAIN, PING = 1, 2, 3, 4, 5, 13, 14, 15
REPLY, RESTORE, RELEASE, GLOBAL, TURN, APPLY = range(0x10, 0x16)
TURNS = ("open", "message", "request", "snapshot", "close", "event", "on", "http", "write")
READY, COMMIT, STARTED, INFORMATIONAL, RESPONSE_BODY, TRAILERS, FILE = range(0x41, 0x48)
CREDIT_UP, PONG, LOG, STATS, FAILED, ABORT, DONE = 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E
PAD = 0x7F
END, MORE, BUSY = 1, 2, 4

FREE, QUEUED, STATE_STARTED, REVOKED = 0, 1, 2, 3
READER_ASLEEP, HOST_ASLEEP, WATCH_PARKED, WORKER_WANTS, HOST_WANTS = 320, 384, 448, 512, 576
DOWN_HEAD, DOWN_TAIL, UP_HEAD, UP_TAIL = 64, 128, 192, 256
DATA_AT = 4096

Fields = Sequence[tuple[bytes, bytes]]


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    arg: int
    payload: bytes


def encode(kind: int, flags: int, stream: int, arg: int, payload: bytes) -> bytes:
    head = struct.pack("<IBBHII", 16 + len(payload), kind, flags, 0, stream, arg)
    return head + payload + b"\0" * (-len(payload) % 8)


def text(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


def fields(values: Fields) -> bytes:
    return b"".join(struct.pack("<HHI", len(n), 0, len(v)) + n + v for n, v in values)


def request(
    *,
    version: int = 11,
    flags: int = 0,
    app: int = 0,
    length: int = 0,
    tls: tuple[int, int] = (0, 0),
    ports: tuple[int, int] = (8000, 40000),
    id: bytes = b"req-1",
    method: bytes = b"GET",
    scheme: bytes = b"http",
    path: bytes = b"/",
    query: bytes = b"",
    root: bytes = b"",
    server: bytes = b"127.0.0.1",
    client: bytes = b"127.0.0.1",
    traceparent: bytes = b"",
    headers: Fields = (),
    body: bytes = b"",
) -> bytes:
    target = path + (b"?" + query if query else b"")
    return (
        struct.pack("<BBHHHqHHHH", version, 0, flags, app, len(headers), length, *tls, *ports)
        + b"".join(
            map(
                text,
                (id, method, scheme, path, path, query, target, root, server, client, traceparent),
            )
        )
        + fields(headers)
        + text(body)
    )


class Wire:
    """Bytes of frames both ways."""

    spec: str
    child: tuple[int, ...]

    def send(self, frame: bytes) -> None:
        raise NotImplementedError

    def receive(self) -> Frame | None:
        raise NotImplementedError

    def wait(self, seconds: float) -> None:
        raise NotImplementedError

    def start(self, stream: int) -> None:
        """Before REQUEST: marks the slot as queued."""

    def close(self) -> None:
        raise NotImplementedError


class SocketWire(Wire):
    def __init__(self) -> None:
        self.mine, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.spec = f"socket:{self.theirs.fileno()}"
        self.child = (self.theirs.fileno(),)
        self.buffer = b""
        self.eof = False

    def send(self, frame: bytes) -> None:
        self.mine.sendall(frame)

    def receive(self) -> Frame | None:
        while len(self.buffer) < 16 or len(self.buffer) < self._size():
            try:
                data = self.mine.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                data = b""
            if not data:
                self.eof = True
                return None
            self.buffer += data
        n, kind, flags, zero, stream, arg = struct.unpack_from("<IBBHII", self.buffer)
        assert zero == 0
        payload, self.buffer = self.buffer[16:n], self.buffer[self._size() :]
        return Frame(kind, flags, stream, arg, payload)

    def _size(self) -> int:
        n: int = struct.unpack_from("<I", self.buffer)[0]
        return n + -n % 8

    def wait(self, seconds: float) -> None:
        select.select([self.mine], [], [], seconds)

    def close(self) -> None:
        self.mine.close()
        self.theirs.close()


class MemoryWire(Wire):
    """A sealed memfd, two rings, three eventfds (protocol/link.md, section 7)."""

    def __init__(self, ring: int = 1 << 20, slots: int = 16384) -> None:
        self.ring, self.slots = ring, slots
        size = DATA_AT + 4 * slots + 2 * ring
        self.memfd = os.memfd_create("guado", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.posix_fallocate(self.memfd, 0, size)
        fcntl.fcntl(
            self.memfd,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
        )
        self.map = mmap.mmap(self.memfd, size)
        # Whole machine words: struct moves bytes one by one, and zeroes them first.
        self.words = memoryview(self.map).cast("I")
        self.longs = memoryview(self.map).cast("Q")
        struct.pack_into("<QIIII", self.map, 0, 0x4B4E4C4F44415547, 1, ring, slots, 0)
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self.to_worker, self.to_host, self.to_watch = (os.eventfd(0, flags) for _ in range(3))
        self.child = (self.memfd, self.to_worker, self.to_host, self.to_watch)
        self.spec = "shm:" + ",".join(map(str, self.child))
        self.down = DATA_AT + 4 * slots
        self.up = self.down + ring
        self.head = self.tail = 0

    def word(self, at: int) -> int:
        return self.words[at // 4]

    def set_word(self, at: int, value: int) -> None:
        self.words[at // 4] = value

    def cursor(self, at: int) -> int:
        return self.longs[at // 8]

    def start(self, stream: int) -> None:
        self.set_word(DATA_AT + 4 * (stream & 0xFFFF), stream & 0xFFFF0000 | QUEUED)

    def state(self, stream: int) -> int:
        return self.word(DATA_AT + 4 * (stream & 0xFFFF)) & 0xFFFF

    def send(self, frame: bytes) -> None:
        """Publishes one frame, waiting for room."""
        left = self.ring - self.head % self.ring
        if len(frame) > left:
            self._room(left)
            if left >= 16:
                at = self.down + self.head % self.ring
                self.map[at : at + 16] = struct.pack("<IBBHII", left, PAD, 0, 0, 0, 0)
            self.head += left
        self._room(len(frame))
        at = self.down + self.head % self.ring
        self.map[at : at + len(frame)] = frame
        self.head += len(frame)
        self.publish()

    def _room(self, need: int) -> None:
        deadline = time.monotonic() + TIMEOUT
        while self.ring - (self.head - self.cursor(DOWN_TAIL)) < need:
            self.set_word(HOST_WANTS, 1)
            if self.ring - (self.head - self.cursor(DOWN_TAIL)) >= need:
                return
            assert time.monotonic() < deadline, "the worker does not read"
            self._sleep(TIMEOUT)

    def publish(self) -> None:
        self.longs[DOWN_HEAD // 8] = self.head
        if self.word(READER_ASLEEP) == 1:
            self.set_word(READER_ASLEEP, 0)
            os.eventfd_write(self.to_worker, 1)
        elif self.word(WATCH_PARKED) == 1:
            self.set_word(WATCH_PARKED, 0)
            os.eventfd_write(self.to_watch, 1)

    def receive(self) -> Frame | None:
        while True:
            there = self.cursor(UP_HEAD) - self.tail
            assert there % 8 == 0
            assert 0 <= there <= self.ring
            if there == 0:
                return None
            left = self.ring - self.tail % self.ring
            at = self.up + self.tail % self.ring
            if left < 16:
                self._advance(left)
                continue
            n, kind, flags, zero, stream, arg = struct.unpack_from("<IBBHII", self.map, at)
            assert zero == 0
            assert n >= 16
            if kind == PAD:
                assert n == left
                self._advance(left)
                continue
            assert n <= self.ring // 8
            assert n + -n % 8 <= min(left, there)
            assert not any(self.map[at + n : at + n + -n % 8])
            payload = self.map[at + 16 : at + n]
            self._advance(n + -n % 8)
            return Frame(kind, flags, stream, arg, payload)

    def _advance(self, n: int) -> None:
        self.tail += n
        self.longs[UP_TAIL // 8] = self.tail
        if self.word(WORKER_WANTS) == 1:
            self.set_word(WORKER_WANTS, 0)
            os.eventfd_write(self.to_worker, 1)

    def wait(self, seconds: float) -> None:
        self.set_word(HOST_ASLEEP, 1)
        if self.cursor(UP_HEAD) == self.tail:
            self._sleep(seconds)
        self.set_word(HOST_ASLEEP, 0)

    def _sleep(self, seconds: float) -> None:
        if select.select([self.to_host], [], [], seconds)[0]:
            os.eventfd_read(self.to_host)

    def close(self) -> None:
        self.words.release()
        self.longs.release()
        self.map.close()
        for descriptor in self.child:
            os.close(descriptor)


@dataclass
class Answer:
    """What came back on one stream."""

    frames: list[Frame] = field(default_factory=list)
    status: int = 0
    length: int = -1
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    over: bool = False
    abort: tuple[int, str] | None = None

    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.frames]


def decode_head(payload: bytes) -> tuple[int, int, list[tuple[bytes, bytes]], bytes]:
    status, count, length, n = struct.unpack_from("<HHqI", payload)
    at = 16 + n
    found = []
    for _ in range(count):
        name, zero, value = struct.unpack_from("<HHI", payload, at)
        assert zero == 0
        at += 8
        found.append((payload[at : at + name], payload[at + name : at + name + value]))
        at += name + value
    return status, length, found, payload[at:]


class Host:
    """A worker process and the host's end of its link."""

    def __init__(
        self,
        *targets: str | dict[str, object],
        transport: str = "shm",
        python: str = sys.executable,
        env: dict[str, str] | None = None,
        directory: Path | None = None,
        argv: Sequence[str] | None = None,
        hello: dict[str, object] | None = None,
        say_hello: bool = True,
        ring: int = 1 << 20,
    ) -> None:
        self.wire: Wire = MemoryWire(ring) if transport == "shm" else SocketWire()
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.answers: dict[int, Answer] = {}
        self.heads: dict[int, bytes] = {}
        self.other: list[Frame] = []
        self.generation: dict[int, int] = {}
        self.order: list[int] = []  # the stream of each frame
        self.directory = directory or Path(__file__).parent
        environ = dict(os.environ)
        environ.update(
            GUADO_LINK=f"{self.wire.spec},{control.fileno()}",
            GUADO_PACKAGE=str(ROOT),
            PYTHONFAULTHANDLER="1",
        )
        environ.update(env or {})
        sys.path.insert(0, str(ROOT))
        from guado._bootstrap import LINE

        self.process = subprocess.Popen(
            list(argv) if argv else [python, "-u", "-c", LINE],
            env=environ,
            cwd=self.directory,
            pass_fds=(*self.wire.child, control.fileno()),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        control.close()
        if isinstance(self.wire, SocketWire):
            self.wire.theirs.close()
        self.hello = {
            "protocol": 1,
            "version": "0.1.0",
            "slot": "p01",
            "instance": "test",
            "apps": [
                {"name": f"app{i}", "kind": "auto", "factory": False, "lifespan": "auto"}
                | ({"target": t} if isinstance(t, str) else t)
                for i, t in enumerate(targets)
            ],
            "dir": str(self.directory),
            "threads": 2,
            "concurrency": 1000,
            "multiprocess": False,
            "dev": False,
            "request_credit": 65536,
            "response_credit": 262144,
            "file_credit": 16,
            "exit_timeout": 4000,
        } | (hello or {})
        self.credit_back = True
        if say_hello:
            self.send(HELLO, 0, json.dumps(self.hello).encode())

    # -- frames

    def send(
        self, kind: int, stream: int = 0, payload: bytes = b"", flags: int = 0, arg: int = 0
    ) -> None:
        self.wire.send(encode(kind, flags, stream, arg, payload))

    def pump(self) -> bool:
        """Files what has arrived; false when nothing had."""
        frame = self.wire.receive()
        if frame is None:
            return False
        while frame is not None:
            self._file(frame)
            frame = self.wire.receive()
        return True

    def until(self, done: Callable[[], object], timeout: float = TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            if self.pump():
                continue
            left = deadline - time.monotonic()
            if left <= 0 or (self.process.poll() is not None and not self.pump()):
                raise AssertionError(f"waited in vain; exit {self.process.poll()}; {self.state()}")
            self.wire.wait(min(left, 0.25))

    def state(self) -> str:
        dead = self.process.poll() is not None
        return f"{self.answers} {self.other} {self.errors() if dead else ''}"

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode(errors="replace")

    def _file(self, frame: Frame) -> None:
        if frame.stream == 0 or frame.kind == LOG:
            self.other.append(frame)
            return
        self.order.append(frame.stream)
        answer = self.answers.setdefault(frame.stream, Answer())
        answer.frames.append(frame)
        if frame.kind == COMMIT:
            payload = self.heads.pop(frame.stream, b"") + frame.payload
            if frame.flags & MORE:
                self.heads[frame.stream] = payload
                return
            answer.status, answer.length, answer.headers, rest = decode_head(payload)
            (n,) = struct.unpack_from("<I", rest)
            assert n == len(rest) - 4
            self._body(frame.stream, answer, rest[4:])
        elif frame.kind == RESPONSE_BODY:
            self._body(frame.stream, answer, frame.payload)
        elif frame.kind == ABORT:
            answer.abort = (frame.arg, frame.payload.decode())
        answer.ended |= bool(frame.flags & END)
        answer.over |= frame.kind in (ABORT, DONE) or frame.flags & (END | BUSY) == END

    def _body(self, stream: int, answer: Answer, data: bytes) -> None:
        answer.body += data
        if data and self.credit_back:
            self.send(CREDIT, stream, arg=len(data))

    # -- exchanges

    def stream(self, slot: int = 0) -> int:
        self.generation[slot] = self.generation.get(slot, 0) + 1
        return self.generation[slot] << 16 | slot

    def request(self, slot: int = 0, *, flags: int = END, **what: object) -> int:
        """Sends REQUEST on a new stream of the slot and gives the stream."""
        stream = self.stream(slot)
        self.wire.start(stream)
        payload = request(**what)  # type: ignore[arg-type]
        most = 131072 - 16
        while len(payload) > most:
            self.send(REQUEST, stream, payload[:most], MORE)
            payload = payload[most:]
        self.send(REQUEST, stream, payload, flags)
        return stream

    def answer(self, stream: int) -> Answer:
        """Waits for the end of the exchange."""
        self.until(lambda: stream in self.answers and self.answers[stream].over)
        return self.answers[stream]

    def get(self, path: bytes = b"/", **what: object) -> Answer:
        return self.answer(self.request(path=path, **what))

    def message(self, kind: int) -> dict[str, object]:
        """Waits for READY or FAILED."""

        def whole() -> bool:
            return any(f.kind == kind and not f.flags & MORE for f in self.other)

        self.until(whole)
        data = b"".join(f.payload for f in self.other if f.kind == kind)
        message: dict[str, object] = json.loads(data)
        return message

    def ready(self) -> dict[str, object]:
        self.until(
            lambda: any(f.kind in (READY, FAILED) and not f.flags & MORE for f in self.other)
        )
        assert not any(f.kind == FAILED for f in self.other), self.message(FAILED)
        return self.message(READY)

    def descriptor(self) -> tuple[int, int, int]:
        """Receives one descriptor: stream, sequence, number."""
        if not select.select([self.control], [], [], TIMEOUT)[0]:
            raise AssertionError("no descriptor came")
        data, ancillary, _, _ = self.control.recvmsg(64, socket.CMSG_SPACE(4))
        numbers = array.array("i")
        for level, kind, value in ancillary:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            numbers.frombytes(value)
        magic, stream, sequence, zero = struct.unpack("<IIII", data)
        assert (magic, zero, len(numbers)) == (0x47444644, 0, 1)
        return stream, sequence, numbers[0]

    def drain(self, grace_ms: int = 5000) -> int:
        """Sends DRAIN and waits for the process to end; its exit code."""
        self.send(DRAIN, arg=grace_ms)
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "the worker does not end"
            if not self.pump():
                self.wire.wait(0.02)
        self.pump()
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.control.close()
        self.wire.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.process.kill()
            sys.stderr.write(self.errors())
        self.close()
