"""docs/traps.md, ASGI 5: receive()."""

from __future__ import annotations

import pytest
from asgi_host import CREDIT_UP, EXPECT, GONE, HALF_CLOSED, INFORMATIONAL, STOPPING, Worker

pytest_plugins = ["asgi_fixtures"]


def test_a_request_without_a_body_gives_one_empty_message(shared: Worker) -> None:
    answer = shared.get("/messages")
    assert answer.body == b"http.request 0 False\n"


def test_a_complete_body_comes_as_one_last_message(shared: Worker) -> None:
    answer = shared.get("/messages", method="POST", body=b"x" * 5000)
    assert answer.body == b"http.request 5000 False\n"


def test_a_body_that_fills_many_request_frames_arrives_whole(shared: Worker) -> None:
    data = bytes(range(256)) * 3000
    assert shared.get("/echo", method="POST", body=data).body == data


def test_chunks_are_given_as_they_come_and_the_last_says_so(shared: Worker) -> None:
    answer = shared.request("POST", "/messages", body=b"abc", complete=False)
    shared.until(lambda: b"3 True\n" in answer.body)
    shared.body(answer, b"defg")
    shared.until(lambda: b"4 True\n" in answer.body)
    shared.body(answer, b"h", end=True)
    shared.wait(answer)
    assert answer.body == (b"http.request 3 True\nhttp.request 4 True\nhttp.request 1 False\n")


def test_an_empty_last_chunk_ends_the_body(shared: Worker) -> None:
    answer = shared.request("POST", "/messages", complete=False)
    shared.body(answer, b"data")
    shared.until(lambda: b"4 True\n" in answer.body)
    shared.body(answer, b"", end=True)
    assert shared.wait(answer).body.endswith(b"http.request 0 False\n")


def test_credit_returns_only_for_what_the_application_has_read(shared: Worker) -> None:
    """A streamed upload is bounded by credit, so nothing piles up in the worker."""
    answer = shared.request("POST", "/messages", complete=False)
    sent = 0
    for _ in range(40):
        shared.body(answer, bytes(32768))
        sent += 32768
        shared.until(lambda sent=sent: answer.credit + 65536 >= sent + 32768 or answer.over)
    shared.body(answer, b"", end=True)
    shared.wait(answer)
    assert CREDIT_UP in answer.kinds
    sizes = [int(line.split()[1]) for line in answer.body.splitlines()]
    assert sum(sizes) == sent


def test_nothing_is_read_and_no_credit_given_before_receive_is_called(shared: Worker) -> None:
    answer = shared.request("POST", "/wait/credit", body=bytes(1000), complete=False)
    shared.body(answer, bytes(65536))
    assert shared.quiet(lambda: CREDIT_UP in answer.kinds)
    shared.signal("credit")
    shared.wait(answer)


def test_100_continue_is_asked_for_by_the_first_receive_and_only_then(shared: Worker) -> None:
    """HTTP: Expect."""
    unread = shared.get("/hello", method="POST", complete=False, length=5, flags=EXPECT)
    assert INFORMATIONAL not in unread.kinds
    answer = shared.request("POST", "/echo", complete=False, length=5, flags=EXPECT)
    shared.until(lambda: answer.informational)
    assert answer.informational == [(100, [])]
    shared.body(answer, b"hello", end=True)
    assert shared.wait(answer).body == b"hello"


def test_after_the_body_receive_blocks_until_the_client_leaves_and_then_says_so_for_ever(
    loop_env: dict[str, str],
) -> None:
    """Unit #1561, Granian #173: never http.request again; 2.4: send() raises an OSError."""
    with Worker("asgi_apps:app", env=loop_env) as worker:
        answer = worker.request("POST", "/disconnect", body=b"body")
        worker.await_signal("waiting")
        assert worker.quiet(lambda: answer.over, 0.1)
        worker.cancel(answer, GONE)
        worker.wait(answer)
        assert worker.seen("disconnect") == ["http.disconnect"] * 3
        assert worker.seen("send") == ["ClientDisconnected", True, "the client has disconnected"]
        assert answer.abort == (3, "")
        assert worker.errors() == []
        assert worker.stop() == 0


def test_a_client_that_left_while_the_application_worked_is_seen_at_the_next_receive(
    loop_env: dict[str, str],
) -> None:
    """Granian #286: unread body bytes do not hide the disconnect."""
    with Worker("asgi_apps:app", env=loop_env) as worker:
        answer = worker.request("POST", "/disconnect-early", body=b"unread")
        worker.await_signal("working")
        worker.cancel(answer, GONE)
        worker.signal("look")
        worker.await_signal("looked")
        assert worker.seen("early") == ["http.disconnect"] * 2
        assert worker.wait(answer).abort == (3, "")
        assert worker.errors() == []


def test_a_half_closed_client_gets_its_answer_and_the_application_a_disconnect(
    shared: Worker,
) -> None:
    """HTTP/1.1 front: FIN behind the request."""
    answer = shared.request("POST", "/half-closed", body=b"whole body")
    shared.cancel(answer, HALF_CLOSED)
    shared.wait(answer)
    assert answer.json() == ["whole body", "http.disconnect"]
    assert answer.abort is None


def test_half_closing_in_the_middle_of_a_body_still_gives_its_end(shared: Worker) -> None:
    answer = shared.request("POST", "/half-closed", complete=False)
    shared.cancel(answer, HALF_CLOSED)
    shared.body(answer, b"late", end=True)
    assert shared.wait(answer).json() == ["late", "http.disconnect"]


def test_a_cut_body_is_never_taken_for_a_complete_one(shared: Worker) -> None:
    """HTTP/1.1 front: truncated chunked bodies."""
    answer = shared.request("POST", "/cut", body=b"part", complete=False)
    shared.await_signal("part")
    shared.body(answer, b"", cut=True)
    assert shared.wait(answer).json() == [["http.request", True]] + [["http.disconnect", None]] * 3


def test_a_body_cut_before_the_application_looked_is_not_complete_either(shared: Worker) -> None:
    answer = shared.request("POST", "/wait/cut-first", complete=False)
    cut = shared.request("POST", "/cut", body=b"part", complete=False)
    shared.body(cut, b"more", cut=True)
    shared.wait(cut)
    types = cut.json()
    assert isinstance(types, list)
    assert all(more is not False for _, more in types)
    assert types[-1] == ["http.disconnect", None]
    shared.signal("cut-first")
    shared.body(answer, b"", end=True)
    shared.wait(answer)


def test_after_the_answer_receive_gives_disconnect_also_where_it_waits(shared: Worker) -> None:
    answer = shared.get("/after-response")
    assert answer.body == b"answered"
    assert shared.seen("after") == ["http.disconnect"] * 3


def test_cancelling_a_pending_receive_loses_nothing(shared: Worker) -> None:
    """gunicorn #3627."""
    answer = shared.request("POST", "/cancel-receive", complete=False)
    shared.await_signal("receiving")
    shared.body(answer, b"first ")
    shared.signal("arrived")
    shared.body(answer, b"second", end=True)
    assert shared.wait(answer).body == b"first second", shared.errors()
    assert not shared.errors()


def test_several_tasks_may_wait_in_receive(shared: Worker) -> None:
    answer = shared.request("GET", "/two-receivers")
    shared.await_signal("two")
    shared.cancel(answer, GONE)
    shared.await_signal("two-seen")
    assert shared.seen("two") == ["http.disconnect"] * 3
    shared.wait(answer)


@pytest.mark.parametrize("why", [GONE, STOPPING])
def test_a_request_cancelled_before_it_was_begun_never_reaches_the_application(
    shared: Worker, why: int
) -> None:
    """Both frames are read in one look: the request is gone before its task is made."""
    blocker = shared.request("GET", "/sleep-sync")
    shared.until(lambda: blocker.status)
    answer = shared.request("GET", "/raise")
    shared.cancel(answer, why)
    shared.wait(answer)
    shared.wait(blocker)
    assert answer.abort == (3, "")
    assert not shared.errors()
