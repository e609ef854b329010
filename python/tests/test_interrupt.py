"""INTERRUPT: what becomes of a request that is past its deadline, by what it was doing."""

from __future__ import annotations

import array
import fcntl
import os
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_fixtures import environment
from asgi_host import DEADLINE, INTERRUPT, PING, Answer, Worker
from wsgi_host import TRANSPORTS, WsgiWorker, both_transports

TIMEOUT = ["RequestTimeout", "the request's deadline has passed", False]


@pytest.fixture(params=TRANSPORTS)
def worker(request: pytest.FixtureRequest) -> Iterator[WsgiWorker]:
    with both_transports(request.param), WsgiWorker("interrupt_apps:wsgi", threads=2) as worker:
        yield worker


@pytest.fixture
def one() -> Iterator[WsgiWorker]:
    """For what takes seconds, and is the same over both transports."""
    with WsgiWorker("interrupt_apps:wsgi", threads=2) as worker:
        yield worker


@pytest.fixture(params=["asyncio-shm", "uvloop-shm", "asyncio-socket"])
def loop(request: pytest.FixtureRequest) -> Iterator[Worker]:
    name, transport = request.param.split("-")
    env = environment(name)
    with Worker("interrupt_apps:asgi", env=env, transport=transport) as worker:
        yield worker


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


def begun(worker: Worker, path: str, here: Path, **options: Any) -> Answer:
    """A request that has come to what it does."""
    answer = worker.request(path=path, query=bytes(here), **options)
    poll(worker, here.exists)
    return answer


def poll(worker: Worker, condition: Callable[[], bool]) -> None:
    """For what no frame tells."""
    end = time.monotonic() + worker.timeout
    while not condition():
        assert time.monotonic() < end, worker.summary()
        worker.pump(0.01)


def interrupt(worker: Worker, answer: Answer) -> None:
    """As the host does it: a loop that does not come back is passed over by the second frame."""
    worker.send(INTERRUPT, answer.stream, arg=DEADLINE)
    worker.send(PING, 0)


def notes(worker: Worker) -> Any:
    return worker.get("/notes").json()


def logged(worker: Worker, answer: Answer, level: int) -> list[str]:
    return [text for stream, at, text in worker.logs if (stream, at) == (answer.stream, level)]


# -- WSGI


def test_a_python_loop_raises_request_timeout(worker: WsgiWorker, here: Path) -> None:
    answer = begun(worker, "/loop", here)
    interrupt(worker, answer)
    worker.wait(answer)
    assert answer.abort is not None
    assert answer.abort[0] == 3
    assert notes(worker) == [TIMEOUT, "cleaned up"]
    (text,) = logged(worker, answer, 2)
    assert text.startswith("interrupted at its deadline\n")
    assert "in loop" in text
    assert worker.errors() == []


@pytest.mark.parametrize("path", ["/read", "/write"])
def test_waits_for_the_client_are_woken_and_raise_once(
    worker: WsgiWorker, here: Path, path: str
) -> None:
    worker.automatic_credit = False
    answer = begun(worker, path, here, method="POST", complete=False)
    if path == "/write":
        worker.until(lambda: len(answer.body) == 262144)
    interrupt(worker, answer)
    worker.wait(answer)
    assert notes(worker) == [TIMEOUT, "cleaned up"]
    assert worker.errors() == []


def test_a_wait_for_an_executor_is_woken(worker: WsgiWorker, here: Path) -> None:
    answer = begun(worker, "/task", here)
    interrupt(worker, answer)
    worker.wait(answer)
    assert notes(worker) == [7, TIMEOUT, "cleaned up"]
    assert worker.errors() == []


def test_later_calls_raise_it_again(worker: WsgiWorker, here: Path) -> None:
    answer = begun(worker, "/after", here, method="POST", complete=False)
    interrupt(worker, answer)
    worker.wait(answer)
    assert notes(worker) == [2]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/sleep", "time.sleep(2)"),
        ("/acquire", "with LOCK:"),
        ("/get", "QUEUE.get()"),
        ("/recv", "MINE.recv(1)"),
    ],
)
def test_a_call_that_waits_in_the_system_is_left_alone_and_its_stack_is_logged(
    one: WsgiWorker, here: Path, path: str, line: str
) -> None:
    answer = begun(one, path, here)
    interrupt(one, answer)
    one.until(lambda: logged(one, answer, 3))
    assert not answer.over
    (text,) = logged(one, answer, 3)
    assert text.startswith("past its deadline by 1 s and more, the request cannot be interrupted")
    served = text.split("Thread ")[1]
    assert served.startswith("guado-wsgi-")
    assert "which serves it" in served
    assert line in served
    # Where the call returns nevertheless, the exception is raised there.
    one.get("/release")
    one.wait(answer)
    assert notes(one) == [TIMEOUT, "cleaned up"]


def test_code_that_holds_the_gil_is_seen_by_the_watch_thread(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with both_transports("socket"), WsgiWorker("interrupt_apps:wsgi", threads=2) as worker:
        answer = begun(worker, "/hold_gil", here)
        interrupt(worker, answer)
        worker.until(lambda: logged(worker, answer, 3))
        (text,) = logged(worker, answer, 3)
        assert "does not give up the GIL" in text
        assert "on standard error" in text
        assert worker.wait(answer).abort == (3, "")
    dump = capfd.readouterr().err
    assert "interrupt_apps.py" in dump
    assert "in hold_gil" in dump


def test_a_request_that_waits_for_a_thread_is_never_started(
    worker: WsgiWorker, tmp_path: Path
) -> None:
    options = {"method": "POST", "complete": False}
    held = [begun(worker, "/read", tmp_path / name, **options) for name in ("one", "two")]
    waiting = worker.request(path="/loop", query=bytes(tmp_path / "loop"))
    interrupt(worker, waiting)
    for answer in held:
        worker.body(answer, b"", end=True)
    for answer in held:
        assert worker.wait(answer).body == b"done"
    assert worker.wait(waiting).abort == (3, "")
    assert not (tmp_path / "loop").exists()


def test_the_next_request_of_the_thread_is_not_interrupted(tmp_path: Path) -> None:
    """The application ends in C, with the exception pending: no instruction runs that could
    raise it, until the next request's."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with WsgiWorker("interrupt_apps:wsgi", threads=1) as worker:
        answer = worker.request(path="/file", query=bytes(fifo))
        with writer(worker, fifo) as file:
            file.write(b"first\n")
            worker.until(lambda: answer.body == b"first\n")
            interrupt(worker, answer)
            worker.until(lambda: logged(worker, answer, 3))  # a second after it was set
        worker.wait(answer)
        assert answer.done
        for _ in range(3):
            assert worker.get("/spin").body == b"done"
        assert worker.stop() == 0


def test_interrupts_that_come_with_the_end_reach_nobody_else(worker: WsgiWorker) -> None:
    for _ in range(100):
        late = [worker.request(path="/spin") for _ in range(2)]
        for answer in late:
            interrupt(worker, answer)
        for answer in late:
            worker.wait(answer)
        for answer in [worker.request(path="/spin") for _ in range(2)]:
            assert worker.wait(answer).body == b"done"
    assert worker.stop() == 0


def writer(worker: Worker, fifo: Path) -> Any:
    """The other end of the fifo, once the application has opened its own."""
    opened: list[int] = []

    def try_once() -> bool:
        try:
            opened.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # ENXIO: nobody reads it yet
            return False
        return True

    poll(worker, try_once)
    return os.fdopen(opened[0], "wb", buffering=0)


def unread(pipe: Any) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


# -- ASGI


def test_a_task_that_waits_is_cancelled(loop: Worker, here: Path) -> None:
    answer = begun(loop, "/waits", here)
    interrupt(loop, answer)
    loop.wait(answer)
    assert answer.abort == (3, "")
    assert notes(loop) == ["CancelledError"]
    (text,) = logged(loop, answer, 2)
    assert "in waits" in text
    assert loop.errors() == []


def test_the_cleanup_of_a_cancelled_task_is_not_interrupted(loop: Worker, here: Path) -> None:
    answer = begun(loop, "/tidies", here)
    interrupt(loop, answer)
    loop.wait(answer)
    assert notes(loop) == ["cleaned up", "CancelledError"]
    assert loop.errors() == []


def test_a_loop_inside_a_coroutine_raises_request_timeout(loop: Worker, here: Path) -> None:
    answer = begun(loop, "/loops", here)
    interrupt(loop, answer)
    loop.wait(answer)
    assert answer.abort == (3, "")
    assert notes(loop) == ["RequestTimeout"]
    assert loop.get("/spin").body == b"done"


def test_send_behind_the_deadline_raises_request_timeout(loop: Worker, here: Path) -> None:
    answer = begun(loop, "/receives", here, complete=False)
    interrupt(loop, answer)
    loop.wait(answer)
    assert notes(loop) == ["cancelled", "RequestTimeout"]


def test_a_blocked_loop_is_left_alone_and_its_stack_is_logged(loop: Worker, here: Path) -> None:
    answer = begun(loop, "/sleeps", here)
    interrupt(loop, answer)
    loop.until(lambda: logged(loop, answer, 3))
    (text,) = logged(loop, answer, 3)
    assert "Thread MainThread, which serves it" in text
    assert "time.sleep(2)" in text
    loop.wait(answer)
    assert notes(loop) == ["RequestTimeout"]


def test_a_task_that_ignores_its_cancellation_is_logged_with_what_it_awaits(
    loop: Worker, here: Path
) -> None:
    answer = begun(loop, "/ignores", here)
    interrupt(loop, answer)
    loop.until(lambda: logged(loop, answer, 3))
    (text,) = logged(loop, answer, 3)
    assert "Task that serves it" in text
    assert "in stubborn" in text
    loop.get("/release")
    loop.wait(answer)


def test_the_next_request_of_the_loop_is_not_interrupted(loop: Worker, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    answer = loop.request(path="/file", query=bytes(fifo))
    with writer(loop, fifo) as file:
        file.write(b"x")
        poll(loop, lambda: unread(file) == 0)  # it is inside the read of the line
        interrupt(loop, answer)
        loop.until(lambda: logged(loop, answer, 3))
    loop.wait(answer)
    for _ in range(3):
        assert loop.get("/spin").body == b"done"
