"""docs/traps.md, ASGI 8: WebSockets, frame by frame. Real clients: test/e2e."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asgi_fixtures import environment
from asgi_host import CANCEL, DISCONNECT, END, GONE, MESSAGE, MORE, STOPPING, Answer, Worker

CREDIT = 4096


@pytest.fixture(params=["asyncio-shm", "uvloop-shm", "uvloop-socket"], scope="module")
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    loop, transport = request.param.split("-")
    env = environment(loop)
    with Worker(
        "asgi_sockets:app", env=env, transport=transport, credit=CREDIT, request_credit=CREDIT
    ) as w:
        yield w
        assert w.stop() == 0


def accepted(worker: Worker, path: str = "/echo", **options: object) -> Answer:
    answer = worker.socket(path, **options)
    worker.until(lambda: answer.status or answer.over)
    assert answer.status == 101, answer
    assert not answer.ended
    return answer


def leave(worker: Worker, answer: Answer) -> None:
    worker.disconnect(answer)
    worker.until(lambda: answer.over)
    assert answer.abort == (3, "")


def test_messages_come_and_go_whole_whatever_the_credit(worker: Worker) -> None:
    answer = accepted(worker)
    wanted: list[str | bytes] = []
    spent = 0
    for data in ("", b"", "é" * 100, bytes(CREDIT - 64), b"x" * (5 * CREDIT), "€" * CREDIT, "end"):
        raw = data.encode() if isinstance(data, str) else data
        at = 0
        while True:
            left = CREDIT - (spent - answer.credit)
            if left >= len(raw) - at + 64:
                text = isinstance(data, str)
                spent += part(worker, answer, raw[at:], text=text, more=False)
                break
            piece = min(left, len(raw) - at)
            if piece:
                spent += part(worker, answer, raw[at : at + piece], text=isinstance(data, str))
                at += piece
            before = answer.credit
            worker.until(lambda before=before: answer.credit > before)
        wanted.append(data)
        worker.until(lambda: len(answer.messages) == len(wanted))
    assert answer.messages == wanted
    leave(worker, answer)


def part(worker: Worker, answer: Answer, raw: bytes, *, text: bool, more: bool = True) -> int:
    worker.send(MESSAGE, answer.stream, raw, flags=MORE if more else 0, arg=1 if text else 2)
    return len(raw) + (0 if more else 64)


def test_what_nobody_takes_is_not_paid_for(worker: Worker) -> None:
    answer = accepted(worker, "/deaf")
    for _ in range(CREDIT // 64 - 1):
        worker.message(answer, b"")
    assert worker.quiet(lambda: answer.credit)
    worker.disconnect(answer)
    worker.signal_http()
    worker.until(lambda: answer.over)


def test_a_sender_waits_for_credit(worker: Worker) -> None:
    worker.automatic_credit = False
    try:
        answer = accepted(worker)
        worker.message(answer, bytes(3000))
        worker.until(lambda: len(answer.messages) == 1)
        worker.message(answer, b"y" * 2000)  # 1,032 bytes of credit are left
        assert worker.quiet(lambda: len(answer.messages) == 2)
        worker.credit(answer, 3064)
        worker.until(lambda: len(answer.messages) == 2)
        assert answer.messages[1] == b"y" * 2000
    finally:
        worker.automatic_credit = True
    leave(worker, answer)


def test_the_application_closes_and_is_through_later(worker: Worker) -> None:
    answer = worker.socket("/close", query=b"code=4321&reason=why")
    worker.until(lambda: answer.over)
    assert answer.close == (4321, "why")
    assert (answer.busy, answer.done) == (True, True)


def test_returning_closes_with_1000_and_an_exception_aborts(worker: Worker) -> None:
    answer = worker.socket("/returns")
    worker.until(lambda: answer.over)
    assert answer.messages == ["last words"]
    assert (answer.close, answer.done) == ((1000, ""), False)
    answer = worker.socket("/raises")
    worker.until(lambda: answer.over)
    assert answer.abort is not None
    assert answer.abort[0] == 1


@pytest.mark.parametrize(
    ("path", "status", "body"), [("/refuse", 403, b""), ("/deny", 418, b"no coffee here")]
)
def test_a_denial_is_an_answer(worker: Worker, path: str, status: int, body: bytes) -> None:
    answer = worker.socket(path)
    worker.until(lambda: answer.over)
    assert (answer.status, answer.body, answer.done) == (status, body, True)


@pytest.mark.parametrize(("reason", "code"), [(GONE, 1006), (STOPPING, 1012)])
def test_a_cancelled_handshake_is_a_disconnect(worker: Worker, reason: int, code: int) -> None:
    answer = worker.socket("/patient")
    worker.send(CANCEL, answer.stream, arg=reason)
    worker.until(lambda: answer.over)
    assert (answer.status, answer.abort) == (0, (3, ""))


def test_a_disconnect_comes_behind_the_messages_before_it(worker: Worker) -> None:
    answer = accepted(worker, "/deaf")
    worker.message(answer, b"1234")
    worker.disconnect(answer, 4000, "bye")
    worker.signal_http()
    worker.until(lambda: answer.over)
    assert answer.abort == (3, "")


def test_what_was_queued_is_dropped_by_a_disconnect(worker: Worker) -> None:
    worker.automatic_credit = False
    try:
        answer = accepted(worker, "/flood")
        worker.until(lambda: answer.kinds.count(0x51) > 0 or answer.kinds)
        worker.disconnect(answer)
        worker.until(lambda: answer.over)
        assert answer.abort == (3, "")
    finally:
        worker.automatic_credit = True


@pytest.mark.parametrize(
    "frame",
    [
        (MESSAGE, 0, 3, b"x"),  # of no kind
        (MESSAGE, MORE, 1, b""),  # an empty part
        (MESSAGE, 0, 1, bytes(CREDIT)),  # over the credit
        (DISCONNECT, END, 1000, bytes(124)),  # a long reason
    ],
)
def test_a_broken_frame_ends_the_worker(frame: tuple[int, int, int, bytes]) -> None:
    kind, flags, arg, payload = frame
    with Worker(
        "asgi_sockets:app", env=environment("asyncio"), credit=CREDIT, request_credit=CREDIT
    ) as worker:
        answer = accepted(worker)
        worker.send(kind, answer.stream, payload, flags=flags, arg=arg)
        assert worker.process.wait(worker.timeout) == 1
