"""Executors outside a worker, and what travels between the two sides."""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import guado
from guado import _tasks, executors


def double(n: int, *, plus: int = 0) -> int:
    return 2 * n + plus


def wrong() -> None:
    raise LookupError("no such thing")


def odd() -> None:
    raise Unreadable(1, 2)


def thread_name() -> str:
    return threading.current_thread().name


class Unreadable(Exception):
    """Can be pickled, and cannot be read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("one argument")


def test_outside_a_worker_tasks_run_in_a_thread_of_this_process() -> None:
    cpu = guado.executor("any name")
    assert cpu.submit(double, 4, plus=1).result(60) == 9
    assert list(cpu.map(double, [1, 2, 3])) == [2, 4, 6]
    assert cpu.submit(thread_name).result(60).startswith("guado-any name")


def test_a_task_can_be_awaited() -> None:
    async def main() -> list[int]:
        cpu = guado.executor("cpu")
        return await asyncio.gather(*(cpu.submit(double, n) for n in range(3)))

    assert asyncio.run(main()) == [0, 2, 4]


def test_what_a_function_raises_has_the_other_traceback_as_its_cause() -> None:
    with pytest.raises(LookupError, match="no such thing") as caught:
        guado.executor("cpu").submit(wrong).result(60)
    assert isinstance(caught.value.__cause__, _tasks.RemoteTraceback)
    assert "in wrong" in str(caught.value.__cause__)


def test_an_exception_that_cannot_travel_is_named() -> None:
    with pytest.raises(RuntimeError, match="Unreadable: one argument"):
        guado.executor("cpu").submit(odd).result(60)


def test_a_function_that_cannot_be_imported_is_refused_at_submit() -> None:
    def inner() -> None: ...

    for function in (inner, lambda: None):
        with pytest.raises(TypeError, match="define it with def at the top of a module"):
            guado.executor("cpu").submit(function)
    with pytest.raises(TypeError, match="cannot be pickled"):
        guado.executor("cpu").submit(double, threading.Lock())


def test_a_result_that_cannot_be_pickled_is_an_error_of_the_task() -> None:
    with pytest.raises(TypeError, match="returned cannot be pickled"):
        guado.executor("cpu").submit(threading.Lock).result(60)


class FakeLink:
    """Keeps what was called; replies come from the test."""

    def __init__(self) -> None:
        self.called: list[tuple[int, bytes]] = []
        self.cancelled: list[int] = []
        self.waiting: list[tuple[int, bytes]] = []
        self.news = threading.Condition()
        self.closed = False

    def call(self, number: int, data: bytes) -> None:
        self.called.append((number, data))

    def expect(self, number: int) -> bool:
        return False

    def call_cancel(self, number: int) -> None:
        self.cancelled.append(number)

    def replies(self) -> list[tuple[int, bytes]]:
        with self.news:
            self.news.wait_for(lambda: self.waiting or self.closed)
            if self.closed:
                raise OSError("the link is closed")
            came, self.waiting = self.waiting, []
            return came

    def answer(self, number: int, status: int, code: str, data: bytes) -> None:
        self.send(number, struct.pack("<HHI", status, len(code), 0) + code.encode() + data)

    def send(self, number: int, reply: bytes) -> None:
        with self.news:
            self.waiting.append((number, reply))
            self.news.notify()

    def close(self) -> None:
        with self.news:
            self.closed = True
            self.news.notify()


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = FakeLink()
    worker = guado._Worker(fake, {"cpu": False, "here": True})  # type: ignore[arg-type]
    monkeypatch.setattr(guado, "_worker", worker)
    monkeypatch.setattr(executors, "_here", executors._Here())
    yield fake
    fake.close()


def test_a_call_is_what_the_protocol_says(link: FakeLink) -> None:
    guado.executor("cpu", timeout=1.5).submit(double, 1)
    ((number, data),) = link.called
    assert number == 1
    assert data[:11] == struct.pack("<HHI", 1, 3, 1500) + b"cpu"
    assert pickle.loads(data[11:]) == (double, (1,), {})


def vector(name: str) -> bytes:
    """The payload of a golden frame (protocol/vectors)."""
    text = Path(__file__).resolve().parents[2].joinpath("protocol/vectors/frames.txt").read_text()
    block = text.split(f"frame {name}\n", 1)[1].split("\nend", 1)[0]
    words = dict(line.split(" ", 1) for line in block.splitlines())
    return bytes.fromhex(words["frame"])[16 : int(words["size"])]


def test_calls_and_replies_are_those_of_the_golden_vectors(
    link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tasks, "dump", lambda *_: b"PICKLE")
    monkeypatch.setattr(_tasks, "load_outcome", lambda data: (data, None))
    cpu = guado.executor("cpu", timeout=1.5)
    good, refused = cpu.submit(double, 1), cpu.submit(double, 1)
    assert link.called[0][1] == vector("call")
    link.send(1, vector("reply"))
    assert good.result(60) == b"PICKLE"
    link.send(2, vector("reply-refused"))
    with pytest.raises(guado.QueueFull, match="all processes work"):
        refused.result(60)


def test_replies_settle_their_tasks_in_any_order(link: FakeLink) -> None:
    cpu = guado.executor("cpu")
    first, second = cpu.submit(double, 1), cpu.submit(double, 2)
    link.answer(2, 200, "", pickle.dumps((4, None, "")))
    assert second.result(60) == 4
    assert not first.done()
    link.answer(1, 200, "", pickle.dumps((2, None, "")))
    assert first.result(60) == 2


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (503, "queue_full", guado.QueueFull),
        (504, "deadline", TimeoutError),
        (502, "worker_died", guado.ProcessDied),
        (404, "unknown_executor", LookupError),
        (500, "something_new", guado.ExecutorError),
    ],
)
def test_a_refusal_is_an_exception_of_its_own(
    link: FakeLink, status: int, code: str, error: type[Exception]
) -> None:
    task = guado.executor("cpu").submit(double, 1)
    link.answer(1, status, code, b"in words")
    with pytest.raises(error, match="in words") as caught:
        task.result(60)
    assert isinstance(caught.value, guado.ExecutorError)
    assert caught.value.code == code


def test_a_cancelled_task_is_taken_back_and_its_late_reply_is_nobodys(link: FakeLink) -> None:
    cpu = guado.executor("cpu")
    task, other = cpu.submit(double, 1), cpu.submit(double, 2)
    assert task.cancel()
    assert task.cancel()
    assert link.cancelled == [1]
    assert concurrent.futures.wait([task], 60).done == {task}
    link.answer(1, 200, "", pickle.dumps((2, None, "")))
    link.answer(2, 200, "", pickle.dumps((4, None, "")))
    assert other.result(60) == 4
    assert not other.cancel()


def test_a_coroutine_that_ends_takes_back_what_it_awaits(link: FakeLink) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(guado.executor("cpu").submit(double, 1), 0.01)

    asyncio.run(main())
    assert link.cancelled == [1]


def test_tasks_fail_when_the_link_ends(link: FakeLink) -> None:
    task = guado.executor("cpu").submit(double, 1)
    link.close()
    with pytest.raises(guado.ExecutorError, match="the link is closed"):
        task.result(60)


def test_a_bypassed_executor_does_not_call(link: FakeLink) -> None:
    assert guado.executor("here").submit(double, 3).result(60) == 6
    assert not link.called


def test_a_name_that_nobody_configured_is_refused_at_once(link: FakeLink) -> None:
    with pytest.raises(guado.UnknownExecutor, match="did you mean 'cpu'"):
        guado.executor("cpi")
    with pytest.raises(ValueError, match="more than 0"):
        guado.executor("cpu", timeout=0).submit(double, 1)


def test_a_name_that_the_package_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'executer'"):
        _ = guado.executer  # type: ignore[attr-defined]
