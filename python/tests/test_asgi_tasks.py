"""docs/traps.md, ASGI 6 and 10: errors, contexts, tasks and the end of a worker."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from asgi_host import BUSY, COMMIT, DONE, END, GONE, HALF_CLOSED, Answer, Worker

pytest_plugins = ["asgi_fixtures"]


def errors_of(worker: Worker, answer: Answer) -> list[str]:
    """What was logged for this exchange, taken out of the log."""
    mine = [text for stream, level, text in worker.logs if (stream, level) == (answer.stream, 3)]
    worker.logs[:] = [line for line in worker.logs if line[0] != answer.stream]
    return mine


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/raise", "CustomError: before the start"),
        ("/raise-held", "CustomError: after the start, before the body"),
        ("/stop-iteration", "RuntimeError: coroutine raised StopIteration"),
        ("/system-exit", "SystemExit: the application wants to leave"),
        ("/cancels-itself", "CancelledError"),
    ],
)
def test_an_exception_before_anything_left_becomes_a_500_and_one_traceback(
    shared: Worker, path: str, text: str
) -> None:
    """The host answers 500 for ABORT 1 without a head. StopIteration: gunicorn 25.0.3."""
    answer = shared.get(path)
    assert answer.abort is not None
    assert (answer.abort[0], answer.status) == (1, 0)
    (logged,) = errors_of(shared, answer)
    assert logged.startswith("Exception in ASGI application\nTraceback (most recent call last):\n")
    assert text in logged.splitlines()[-1]
    assert "asgi_apps_tasks.py" in logged
    assert "/guado/" not in logged, "frames of the server are of no use to the reader"
    assert shared.get("/hello").body == b"hello"


def test_an_exception_in_the_middle_of_a_body_aborts_the_connection(shared: Worker) -> None:
    answer = shared.get("/raise-late")
    assert answer.body == b"some"
    assert answer.abort is not None
    assert (answer.abort[0], answer.ended) == (1, False)
    (logged,) = errors_of(shared, answer)
    assert logged.endswith("CustomError: in the middle of the body")


def test_an_exception_behind_a_complete_answer_is_logged_and_spoils_nothing(
    shared: Worker,
) -> None:
    answer = shared.get("/raise-behind")
    assert (answer.body, answer.abort, answer.done) == (b"complete", None, True)
    (logged,) = errors_of(shared, answer)
    assert logged.endswith("CustomError: behind the answer")


@pytest.mark.parametrize(
    ("path", "text", "sent"),
    [
        ("/return-early", "the application returned without sending a response", b""),
        ("/return-held", "the application returned without sending a body", b""),
        ("/return-late", "the application returned before the end of the body", b"some"),
    ],
)
def test_returning_too_early_is_a_protocol_error_and_never_a_clean_end(
    shared: Worker, path: str, text: str, sent: bytes
) -> None:
    answer = shared.get(path)
    assert (answer.abort, answer.body) == ((2, text), sent)
    assert errors_of(shared, answer) == [text]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("asgi_apps_tasks:sync_raises", "StopIteration: in the call itself"),
        (
            "asgi_apps_tasks:not_awaitable",
            "TypeError: the application returned <class 'int'>, which cannot be awaited: "
            "is it an ASGI 3 application?",
        ),
    ],
)
def test_an_application_that_fails_in_the_call_itself_is_reported_the_same_way(
    target: str, text: str
) -> None:
    with Worker({"target": target, "kind": "asgi"}) as worker:
        answer = worker.get("/")
        assert answer.abort is not None
        assert answer.abort[0] == 1
        (logged,) = errors_of(worker, answer)
        assert logged.endswith(text)


def test_any_awaitable_may_be_what_the_call_gives(loop_env: dict[str, str]) -> None:
    app = {"target": "asgi_apps_tasks:Awaits", "kind": "asgi"}
    with Worker(app, env=loop_env) as worker:
        assert worker.get("/hello").body == b"hello"
        waiting = worker.request("GET", "/wait/x")
        worker.signal("x")
        assert worker.wait(waiting).body == b"x"
        assert worker.stop() == 0


def test_an_error_made_from_a_disconnect_is_not_an_error(shared: Worker) -> None:
    """Starlette's ClientDisconnect, also inside an exception group."""
    answer = shared.request("GET", "/leaves-from-disconnect")
    shared.await_signal("leaving")
    shared.cancel(answer, GONE)
    shared.wait(answer)
    assert answer.abort == (3, "")
    assert errors_of(shared, answer) == []


@pytest.mark.parametrize("why", [GONE, HALF_CLOSED])
def test_leaving_after_a_disconnect_is_no_error(shared: Worker, why: int) -> None:
    quiet = shared.request("GET", "/leaves-quietly")
    raising = shared.request("GET", "/leaves-by-exception")
    shared.signal("go-on")
    for answer in (quiet, raising):
        shared.cancel(answer, why)
        shared.wait(answer)
        assert answer.abort is not None
        assert errors_of(shared, answer) == []
    assert quiet.abort == (3, "")


def test_a_bug_behind_a_disconnect_is_still_an_error(shared: Worker) -> None:
    answer = shared.request("GET", "/breaks-after-disconnect")
    shared.signal("go-on")
    shared.cancel(answer, GONE)
    shared.wait(answer)
    (logged,) = errors_of(shared, answer)
    assert logged.endswith("CustomError: a bug behind the disconnect")


def test_each_request_runs_in_a_fresh_copy_of_the_context_of_import(shared: Worker) -> None:
    """uvicorn --reset-contextvars, cpython #140947."""
    for _ in range(3):
        assert shared.get("/context").json() == ["import", "leaked again"]


def test_a_plain_function_that_returns_an_awaitable_runs_in_its_request_too(
    loop_env: dict[str, str],
) -> None:
    with Worker({"target": "asgi_apps_tasks:sets_context", "kind": "asgi"}, env=loop_env) as worker:
        for _ in range(3):
            assert worker.get("/").json() == ["import", True]
        assert worker.stop() == 0


def test_a_request_is_one_ordinary_task_of_the_main_thread(shared: Worker) -> None:
    facts = shared.get("/task").json()
    assert isinstance(facts, dict)
    assert facts["stack"][-1] == "app"
    assert facts["coroutine"] is True
    assert facts["thread"] is True
    assert facts["factory"] == "None"
    assert "coro=<" in facts["repr"]
    assert "exchange" not in facts["repr"]


def test_the_loop_is_uvloop_where_it_is_installed(loop_env: dict[str, str]) -> None:
    with Worker("asgi_apps:app", env=loop_env) as worker:
        assert worker.ready is not None
        assert worker.ready["loop"] == loop_env["TEST_LOOP"]
        facts = worker.get("/task").json()
        assert isinstance(facts, dict)
        assert facts["loop"].startswith(loop_env["TEST_LOOP"])


def test_a_task_factory_of_the_application_makes_our_tasks_as_well(shared: Worker) -> None:
    shared.get("/factory")
    assert shared.get("/hello").body == b"hello"
    shared.get("/factory", query=b"off")
    made = shared.seen("made")
    assert made == ["Exchange", "Exchange"]


def test_background_work_keeps_the_slot_but_not_the_answer(shared: Worker) -> None:
    """Starlette's BackgroundTask: END|BUSY, then DONE."""
    answer = shared.request("GET", "/background")
    shared.until(lambda: answer.ended)
    assert (answer.busy, answer.done) == (True, False)
    assert answer.body == b"answered"
    shared.signal("background")
    shared.wait(answer)
    assert answer.kinds == [COMMIT, DONE]
    assert answer.flags == [END | BUSY, 0]
    assert shared.seen("background") == "done"


def test_work_that_never_yields_does_not_hold_the_answer_back(shared: Worker) -> None:
    answer = shared.request("GET", "/busy-background")
    shared.until(lambda: answer.ended)
    assert not answer.done
    shared.wait(answer)


def test_what_a_child_task_sends_after_the_end_is_refused(shared: Worker) -> None:
    """The coroutine has returned without an answer; its child still holds send()."""
    answer = shared.get("/child-task")
    assert answer.abort is not None
    assert answer.abort[0] == 2
    errors_of(shared, answer)
    shared.signal("child")
    shared.await_signal("child-done")
    assert shared.seen("child") == "the exchange has ended"
    assert shared.seen("child-receive") == "http.disconnect"


def test_a_waiting_task_is_kept_alive(shared: Worker) -> None:
    """asyncio itself holds tasks weakly."""
    assert shared.get("/weak").body == b"alive"


def test_disconnecting_does_not_cancel_the_task(shared: Worker) -> None:
    """Cancellation policy: the application decides."""
    answer = shared.request("GET", "/disconnect-early")
    shared.await_signal("working")
    shared.cancel(answer, GONE)
    assert shared.quiet(lambda: answer.over, 0.2)
    shared.signal("look")
    shared.wait(answer)
    assert shared.seen("early") == ["http.disconnect"] * 2
    assert answer.abort == (3, "")
    assert errors_of(shared, answer) == []


def test_requests_run_concurrently(shared: Worker) -> None:
    waiting = [shared.request("GET", "/wait/many") for _ in range(300)]
    shared.signal("many")
    for answer in waiting:
        shared.wait(answer)
        assert answer.body == b"many"


def test_a_drain_waits_for_running_requests_and_background_work(
    loop_env: dict[str, str],
) -> None:
    with Worker("asgi_apps:app", env=loop_env) as worker:
        running = worker.request("GET", "/sleep")
        behind = worker.request("GET", "/background-sleep")
        worker.until(lambda: behind.ended)
        worker.drain()
        worker.wait(running)
        worker.wait(behind)
        assert running.body == b"slept"
        assert worker.exit() == 0
        assert worker.errors() == []


def test_at_the_end_of_the_grace_of_a_drain_the_tasks_are_cancelled(
    loop_env: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    with Worker("asgi_apps_lifespan:lifespan", env=loop_env) as worker:
        silent = worker.request("GET", "/forever")
        streaming = worker.request("GET", "/forever-stream")
        worker.until(lambda: streaming.body)
        worker.drain(200)
        worker.wait(silent)
        worker.wait(streaming)
        assert silent.abort == (3, "")
        assert streaming.abort == (3, "")
        assert worker.exit() == 0
        (logged,) = worker.errors()
        assert logged == "stopping: 2 requests cancelled after 0.2 s"
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["startup one", "forever: cancelled", "shutdown one", "left one"]


def test_a_task_that_ignores_its_cancellation_does_not_keep_lifespan_from_shutting_down(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Worker("asgi_apps_lifespan:lifespan") as worker:
        worker.request("GET", "/stubborn")
        worker.await_signal("stubborn")
        worker.drain(50)
        worker.exit()
    lines = capfd.readouterr().err.splitlines()
    assert lines[:2] == ["startup one", "shutdown one"]


def test_the_worker_ends_when_the_host_is_gone() -> None:
    with Worker("asgi_apps:app") as worker:
        worker.request("GET", "/forever")
        worker.await_signal("forever")
        worker.leave()
        worker.process.wait(worker.timeout)


def test_memory_and_objects_do_not_grow_with_requests(loop_env: dict[str, str]) -> None:
    """Streams, bodies, errors of the client: whatever a request was, nothing of it stays."""

    def rounds(worker: Worker, n: int) -> dict[str, int]:
        for _ in range(n):
            pending = [worker.request("GET", "/hello") for _ in range(40)]
            pending.append(worker.request("POST", "/echo", body=bytes(3000)))
            gone = worker.request("POST", "/disconnect", body=b"x")
            worker.cancel(gone)
            pending.append(gone)
            pending.append(worker.request("GET", "/after-response"))
            for answer in pending:
                worker.wait(answer)
                del worker.answers[answer.stream]
        result: Any = worker.get("/memory").json()
        return result

    with Worker("asgi_apps:app", env=loop_env) as worker:
        rounds(worker, 30)
        before = rounds(worker, 10)
        after = rounds(worker, 60)
        assert after["objects"] - before["objects"] < 50
        assert after["rss"] - before["rss"] < 1 << 20
        assert worker.stop() == 0


def test_a_forked_child_of_the_application_does_not_speak_for_the_worker(
    loop_env: dict[str, str],
) -> None:
    with Worker("asgi_apps:app", env=loop_env) as worker:
        assert worker.get("/fork").body == b"parent"
        assert worker.get("/hello").body == b"hello"
        assert worker.stop() == 0


def test_sigint_and_sigterm_of_a_terminal_are_the_hosts_business() -> None:
    with Worker("asgi_apps:app") as worker:
        os.kill(worker.process.pid, signal.SIGINT)
        os.kill(worker.process.pid, signal.SIGTERM)
        assert worker.get("/hello").body == b"hello"
        assert worker.stop() == 0


def test_the_worker_ends_when_the_host_breaks_the_protocol(
    loop_env: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    with Worker("asgi_apps:app", env=loop_env) as worker:
        worker.request("GET", "/forever")
        worker.await_signal("forever")
        worker.send(0x77, 1 << 16)
        assert worker.process.wait(worker.timeout) == 1
    assert "guado: the host broke the protocol of the link" in capfd.readouterr().err


def test_nothing_that_the_application_leaves_behind_keeps_atexit_from_running(
    loop_env: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """A task that cannot be cancelled, a generator and a thread that do not end."""
    with Worker("asgi_apps_lifespan:lifespan", env=loop_env) as worker:
        assert worker.get("/hangs").body == b"hanging"
        worker.drain()
        assert worker.exit() == 0
    lines = capfd.readouterr().err.splitlines()
    assert "shutdown one" in lines
    assert "atexit" in lines


@pytest.mark.parametrize("transport", ["shm", "socket"])
def test_a_worker_serves_applications_of_both_kinds(
    loop_env: dict[str, str], transport: str
) -> None:
    wsgi = {"target": "asgi_apps_tasks:wsgi_hello", "kind": "wsgi"}
    with Worker("asgi_apps:app", wsgi, env=loop_env, transport=transport) as worker:
        for _ in range(50):
            one, two = worker.request("GET", "/hello"), worker.request("GET", "/", app=1)
            assert worker.wait(one).body == b"hello"
            assert worker.wait(two).body == b"hello from wsgi"
        waiting = worker.request("POST", "/echo", complete=False)
        slow = worker.request("GET", "/slow", app=1)
        worker.body(waiting, b"body", end=True)
        assert worker.wait(waiting).body == b"body"
        worker.get("/open-gate")
        worker.drain()
        assert worker.wait(slow).body == b"hello from wsgi"
        assert worker.exit() == 0
        assert worker.errors() == []
