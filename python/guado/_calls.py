"""Calls of this worker to the host, and the thread that waits for their replies.

Before: executors (tasks), _host (what is asked of the host itself). After: guado._core,
which sends CALL and takes REPLY (protocol/link.md, sections 10 and 12). Not here: what a
call means.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import guado
from guado import _waits

if TYPE_CHECKING:
    from guado import _core
    from guado._futures import Future

EXECUTE = 1
HOST = 2
# Reads replies, and runs what waits for them: it can wait for none.
THREAD = "guado-calls"
_CALL = struct.Struct("<HHI")
_REPLY = struct.Struct("<HHI")

# The host refuses more than 4,096 of a worker and 64 MiB of their data. Who asks faster
# than the host answers waits below that.
MOST_CALLS = 2048
MOST_BYTES = 32 << 20

_MOST_MS = 1 << 30  # of one wait in C

# Settles a future with the status, code and data of REPLY; status 0: the link has ended.
Settle = Callable[["Future[Any]", int, str, bytes], None]


class Forked(OSError):
    """This process was forked from a worker and cannot use its link."""

    def __init__(self) -> None:
        super().__init__(
            "this process is a forked child of a worker and has no way to the host; ask in the "
            "worker itself, or run the function on an executor (guado.executor)"
        )


class _Open(NamedTuple):
    future: Future[Any]
    settle: Settle
    cost: int | None  # of its data, where it is counted


class Calls:
    """The calls of this process that wait for their replies."""

    def __init__(self, link: _core.Link) -> None:
        self.link = link
        self.lock = threading.Lock()  # guards all below
        self.room = threading.Condition(self.lock)
        self.crowd = 0  # threads that wait for room
        self.open: dict[int, _Open] = {}
        self.counted = 0
        self.bytes = 0
        self.ended: OSError | None = None
        self.numbers = itertools.count(1)
        self.expected: set[int] = set()  # that threads wait for; the GIL guards it
        threading.Thread(target=self.receive, name=THREAD, daemon=True).start()

    def start(
        self,
        what: int,
        name: str,
        data: bytes,
        future: Future[Any],
        settle: Settle,
        milliseconds: int = 0,
        send: Callable[[int, bytes], None] | None = None,
    ) -> None:
        """Sends a call, or has `send` do it. Those of the host itself wait here while too
        many are under way."""
        number = next(self.numbers) & 0xFFFFFFFF
        words = name.encode()
        payload = b"".join((_CALL.pack(what, len(words), milliseconds), words, data))
        future._forget = lambda: self.forget(number)
        future._read = functools.partial(self.read, number)
        try:
            self.enter(number, _Open(future, settle, len(data) if what == HOST else None))
            (send or self.link.call)(number, payload)
        except BaseException:
            self.take(number)
            raise

    def enter(self, number: int, one: _Open) -> None:
        with self.lock:
            if one.cost is None or self.fits(one.cost):
                self.add(number, one)
                return
        with _waits.woken_by(self.wake), self.lock:
            self.crowd += 1
            try:
                while not self.fits(one.cost):
                    self.room.wait()
            finally:
                self.crowd -= 1
            self.add(number, one)

    def add(self, number: int, one: _Open) -> None:
        if self.ended is not None:
            raise OSError(str(self.ended))
        if one.cost is not None:
            self.counted += 1
            self.bytes += one.cost
        self.open[number] = one

    def fits(self, cost: int) -> bool:
        if self.counted == 0 or self.ended is not None:
            return True  # whatever its size; and where all has ended it is refused
        return self.counted < MOST_CALLS and self.bytes + cost <= MOST_BYTES

    def wake(self) -> None:
        with self.lock:
            self.room.notify_all()

    def take(self, number: int) -> _Open | None:
        """What has this number, which from now on is nobody's."""
        with self.lock:
            one = self.open.pop(number, None)
            if one is not None and one.cost is not None:
                self.counted -= 1
                self.bytes -= one.cost
                if self.crowd:
                    self.room.notify()
        return one

    def forget(self, number: int) -> bool:
        known = self.take(number)
        if known is not None:
            self.link.call_cancel(number)
        self.wake_asker(number)
        return known is not None

    def receive(self) -> None:
        """The thread that waits for replies."""
        try:
            while True:
                for number, reply in self.link.replies():
                    self.settle(number, reply)
        except OSError as error:  # the link is closed: the host is gone, or a test ends
            self.fail(error)
        except BaseException as error:
            # Nobody reads replies any more: whoever waits must hear it, and so must the log.
            self.fail(OSError(f"the replies of the host are no longer read: {error!r}"))
            raise

    def settle(self, number: int, reply: bytes) -> None:
        one = self.take(number)
        if one is not None:
            status, length, _ = _REPLY.unpack_from(reply)
            code = reply[_REPLY.size : _REPLY.size + length].decode("utf-8", "replace")
            one.settle(one.future, status, code, reply[_REPLY.size + length :])
        self.wake_asker(number)

    def wake_asker(self, number: int) -> None:
        """The future may be settled: by who was faster than the thread that waits."""
        if number in self.expected:
            self.link.expected_wake(number)

    def read(self, number: int, future: Future[Any], end: float | None) -> None:
        """This thread waits for nothing else, so it reads the link, where nobody does, until the
        reply has come, and settles it. A callback of the event loop has to: its thread is the
        one that reads, and nobody would bring the reply."""
        # First what others look at, then whether they were faster: so no wake-up is missed.
        self.expected.add(number)
        try:
            if self.link.expect(number):
                try:
                    self.read_until(number, future, end)
                finally:
                    self.link.expected_end(number)
        except OSError:
            pass  # the link is closed: the thread that waits for all settles them all
        finally:
            self.expected.discard(number)

    def read_until(self, number: int, future: Future[Any], end: float | None) -> None:
        with _waits.woken_by(lambda: self.link.expected_wake(number)):
            while not future.done():
                left = -1
                if end is not None:
                    left = min(math.ceil((end - time.monotonic()) * 1000), _MOST_MS)
                    if left <= 0:
                        return
                reply = self.link.expected(number, left)
                if reply is not None:
                    self.settle(number, reply)

    def fail(self, error: OSError) -> None:
        with self.lock:
            self.ended = error
            left = list(self.open.values())
            self.open.clear()
            self.room.notify_all()
        for one in left:
            one.settle(one.future, 0, "link_closed", str(error).encode())


_lock = threading.Lock()  # guards _shared
_shared: Calls | None = None


def shared() -> Calls:
    """The calls of this worker, by its executors and by all else."""
    global _shared
    worker = guado._worker
    assert worker is not None
    if worker.pid != os.getpid():
        raise Forked()
    calls = _shared
    if calls is None or calls.link is not worker.link:
        with _lock:
            calls = _shared
            if calls is None or calls.link is not worker.link:
                calls = _shared = Calls(worker.link)
    return calls
