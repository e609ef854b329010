"""Push, identity and events, from every place of an application, over a real link."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import guado
import pytest
from asgi_host import DEADLINE, INTERRUPT
from guado import _host
from push_host import WAYS, PushWorker, Refused


@pytest.fixture(params=WAYS, scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[PushWorker]:
    with PushWorker(request.param) as worker:
        yield worker
        assert worker.stop() == 0


@pytest.fixture
def worker(shared: PushWorker) -> Iterator[PushWorker]:
    """The module's worker, whose host answers as at first."""
    verbs = dict(shared.verbs)
    shared.asked.clear()
    shared.withdrawn.clear()
    shared.held.clear()
    shared.logs.clear()
    yield shared
    shared.verbs = verbs


@pytest.fixture(params=["wsgi--shm", "asgi-asyncio-socket"])
def own(request: pytest.FixtureRequest) -> Iterator[PushWorker]:
    """A worker that a test spoils."""
    with PushWorker(request.param, env={"TEST_AT_IMPORT": "yes"}) as worker:
        yield worker


PUSHED = [2, 1, None]


@pytest.mark.parametrize(
    ("name", "verb", "data", "result"),
    [
        ("page", "push", {"to": {"page": "P1"}, "data": {"n": [1, "è"]}}, PUSHED),
        ("current", "push", {"to": {"page": "P7"}, "data": "here"}, PUSHED),
        (
            "snapshot",
            "push",
            {"to": {"page": "P1"}, "data": {"all": 1}, "snapshot": True},
            PUSHED,
        ),
        ("user", "push", {"to": {"user": "anna"}, "data": 1}, PUSHED),
        ("connection", "push", {"to": {"connection": "C7"}, "data": 1}, PUSHED),
        ("broadcast", "push", {"to": {"all": True}, "data": None}, PUSHED),
        ("ack", "push.wait", {"to": {"page": "P1"}, "data": 1, "timeout_ms": 1500}, [2, 1, 1]),
        ("ackall", "push.wait", {"to": {"all": True}, "data": 1}, [2, 1, 1]),
        ("publish", "publish", {"topic": "invoice.paid", "data": {"id": 7}}, [3, 1]),
        ("subscribe", "page.subscribe", {"page": "P1", "topic": "invoice.*"}, None),
        ("unsubscribe", "page.unsubscribe", {"page": "P1", "topic": "invoice.*"}, None),
        ("end", "page.end", {"page": "P1"}, None),
    ],
)
def test_what_is_asked_of_the_host_from_a_request_and_from_a_thread(
    worker: PushWorker, name: str, verb: str, data: Any, result: Any
) -> None:
    for path in (f"/{name}", f"/thread/{name}"):
        assert worker.run(path, page="P7", connection="C7", exchange="5") == result
        assert worker.asked[-1].verb == verb
        assert worker.asked[-1].data == data


def test_a_coroutine_awaits_what_it_asks(worker: PushWorker) -> None:
    if worker.kind == "wsgi":
        pytest.skip("has no coroutines")
    assert worker.run("/await/page") == PUSHED
    assert worker.run("/await/ack") == [2, 1, 1]
    assert worker.run("/await/publish") == [3, 1]
    assert worker.run("/await/gone")[0] == "NoPage"
    assert worker.run("/await/login", exchange="5") is None
    worker.verbs["push"] = None
    assert worker.run("/await/cancelled")[0] == "TimeoutError"
    worker.until(lambda: worker.withdrawn == [worker.asked[-1].id])


def test_an_answer_that_does_not_come_ends_the_wait_alone(worker: PushWorker) -> None:
    worker.verbs["push"] = None
    assert worker.run("/short")[0] == "TimeoutError"
    (held,) = worker.held
    worker.reply(held, {"pages": 0, "connected": 0})  # late
    worker.verbs["push"] = lambda _: {"pages": 2, "connected": 1}
    assert worker.run("/broadcast") == PUSHED


@pytest.mark.parametrize("name", ["broadcast", "opened", "crowd"])
def test_the_deadline_of_the_request_ends_a_wait(worker: PushWorker, name: str) -> None:
    if worker.kind == "asgi":
        pytest.skip("a coroutine is cancelled: test_interrupt.py")
    worker.verbs["push"] = worker.verbs["page.get"] = None
    answer = worker.call(f"/{name}", page="P7")
    worker.until(lambda: worker.held)
    worker.send(INTERRUPT, answer.stream, arg=DEADLINE)
    worker.wait(answer)
    assert answer.abort == (3, "")
    for one in worker.held:
        worker.reply(one, {"pages": 0, "connected": 0})


def test_refusals_are_exceptions_with_their_code(worker: PushWorker) -> None:
    assert worker.run("/gone") == ["NoPage", "there is no page gone", "no_page"]
    for code, name in [
        ("head_sent", "TooLate"),
        ("no_exchange", "TooLate"),
        ("queue_full", "HostError"),
        ("something_new", "HostError"),
    ]:

        def refuse(_: Any, code: str = code) -> Any:
            raise Refused(409, code)

        worker.verbs["login"] = refuse
        assert worker.run("/login", exchange="5") == [name, "in words", code]
    assert worker.run("/date") == [
        "TypeError",
        "data['at'][0] is of type date, which JSON does not have; send value.isoformat()",
        "",
    ]


def test_the_client_of_a_request_is_known_without_asking(worker: PushWorker) -> None:
    fields = {"exchange": "5", "connection": "C7", "user": "anna", "page": "P7"}
    assert worker.run("/touched", **fields) == ["anna", "C7", "anna"]
    assert worker.run("/thread/touched", **fields) == ["anna", "C7", "anna"]
    assert not worker.of("touch")
    assert worker.run("/opened", **fields) == ["P7", "anna", "C1", True]
    assert worker.of("page.get") == [{"page": "P7"}] * 3


def test_a_connection_is_made_when_the_application_touches_it(worker: PushWorker) -> None:
    assert worker.run("/touched", exchange="5") == [None, "C1", None]
    assert worker.of("touch") == [{"exchange": 5}]


def test_a_login_is_done_before_the_answer(worker: PushWorker) -> None:
    worker.verbs["login"] = None
    answer = worker.call("/login", exchange="5", connection="C7")
    worker.until(lambda: worker.held)
    assert worker.of("login") == [{"exchange": 5, "user": "berta", "flag": "bl"}]
    assert worker.quiet(lambda: answer.status)
    worker.reply(worker.held[0], {"connection": "C7", "user": "berta"})
    assert worker.wait(answer).json() == ["berta", "C7"]
    assert worker.run("/logout", exchange="5", connection="C7", user="anna") is None
    assert worker.of("logout") == [{"exchange": 5}]


def test_a_page_is_opened_for_the_answer_that_is_it(worker: PushWorker) -> None:
    assert worker.run("/open", exchange="5") == ["P9", "P9"]
    assert worker.of("page.open") == [{"exchange": 5, "class": "Board", "args": {"size": 3}}]


def test_what_needs_a_request_says_so(worker: PushWorker) -> None:
    assert worker.run("/current", exchange="5")[0] == "NoPage"
    assert worker.run("/login")[0] == "NoRequest"
    assert worker.run("/open")[0] == "NoRequest"
    assert worker.run("/form")[:2] == ["TypeError", "the id of a page is text, not ''"]


def test_more_pushes_than_may_be_under_way_wait_for_their_turn(worker: PushWorker) -> None:
    assert worker.run("/many") == 10_000
    assert [data["data"] for data in worker.of("push")] == list(range(5000))


def replied_when_published(worker: PushWorker) -> None:
    """A push is answered when something is published, and no sooner."""
    worker.verbs["push"] = None

    def publish(_: Any) -> Any:
        worker.reply(worker.held[0], {"pages": 7, "connected": 0})
        return {"pages": 0, "workers": 0}

    worker.verbs["publish"] = publish


def test_the_loop_reads_the_reply_that_it_waits_for(worker: PushWorker) -> None:
    if worker.kind == "wsgi":
        pytest.skip("there is no loop")
    replied_when_published(worker)
    # While the loop's thread leads nobody else reads: so it was this thread that has read the
    # reply, which came afterwards.
    assert worker.run("/leads") == [True, 7]


def test_a_thread_that_waits_for_a_reply_is_woken_by_no_other_one(worker: PushWorker) -> None:
    assert worker.run("/alone") is True
    beside = worker.run("/thread/alone")
    # Beside a loop only its own thread may read.
    assert beside is (worker.kind == "wsgi")


def test_a_wait_that_took_too_long_can_go_on(worker: PushWorker) -> None:
    replied_when_published(worker)
    assert worker.run("/late") == 7


def test_an_error_that_nobody_looks_at_is_logged(worker: PushWorker) -> None:
    def refuse(_: Any) -> Any:
        raise Refused(503, "queue_full", "no room")

    worker.verbs["push"] = refuse
    assert worker.run("/nobody") is None
    end = time.monotonic() + worker.timeout
    while not (logged := worker.run("/logged")):
        assert time.monotonic() < end
    assert logged == ["asked of the host, and not done: no room (queue_full)"]


def test_pages_that_are_gone_and_nobody_looks_are_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(_host, "_gone", _host._Gone())
    monkeypatch.setattr(_host.time, "monotonic", lambda: now[0])

    def forget(looked: bool = False) -> None:
        delivery = guado.Delivery()
        delivery.set_exception(guado.NoPage("there is no page P1", "no_page"))
        if looked:
            delivery.exception()

    forget(looked=True)
    assert not caplog.messages
    for _ in range(3):
        forget()
    now[0] += 61
    forget()
    what = "asked of the host, and not done: there is no page P1 (no_page)"
    assert caplog.messages == [what, what + "; 2 more pages since the last such line"]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_forked_child_is_told_that_it_has_no_host(worker: PushWorker) -> None:
    name, text, code = worker.run("/fork")
    assert (name, code) == ("HostError", "forked")
    assert "run the function on an executor" in text


def test_what_is_declared_later_is_told_again(own: PushWorker) -> None:
    assert own.run("/imported") == [[3, 1]]  # asked of the host while it was imported
    first = own.of("worker.declares")
    assert first == [{"classes": [], "topics": []}]
    own.run("/declare")
    own.until(lambda: len(own.of("worker.declares")) == 3)
    assert own.of("worker.declares")[-1] == {
        "classes": [{"name": "Later", "app": "app0", "concurrent": [], "events": False}],
        "topics": [{"app": "app0", "topic": "later.*"}],
    }
    assert own.turned("on", topic="later.now", data=3) == (200, {})
    assert own.run("/heard") == [["later.now", 3]]


@pytest.mark.parametrize("way", ["wsgi--shm", "asgi-asyncio-socket"])
def test_before_phase_3_the_error_says_what_to_do(way: str) -> None:
    with PushWorker(way, phase=0) as worker:
        for name in ("page", "current", "connection", "publish", "open", "login", "fork"):
            kind, text, code = worker.run(f"/{name}")
            assert (kind, code) == ("PhaseError", "phase"), name
            assert "phase = 3 under [server]" in text
        assert not worker.asked
