"""The global store in a worker: its copy, and what it asks of the host."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import random
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_host import HELLO, MORE
from guado import _records, _replica, _values
from push_host import PushWorker, Refused

GLOBAL = 0x13
WAYS = ["wsgi--shm", "asgi-asyncio-socket"]
UPDATE, SNAPSHOT = 0, 1


def message(number: int, what: int, *records: bytes) -> bytes:
    return struct.pack("<QB7x", number, what) + b"".join(records)


def put(path: str, value: Any) -> bytes:
    return _records.leaf(_records.path_bytes(path.split(".")), _values.encode(value))


def gone(path: str) -> bytes:
    return _records.delete(_records.path_bytes(path.split(".")))


class GlobalWorker(PushWorker):
    """A worker of phase 4, which gets a snapshot behind HELLO."""

    def __init__(self, way: str, phase: int = 4) -> None:
        self.number = 3
        super().__init__(way, "global_apps", phase=phase)
        self.verbs |= {
            "global.set": self.set,
            "global.delete": lambda _: {"deleted": True, "number": self.number},
        }

    def send(
        self, kind: int, stream: int, payload: bytes = b"", *, flags: int = 0, arg: int = 0
    ) -> None:
        super().send(kind, stream, payload, flags=flags, arg=arg)
        if kind == HELLO and self.phase >= 4:
            dotted = _records.leaf(_records.path_bytes(("a", "x.y")), b"null")
            self.update(message(3, SNAPSHOT, put("a.b", 1), dotted, put("list", [1])))

    def update(self, text: bytes, part: int = 60_000) -> None:
        while len(text) > part:
            self.send(GLOBAL, 0, text[:part], flags=MORE)
            text = text[part:]
        self.send(GLOBAL, 0, text)

    def change(self, *records: bytes, part: int = 60_000) -> int:
        self.number += 1
        self.update(message(self.number, UPDATE, *records), part)
        return self.number

    def set(self, data: Any) -> Any:
        path = _records.path_bytes(data["path"])
        return {"number": self.change(_records.leaf(path, _values.encode(data["value"])))}


@pytest.fixture(params=WAYS)
def worker(request: pytest.FixtureRequest) -> Iterator[GlobalWorker]:
    with GlobalWorker(request.param) as worker:
        yield worker
        assert worker.stop() == 0


def test_the_copy_is_there_at_import_and_true_before_each_request(worker: GlobalWorker) -> None:
    first = {"a": {"b": 1, "x.y": None}, "list": [1]}
    assert worker.run("/imported") == [[[k, v] for k, v in first.items()]]
    assert worker.run("/shape") == [["a", "list"], 2, True, True, ["b", "x.y"]]
    assert worker.run("/missing")[0] == "KeyError"
    for n in range(50):
        worker.change(put("a.b", n))
        assert worker.run("/get") == n
    large = ["x" * 1000, {"é": n}] * 100
    worker.change(put("large", large), gone("a.x.y"), part=1000)  # no such key: nothing
    assert worker.run("/all") == {"a": {"b": 49, "x.y": None}, "list": [1], "large": large}
    worker.change(_records.clear(_records.path_bytes(["a"])))
    assert worker.run("/get") == "none"
    worker.change(_records.clear(b"\0"), put("only", 1))
    assert worker.run("/all") == {"only": 1}
    worker.update(message(9000, SNAPSHOT, put("a.b", "anew")))
    assert worker.run("/all") == {"a": {"b": "anew"}}


def test_what_a_read_gives_is_the_readers_own(worker: GlobalWorker) -> None:
    assert worker.run("/owned") == [[1], {"b": 1, "x.y": None}]


def test_a_read_waits_for_what_its_thread_has_written(worker: GlobalWorker) -> None:
    worker.verbs["global.set"] = None
    answer = worker.call("/unawaited")
    worker.until(lambda: bool(worker.held))
    one = worker.held[0]
    assert one.data == {"path": ["a", "b"], "value": 5, "ttl_ms": 1500}
    assert not answer.ended
    worker.reply(one, worker.set(one.data))
    worker.wait(answer)
    assert answer.json() == 5
    worker.verbs["global.set"] = worker.set
    assert worker.run("/callback") == [5]
    if worker.kind == "asgi":
        assert worker.run("/await/set") == [worker.number, 7, 7]


def test_writes_say_what_they_mean(worker: GlobalWorker) -> None:
    worker.verbs |= {
        "global.get": lambda _: {"found": True, "value": {"$tuple": [1]}, "number": 1},
        "global.compare": lambda _: {"swapped": False, "number": 1},
        "global.add": lambda _: {"value": {"$int": "0x1000000000000000"}, "number": 1},
        "global.default": lambda _: {"made": False, "value": {"$bytes": "eA=="}, "number": 1},
    }
    assert worker.run("/fresh") == [1]
    assert worker.run("/swap") is False
    assert worker.run("/add") == 2**60
    assert worker.run("/setdefault") == "b'x'"
    assert worker.run("/clear") is None
    assert worker.run("/del") is None
    swap = {"path": ["a", "b"], "new": {"n": {"$tuple": [1, 2]}}, "ttl_ms": 2000}
    assert worker.of("global.compare") == [swap]
    assert worker.of("global.add") == [{"path": ["n"], "by": str(2**60)}]
    assert worker.of("global.default") == [{"path": ["a", "b"], "value": {"$bytes": "eA=="}}]
    assert worker.of("global.delete") == [{"path": []}, {"path": ["a", "x.y"]}]

    def full(_: Any) -> Any:
        raise Refused(507, "global_full", "no room")

    worker.verbs["global.compare"] = full
    assert worker.run("/swap") == ["GlobalFull", "no room", "global_full"]


def test_listeners_hear_what_they_asked_for_in_order(worker: GlobalWorker) -> None:
    assert worker.run("/listen") == [True, {"b": 1, "x.y": None}]
    for n in range(100):
        worker.change(put("a.b", n), put("other", n))
    worker.change(gone("a"))
    worker.change(put("stop", 1))
    heard = worker.run("/heard")
    assert heard[:100] == [[["a", "b"], n, False] for n in range(100)]
    assert heard[100:] == [[["a"], None, True], [["stop"], 1, False]]


def test_updates_that_nobody_reads_are_applied_all_the_same(worker: GlobalWorker) -> None:
    before = worker.run("/applied")
    for _ in range(5000):
        worker.change(put("a.b", 1))
    deadline = time.monotonic() + 60
    while worker.run("/applied") < before + 4096:
        assert time.monotonic() < deadline


def test_a_forked_child_is_told_that_its_copy_is_not_kept(worker: GlobalWorker) -> None:
    assert worker.run("/fork") == "['HostError', 'HostError']"


def test_below_phase_4_there_is_none() -> None:
    with GlobalWorker("wsgi--shm", phase=3) as worker:
        name, text, code = worker.run("/get")
        assert (name, code) == ("PhaseError", "phase")
        assert "phase = 4" in text


class Feed:
    """Gives updates as a link does: whole, in order, once."""

    def __init__(self, updates: Iterator[bytes]) -> None:
        self.source = updates
        self.over = threading.Event()

    def updates(self, into: list[bytes]) -> None:
        into.extend(itertools.islice(self.source, 3))

    def updates_wait(self) -> None:
        self.over.wait()
        raise OSError("closed")


class Interrupt(BaseException):
    pass


def test_an_interrupt_in_the_middle_of_an_update_loses_nothing() -> None:
    generator = random.Random(7)
    made: list[bytes] = []
    for n in range(1, 6001):
        place = f"a.k{generator.randrange(9)}"
        if generator.randrange(4) == 0:
            one = gone(place)
        else:
            one = put(f"{place}.v", n)
            if generator.randrange(2):
                one = _records.clear(_records.path_bytes(place.split("."))) + one
        made.append(message(n, UPDATE, one, put("last", n)))
    feed = Feed(iter(made))
    replica = _replica.Replica(feed)  # type: ignore[arg-type]
    interrupted = itertools.count()

    def read() -> None:
        while replica.number < len(made):
            try:
                with contextlib.suppress(KeyError):
                    replica.get(("last",))
            except Interrupt:
                next(interrupted)

    def reader() -> None:
        while True:
            try:
                read()
                return
            except Interrupt:  # behind the inner one
                pass

    thread = threading.Thread(target=reader)
    thread.start()
    while thread.is_alive() and next(interrupted) < 10**9:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupt)
        )
        time.sleep(0.0003)
    thread.join()
    plain = _replica.Replica(Feed(iter(made)))  # type: ignore[arg-type]
    while plain.number < len(made):
        plain.get(("last",))
    assert next(interrupted) > 10
    assert _replica.value_of(replica.root) == _replica.value_of(plain.root)
    assert not replica.lock.locked()
    for one in (replica, plain):
        one.link.over.set()  # type: ignore[attr-defined]
