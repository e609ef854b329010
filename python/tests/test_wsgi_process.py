"""WSGI line 16: threads and what the process looks like to its applications; memory."""

from __future__ import annotations

import os

import pytest
from asgi_host import COMMIT
from wsgi_fixtures import worker
from wsgi_host import WsgiWorker

__all__ = ["worker"]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("multiprocess", [False, True])
def test_line_16_multithread_and_multiprocess_are_true(
    worker: WsgiWorker, threads: int, multiprocess: bool
) -> None:
    with WsgiWorker(threads=threads, multiprocess=multiprocess) as own:
        e = own.json("/dump")["environ"]
        assert e["wsgi.multithread"] is (threads > 1)
        assert e["wsgi.multiprocess"] is multiprocess
        assert e["wsgi.run_once"] is False
        assert e["wsgi.version"] == [1, 0]
        waiting = [own.call("/wait") for _ in range(threads + 2)]
        own.until(lambda: sum(own.started(a) for a in waiting) >= threads)
        assert own.quiet(lambda: sum(own.started(a) for a in waiting) > threads)


def test_line_16_one_request_has_one_thread_from_call_to_close(worker: WsgiWorker) -> None:
    worker.journal()
    assert worker.get("/same_thread").body == b"a"
    assert worker.journal() == [1]


def test_line_16_errors_takes_any_text_and_writes_whole_lines(
    worker: WsgiWorker, capfd: pytest.CaptureFixture[str]
) -> None:
    with WsgiWorker(threads=1, env={"PYTHONIOENCODING": "ascii:strict"}) as own:
        results = own.json("/errors")
        own.get("/hello")  # the thread is through with the request before
    lines = capfd.readouterr().err.splitlines()
    assert "whole line \\u20ac \\U0001f600 \\ud800" in lines
    assert lines[-4:] == ["in parts", "and more", "left overby print", "no end"]
    assert results == [17, "wsgi.errors takes str, not <class 'bytes'>"]


def test_line_16_early_hints_are_informational_answers(worker: WsgiWorker) -> None:
    answer = worker.get("/hints")
    assert answer.informational == [(103, [(b"Link", b"</a.css>; rel=preload")])]
    assert answer.json() == ["ValueError", "ValueError", "TypeError"]
    answer = worker.get("/hints", version=10)
    assert (answer.status, answer.informational) == (200, [])


def test_threads_live_across_requests_and_have_names(worker: WsgiWorker) -> None:
    seen: dict[int, tuple[str, int]] = {}
    for _ in range(50):
        name, ident, count, daemon = worker.json("/who")
        assert daemon
        assert name in {f"guado-wsgi-{n}" for n in range(4)}
        assert count == seen.get(ident, (name, 0))[1] + 1
        seen[ident] = (name, count)
    assert len(seen) <= 4


def test_every_thread_serves_when_all_are_needed(worker: WsgiWorker) -> None:
    worker.journal()
    with WsgiWorker(threads=5) as other:
        waiting = [other.call("/wait") for _ in range(4)]
        other.until(lambda: all(other.started(a) for a in waiting))
        other.open("wait")
        for answer in waiting:
            other.wait(answer)
        assert len({answer.json() for answer in waiting}) == 4


def test_a_request_runs_in_a_copy_of_the_context_after_import(worker: WsgiWorker) -> None:
    for _ in range(8):
        worker.journal()
        worker.get("/context")
        assert worker.journal() == [["import", "request", "iteration"]]


@pytest.mark.skipif("GUADO_TEST_PRELOAD" in os.environ, reason="a sanitizer keeps what was freed")
def test_requests_leave_no_objects_and_no_memory_behind(worker: WsgiWorker) -> None:
    with WsgiWorker(threads=2) as own:
        paths = [
            "/hello",
            "/streamed",
            "/closing",
            "/fails",
            "/exc_info_before",
            "/several",
            "/hints",
            "/after_length",
            "/closing_error",
            "/one_long",
            "/write_first",
            "/write_fresh",
            "/buffers",
            "/bad_body",
            "/start_caught",
            "/lazy_start",
        ]

        def turn() -> None:
            for path in paths:
                own.get(path)
            own.get("/file", query=b"how=buffered")
            own.post("/read_script", b"a\nb\nc", query=b"readline();read()")
            own.post("/echo", b"x" * 70_000)
            for answer in own.answers.values():
                for sequence, _, _ in answer.files:
                    os.close(own.descriptor(answer, sequence))
            own.answers.clear()
            own.journal()

        for _ in range(100):
            turn()
        before = own.json("/stats")
        for _ in range(300):
            turn()
        after = own.json("/stats")
        assert after["objects"] - before["objects"] < 50
        assert after["rss"] - before["rss"] < 1 << 20


def test_reference_cycles_of_the_application_are_collected(worker: WsgiWorker) -> None:
    for _ in range(50):
        worker.get("/cycle")
    before = worker.json("/stats")["objects"]
    for _ in range(500):
        worker.get("/cycle")
    assert worker.json("/stats")["objects"] - before < 50


def test_a_forked_child_never_speaks_for_its_parent(
    worker: WsgiWorker, capfd: pytest.CaptureFixture[str]
) -> None:
    with WsgiWorker() as parent:
        answer = parent.get("/forks")
        assert (answer.json(), answer.kinds) == (0, [COMMIT])
        assert "LinkClosed" in capfd.readouterr().err
        assert parent.get("/hello").body == b"hello"


def test_trace_functions_of_threading_follow_the_pool(worker: WsgiWorker) -> None:
    with WsgiWorker({"target": "wsgi_apps_process:make_traced", "factory": True}) as other:
        assert other.json("/") == [True, True]


def test_both_kinds_of_applications_share_a_worker(worker: WsgiWorker) -> None:
    asgi = {"target": "wsgi_apps_process:asgi", "kind": "asgi"}
    with WsgiWorker("wsgi_apps:app", asgi) as mixed:
        held = mixed.call("/wait")
        mixed.until(lambda: mixed.started(held))
        for _ in range(3):
            answer = mixed.wait(mixed.call("/", app=1, headers=[(b"host", b"example")]))
            assert (answer.status, answer.body) == (200, b"from asgi")
            assert mixed.get("/hello").body == b"hello"
        mixed.open("wait")
        assert mixed.wait(held).status == 200
        mixed.drain()
        assert mixed.exit() == 0
