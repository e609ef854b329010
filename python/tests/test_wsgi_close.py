"""WSGI line 5 and failures: close() runs always, errors are logged once, threads survive."""

from __future__ import annotations

import pytest
from wsgi_fixtures import worker
from wsgi_host import WsgiWorker, raised

__all__ = ["worker"]

DEADLINE = 3


@pytest.fixture(autouse=True)
def _fresh(worker: WsgiWorker) -> None:
    worker.journal()
    worker.logs.clear()


def test_line_05_close_runs_after_success(worker: WsgiWorker) -> None:
    answer = worker.get("/closing")
    assert answer.body == b"ab"
    assert worker.journal() == ["closing iter", "closing close"]


def test_line_05_the_answer_does_not_wait_for_close(worker: WsgiWorker) -> None:
    answer = worker.call("/closing_length")
    worker.until(lambda: answer.ended)
    assert answer.busy
    assert not answer.done
    assert worker.journal() == ["closing_length iter"]
    worker.open("closing_length")
    worker.wait(answer)
    assert worker.journal() == ["closing_length close"]


def test_line_05_close_runs_after_an_error_in_iteration(worker: WsgiWorker) -> None:
    answer = worker.get("/closing_error")
    assert (answer.body, answer.ended, raised(answer)) == (b"a", False, "Mark: in iteration")
    assert worker.journal() == ["closing_error iter", "closing_error close"]


def test_line_05_close_runs_when_iteration_never_began(worker: WsgiWorker) -> None:
    assert raised(worker.get("/closing_first_error"))
    assert worker.journal() == ["closing_first_error close"]


def test_line_05_close_runs_when_start_response_was_not_called(worker: WsgiWorker) -> None:
    answer = worker.get("/closing_unstarted")
    assert answer.abort is not None
    assert worker.journal()[-1] == "closing_unstarted close"


def test_line_05_close_runs_on_a_list_that_has_one(worker: WsgiWorker) -> None:
    assert worker.get("/closing_list").body == b"ab"
    assert worker.journal() == ["closing_list close"]


@pytest.mark.parametrize("path", ["/closing", "/closing_generator"])
def test_line_05_close_runs_under_head(worker: WsgiWorker, path: str) -> None:
    answer = worker.get(path, method="HEAD")
    assert answer.body == b""
    assert worker.journal()[-1] in ("closing close", "closing_generator closed")


def test_line_05_close_runs_when_the_client_leaves(worker: WsgiWorker) -> None:
    answer = worker.call("/closing_generator")
    worker.until(lambda: answer.body)
    worker.cancel(answer)
    worker.wait(answer)
    assert answer.abort == (3, "")
    assert worker.journal() == ["closing_generator closed"]
    assert worker.errors() == []


def test_line_05_an_error_in_close_is_logged_only(worker: WsgiWorker) -> None:
    answer = worker.get("/close_fails")
    assert (answer.body, answer.ended, answer.done, answer.abort) == (b"ok", True, True, None)
    assert len(worker.errors()) == 1
    assert "Mark: in close" in worker.errors()[0]


def test_line_05_code_behind_the_last_byte_runs(worker: WsgiWorker) -> None:
    assert worker.get("/after_length").body == b"ab"
    assert worker.journal() == ["after the last byte"]


def test_an_error_behind_the_last_byte_is_logged_only(worker: WsgiWorker) -> None:
    answer = worker.get("/after_length_fails")
    assert (answer.body, answer.abort, answer.done) == (b"ab", None, True)
    assert "Mark: after the last byte" in worker.errors()[0]


def test_an_exception_is_logged_once_with_its_traceback(worker: WsgiWorker) -> None:
    answer = worker.get("/fails")
    assert (answer.status, raised(answer)) == (0, "ValueError: caf\u00e9 \\ud800")
    [(stream, level, text)] = worker.logs
    assert (stream, level) == (answer.stream, 3)
    assert text.startswith("Exception in WSGI application\nTraceback (most recent call last):\n")
    assert "in fails" in text
    assert text.endswith("ValueError: caf\u00e9 \\ud800")


def test_a_group_of_exceptions_is_named_in_one_line(worker: WsgiWorker) -> None:
    answer = worker.get("/fails_grouped")
    assert raised(answer) == "ExceptionGroup: several (2 sub-exceptions)"
    assert "Mark: one" in worker.errors()[0]


def test_a_long_message_is_cut_between_characters_in_the_one_line(worker: WsgiWorker) -> None:
    line = raised(worker.get("/fails_at_length"))
    assert line is not None
    assert line.startswith("Mark: x\u20ac\u20ac")
    assert worker.errors()[0].endswith("x" + "\u20ac" * 500)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/exits", "SystemExit: 3"),
        ("/interrupts", "KeyboardInterrupt"),
        ("/generator_exits", "SystemExit: 3"),
    ],
)
def test_exits_of_the_application_are_errors_and_the_threads_survive(
    worker: WsgiWorker, path: str, error: str
) -> None:
    for _ in range(8):
        assert raised(worker.get(path))
    assert len(worker.errors()) == 8
    assert worker.errors()[-1].endswith(error)
    assert worker.get("/hello").body == b"hello"


def test_a_write_after_the_client_left_raises_an_os_error(worker: WsgiWorker) -> None:
    answer = worker.call("/writes_for_ever")
    worker.until(lambda: answer.body == b"begun")
    worker.cancel(answer)
    worker.open("writes_for_ever")
    worker.wait(answer)
    [[name, bases, text]] = worker.journal()
    assert name == "ClientDisconnected"
    assert {"ConnectionError", "OSError"} <= set(bases)
    assert text == "the client closed the connection"
    assert answer.abort == (3, "")
    assert worker.errors() == []


def test_a_deadline_says_so(worker: WsgiWorker) -> None:
    with WsgiWorker() as other:
        answer = other.call("/writes_for_ever")
        other.until(lambda: answer.body == b"begun")
        other.cancel(answer, DEADLINE)
        other.open("writes_for_ever")
        other.wait(answer)
        assert "deadline" in other.journal()[0][2]


def test_an_error_made_of_a_disconnect_is_not_the_applications(worker: WsgiWorker) -> None:
    answer = worker.call("/wraps_disconnect", method="POST", complete=False, length=10)
    worker.cancel(answer)
    worker.wait(answer)
    assert answer.abort == (3, "")
    assert worker.errors() == []


def test_the_application_can_ask_whether_the_client_has_left(worker: WsgiWorker) -> None:
    answer = worker.call("/disconnected")
    worker.until(lambda: answer.body)
    worker.cancel(answer)
    worker.open("disconnected")
    worker.wait(answer)
    assert worker.journal() == [False, True]


def test_what_was_kept_beyond_its_request_says_so(worker: WsgiWorker) -> None:
    assert worker.get("/keep_input").body == b"kept"
    assert worker.json("/use_kept") == [
        "ValueError: wsgi.input was read after its request had ended",
        "RuntimeError: the request has ended",
        "RuntimeError: the request has ended",
        False,
    ]


def test_a_drain_lets_the_request_under_way_finish_and_ends_the_process(worker: WsgiWorker) -> None:
    with WsgiWorker() as own:
        answer = own.call("/echo", method="POST", complete=False, length=4)
        own.until(lambda: own.started(answer))
        own.drain()
        own.body(answer, b"last", end=True)
        own.wait(answer)
        assert answer.body == b"last"
        assert own.exit() == 0
