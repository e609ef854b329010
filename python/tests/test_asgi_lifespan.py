"""docs/traps.md, ASGI 7: lifespan 2.0."""

from __future__ import annotations

from typing import Any

import pytest
from asgi_host import Worker

pytest_plugins = ["asgi_fixtures"]


def failure(target: str, **app: object) -> dict[str, Any]:
    """FAILED of a worker that must not boot."""
    with Worker({"target": target, **app}, boot=False) as worker:
        worker.until(lambda: worker.failed or worker.ready)
        assert worker.ready is None
        assert worker.failed is not None
        worker.exit()
        return worker.failed


def test_lifespan_runs_once_around_all_requests(
    loop_env: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    with Worker("asgi_apps_lifespan:lifespan", env=loop_env) as worker:
        assert worker.get("/seen/lifespan").json() == "started"
        assert worker.stop() == 0
        assert worker.errors() == []
    assert capfd.readouterr().err.splitlines() == ["startup one", "shutdown one", "left one"]


def test_each_request_gets_a_shallow_copy_of_the_state(loop_env: dict[str, str]) -> None:
    """ASGI 4."""
    with Worker("asgi_apps_lifespan:lifespan", env=loop_env) as worker:
        for turn in range(3):
            state = worker.get("/state").json()
            assert state == {"name": "shared", "list": ["x"] * turn}
        assert worker.stop() == 0


def test_what_startup_puts_into_the_context_does_not_reach_requests() -> None:
    with Worker("asgi_apps_lifespan:lifespan") as worker:
        assert worker.get("/context").json() == ["import", "leaked again"]


def test_several_applications_start_in_order_and_stop_in_reverse(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Worker(
        "asgi_apps_lifespan:lifespan", "asgi_apps:app", "asgi_apps_lifespan:lifespan_two"
    ) as worker:
        assert worker.get("/hello", app=2).body == b"hello"
        assert worker.stop() == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("left")]
    assert lines == ["startup one", "startup two", "shutdown two", "shutdown one"]


@pytest.mark.parametrize(
    "target", ["asgi_apps:app", "asgi_apps_lifespan:startup_returns", "asgi_apps_tasks:sync_raises"]
)
def test_an_application_without_lifespan_is_served_without_a_word(target: str) -> None:
    """Django raises ValueError."""
    with Worker({"target": target, "kind": "asgi"}) as worker:
        worker.get("/hello")
        assert [line for line in worker.logs if line[1] >= 2 and line[0] == 0] == []
        assert worker.stop() == 0


@pytest.mark.parametrize(
    "target", ["asgi_apps_lifespan:startup_raises", "asgi_apps_lifespan:startup_exits"]
)
def test_an_exception_in_startup_is_tolerated_by_auto(target: str) -> None:
    with Worker(target) as worker:
        assert worker.get("/hello").body == b"hello"
        assert worker.stop() == 0


def test_an_exception_behind_lifespan_startup_is_at_least_shown() -> None:
    with Worker("asgi_apps_lifespan:startup_raises") as worker:
        worker.get("/hello")
        (warning,) = [text for stream, level, text in worker.logs if level == 2]
        assert warning.startswith("app app0: exception after lifespan.startup; going on without")
        assert warning.endswith("CustomError: in startup")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("asgi_apps_lifespan:startup_raises", "asgi_apps_tasks.CustomError: in startup"),
        ("asgi_apps:app", "ValueError: this application knows http only"),
        (
            "asgi_apps_lifespan:startup_returns",
            "the application returned without lifespan.startup.complete",
        ),
        (
            "asgi_apps_lifespan:startup_exits",
            "RuntimeError: the application raised SystemExit(3) in lifespan",
        ),
    ],
)
def test_with_lifespan_on_whatever_is_no_startup_is_a_failure(target: str, message: str) -> None:
    failed = failure(target, lifespan="on")
    assert (failed["stage"], failed["app"], failed["message"]) == ("lifespan", "app0", message)


def test_with_lifespan_off_the_application_never_hears_of_it() -> None:
    with Worker({"target": "asgi_apps_lifespan:startup_fails", "lifespan": "off"}) as worker:
        assert worker.get("/seen/lifespan").json() is None
        assert worker.stop() == 0


@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_a_startup_that_failed_ends_the_boot_with_its_message(lifespan: str) -> None:
    failed = failure("asgi_apps_lifespan:startup_fails", lifespan=lifespan)
    assert failed["stage"] == "lifespan"
    assert failed["message"] == "no database at 10.0.0.1"


def test_a_traceback_as_message_is_shown_as_one_with_its_last_line_first() -> None:
    """Starlette sends the whole traceback."""
    failed = failure("asgi_apps_lifespan:starlette_fails")
    assert failed["message"] == "OSError: no db"
    assert failed["traceback"].startswith("Traceback (most recent call last):")


def test_applications_that_had_started_are_shut_down_when_a_later_one_fails(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Worker(
        "asgi_apps_lifespan:lifespan", "asgi_apps_lifespan:startup_fails", boot=False
    ) as worker:
        worker.until(lambda: worker.failed)
        worker.exit()
    assert "shutdown one" in capfd.readouterr().err.splitlines()


def test_a_failed_shutdown_is_logged_and_the_worker_still_ends(loop_env: dict[str, str]) -> None:
    with Worker("asgi_apps_lifespan:shutdown_fails", env=loop_env) as worker:
        assert worker.stop() == 0
        assert worker.errors() == ["app app0: lifespan shutdown failed: could not flush"]


def test_an_exception_in_shutdown_is_logged(loop_env: dict[str, str]) -> None:
    with Worker("asgi_apps_lifespan:shutdown_raises", env=loop_env) as worker:
        assert worker.stop() == 0
        (logged,) = worker.errors()
        assert logged.endswith("CustomError: in shutdown")


def test_a_lifespan_that_breaks_while_serving_is_logged_and_serving_goes_on() -> None:
    with Worker("asgi_apps_lifespan:serving_raises") as worker:
        worker.signal("break")
        worker.until(worker.errors)
        (logged,) = worker.errors()
        assert logged.endswith("CustomError: while serving")
        assert worker.get("/hello").body == b"hello"
        assert worker.stop() == 0


def test_an_application_that_receives_for_ever_is_left_behind(loop_env: dict[str, str]) -> None:
    with Worker("asgi_apps_lifespan:lifespan_loops", env=loop_env) as worker:
        assert worker.stop() == 0
        assert worker.errors() == []


def test_shutdown_comes_only_after_the_last_request(capfd: pytest.CaptureFixture[str]) -> None:
    with Worker("asgi_apps_lifespan:lifespan") as worker:
        answer = worker.request("GET", "/background-sleep")
        worker.until(lambda: answer.ended)
        worker.drain()
        worker.wait(answer)
        assert worker.exit() == 0
    assert "shutdown one" in capfd.readouterr().err


def test_a_loop_made_at_import_is_the_one_that_serves() -> None:
    """asyncio.get_event_loop() at module level, as older libraries do."""
    with Worker("asgi_loop_at_import:app") as worker:
        assert worker.get("/").body == b"same loop"
        assert worker.stop() == 0
