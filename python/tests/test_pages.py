"""Turns of pages, sent to the hidden application of a real worker as the host sends them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import guado
import pytest
from asgi_host import DEADLINE, INTERRUPT, PING, Answer
from guado import events, pages
from push_host import WAYS, PushWorker, said

numbers = itertools.count()


class Tab:
    """A page of a class, as the host has it."""

    def __init__(self, worker: PushWorker, cls: str = "Board", **about: Any) -> None:
        self.worker = worker
        self.about = {"page": f"P{next(numbers)}", "class": cls} | about
        self.id = self.about["page"]

    def begin(self, do: str, **more: Any) -> Answer:
        return self.worker.turn(do, **self.about | more)

    def turn(self, do: str, **more: Any) -> tuple[int, Any]:
        return said(self.worker.wait(self.begin(do, **more)))

    def open(self, **more: Any) -> None:
        assert self.turn("open", opened=False, **more) == (200, {})

    def ask(self, data: Any = None, **more: Any) -> Any:
        status, answer = self.turn("request", data=data, **more)
        assert status == 200, answer
        return answer["data"]


@pytest.fixture(params=WAYS, scope="module")
def worker(request: pytest.FixtureRequest) -> Iterator[PushWorker]:
    env = {"TEST_ASYNC": "yes"} if request.param.startswith("asgi") else {}
    with PushWorker(request.param, "pages_apps", env=env) as worker:
        yield worker
        assert worker.stop() == 0


@pytest.fixture(autouse=True)
def notes(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What handlers have noted since the last call."""
    if "worker" not in request.fixturenames:
        yield lambda: []
        return
    worker = request.getfixturevalue("worker")
    tab = Tab(worker, "Notes")
    tab.open()
    tab.ask()
    worker.logs.clear()
    yield tab.ask


def test_what_the_worker_declares_before_it_is_ready(worker: PushWorker) -> None:
    (declared,) = worker.of("worker.declares")
    found = {one["name"]: one for one in declared["classes"]}
    assert found["Board"] == {"name": "Board", "app": "app0", "concurrent": [], "events": True}
    assert found["bare"]["events"] is False
    assert found["Beside"]["concurrent"] == ["on_message"]
    assert "_Base" not in found
    topics = [one["topic"] for one in declared["topics"]]
    assert topics[:2] == ["invoice.*", ">"]
    assert {one["app"] for one in declared["topics"]} == {"app0"}


def test_an_object_lives_from_turn_to_turn(worker: PushWorker, notes: Any) -> None:
    tab = Tab(worker, args={"size": 3}, user="anna")
    tab.open()
    assert tab.ask(1) == [1]
    assert tab.turn("message", data={"x": 2}) == (200, {})
    assert tab.ask(None) == [1, {"x": 2}, None]
    assert tab.turn("snapshot") == (200, {"data": [1, {"x": 2}, None]})
    assert tab.turn("event", topic="a.b", data=7) == (200, {})
    assert tab.turn("close", why="bye") == (200, {})
    assert notes() == [
        ["open", tab.id, False, 3, "anna"],
        ["event", "a.b", 7],
        ["close", tab.id, "bye"],
    ]


def test_an_object_that_is_gone_is_made_anew(worker: PushWorker, notes: Any) -> None:
    tab = Tab(worker, args={"size": 3})
    assert tab.ask("x", opened=True) == ["x"]
    assert tab.turn("open", opened=True) == (200, {})  # it is there
    assert tab.ask("y") == ["x", "y"]
    never = Tab(worker)
    assert never.turn("close", why="evicted") == (200, {})
    assert notes() == [
        ["open", tab.id, True, 3, None],
        ["open", never.id, True, None, None],
        ["close", never.id, "evicted"],
    ]


def test_a_page_that_is_opened_again_begins_anew(worker: PushWorker) -> None:
    tab = Tab(worker)
    tab.open()
    assert tab.ask(1) == [1]
    tab.open()
    assert tab.ask(2) == [2]


def test_a_handler_that_fails_is_logged_and_its_page_goes_on(worker: PushWorker) -> None:
    tab = Tab(worker)
    tab.open()
    answer = tab.begin("request", data="crash")
    worker.wait(answer)
    failed = {"code": "failed", "message": "the handler of the page has failed"}
    assert (answer.status, answer.json()) == (500, failed)
    worker.until(lambda: any(stream == answer.stream for stream, _, _ in worker.logs))
    (text,) = [text for stream, _, text in worker.logs if stream == answer.stream]
    assert "LookupError: the secret reason" in text
    assert text.startswith("Exception in page class Board, on_message\nTraceback")
    assert 'pages_apps.py", line' in text
    assert "worker/pages.py" not in text
    assert tab.turn("request", data="set") == (500, failed)
    worker.until(
        lambda: any("what on_message returned is of type set" in log[2] for log in worker.logs)
    )
    assert tab.ask("on") == ["on"]


def test_a_page_error_is_the_clients_to_read(worker: PushWorker) -> None:
    tab = Tab(worker)
    tab.open()
    assert tab.turn("request", data="refuse") == (400, {"code": "not_now", "message": "è tardi"})
    refused = Tab(worker, args={"refuse": True})
    assert refused.turn("open", opened=False)[1]["code"] == "full"
    assert refused.turn("request", opened=False)[1]["code"] == "full"  # no object is left
    assert refused.turn("request", opened=True)[0] == 403  # the page, and not this message
    crashed = Tab(worker, args={"crash": True})
    assert crashed.turn("open", opened=False)[0] == 500
    assert crashed.turn("request", opened=True)[0] == 500  # it is made anew, for this message
    head = "Exception in page class Board, on_open\n"
    worker.until(lambda: sum(log[2].startswith(head) for log in worker.logs) == 2)
    assert not [log for log in worker.logs if "tardi" in log[2] or "boards" in log[2]]


def test_a_class_that_is_not_there_and_handlers_that_are_not_written(worker: PushWorker) -> None:
    for name in ("Nobody", "_Base"):
        assert Tab(worker, name).turn("open", opened=False)[0] == 404
    bare = Tab(worker, "bare")
    bare.open()
    assert bare.turn("request")[1]["code"] == "no_handler"
    assert bare.turn("event", topic="a")[1]["code"] == "no_handler"
    assert bare.turn("snapshot") == (200, {})
    assert bare.turn("close", why="bye") == (200, {})


def test_handlers_speak_to_the_host_as_their_page(worker: PushWorker) -> None:
    tab = Tab(worker, user="anna", connection="C5")
    tab.open()
    worker.asked.clear()
    assert tab.ask("push") == 2
    assert worker.of("push") == [
        {"to": {"page": tab.id}, "data": {"from": tab.id}},
        {"to": {"page": tab.id}, "data": "again"},
    ]
    assert tab.ask("who") == ["anna", "C5", "anna", "C5"]
    assert tab.ask("who", user="berta")[0] == "berta"
    assert tab.ask("subscribe") is None
    verbs = [one.verb for one in worker.asked][2:]
    assert verbs == ["page.subscribe", "page.unsubscribe", "push", "page.end"]
    assert tab.turn("request", data="login")[0] == 500  # there is no answer that sets a cookie


def test_those_who_come_while_an_object_opens_wait_for_it(worker: PushWorker) -> None:
    tab = Tab(worker, "Board", args={"wait": True})
    gate = Tab(worker, "Beside")
    gate.open()
    first, second = tab.begin("request", data=1), tab.begin("request", data=2)
    assert worker.quiet(lambda: first.status or second.status)
    assert gate.ask("open") is True
    worker.wait(first)
    worker.wait(second)
    moves = [one.json() for one in (first, second)]
    assert sorted(max(moves, key=len)) == [1, 2]  # of one object, on which both have run


def test_marked_handlers_run_beside_each_other(worker: PushWorker) -> None:
    tab = Tab(worker, "Beside")
    tab.open()
    waiting = [tab.begin("request", data="wait") for _ in range(2)]
    assert tab.ask("open") is True
    for answer in waiting:
        assert worker.wait(answer).json() is True


def test_events_reach_all_functions_that_hear_them(worker: PushWorker, notes: Any) -> None:
    assert worker.turned("on", topic="invoice.paid", data={"id": 1}) == (200, {})
    assert worker.turned("on", topic="other") == (200, {})
    assert worker.turned("on", topic="invoice.paid", data="crash")[0] == 500
    assert notes() == [
        ["archive", "invoice.paid", {"id": 1}],
        ["all", "invoice.paid", {"id": 1}],
        ["all", "other", None],
        ["archive", "invoice.paid", "crash"],
        ["all", "invoice.paid", "crash"],
    ]
    head = "Exception in pages_apps.archive, which hears 'invoice.paid'\nTraceback"
    worker.until(lambda: any(log[2].startswith(head) for log in worker.logs))


def test_coroutines_run_on_the_loop_and_functions_in_threads(
    worker: PushWorker, notes: Any
) -> None:
    plain = Tab(worker)
    plain.open()
    name = plain.ask("thread")
    if worker.kind == "wsgi":
        assert name.startswith("guado-wsgi-")
        return
    assert name.startswith("asyncio")
    tab = Tab(worker, "Later")
    tab.open()
    assert tab.ask() == [1, tab.id, True]
    assert tab.ask() == [2, tab.id, True]
    assert tab.turn("request", data="crash")[0] == 500
    assert worker.turned("on", topic="later.now", data=1) == (200, {})
    assert ["later", "later.now", 1] in notes()


def test_a_handler_past_its_deadline_is_interrupted(worker: PushWorker, notes: Any) -> None:
    if worker.kind == "wsgi":
        pytest.skip("a thread that sleeps is left alone: test_interrupt.py")
    tab = Tab(worker, "Later")
    tab.open()
    answer = tab.begin("request", data="sleep")
    worker.until(lambda: worker.get("/", headers=[]).status == 200)  # it has begun by now
    worker.send(INTERRUPT, answer.stream, arg=DEADLINE)
    worker.send(PING, 0)
    worker.until(lambda: answer.over)
    assert ["cancelled", tab.id] in notes()
    assert tab.ask() == [1, tab.id, True]  # its object is there still


def test_a_coroutine_in_a_wsgi_application_is_refused_at_its_boot() -> None:
    with PushWorker("wsgi--socket", "pages_apps", env={"TEST_ASYNC": "yes"}, boot=False) as worker:
        worker.until(lambda: worker.failed)
        assert worker.failed is not None
        assert (worker.failed["stage"], worker.failed["app"]) == ("kind", "app0")
        assert (
            "page class pages_apps.Later: async def on_open needs an event loop, which the WSGI "
            "application 'app0' has not; write def on_open" in str(worker.failed["message"])
        )


# -- without a worker


def test_what_cannot_be_a_page_class() -> None:
    with pytest.raises(TypeError, match=r"on_open cannot be @guado\.concurrent"):

        class Wrong(guado.Page):
            @guado.concurrent
            def on_open(self, *, reopened: bool = False) -> None: ...

    def make(name: str) -> type[guado.Page]:
        cls = type("Twice", (guado.Page,), {"__module__": name})
        assert issubclass(cls, guado.Page)
        return cls

    assert make("one") is not make("one")
    with pytest.raises(TypeError, match=r"two page classes are named 'Twice': one.Twice and two"):
        make("two")


# What the host takes for none either: internal/bus/topic_test.go.
NO_TOPICS = ["", ".", "a.", "a..b", "a*", "a.>.b", "x>", "in voice", "a\nb", "a\x00", "\u00a0"]
NO_TOPICS += ["ä" * 129, "a." * 16 + "a"]


@pytest.mark.parametrize("topic", NO_TOPICS)
def test_what_cannot_be_a_topic_is_refused_by_the_call(topic: str) -> None:
    for call in (guado.publish, guado.on, guado.page("P1").subscribe):
        with pytest.raises(ValueError, match="is no topic: "):
            call(topic)


def test_a_topic_needs_its_words() -> None:
    for topic in ("a.*", ">", "*.a"):
        guado.on(topic)
        with pytest.raises(ValueError, match="wildcards are for subscriptions"):
            guado.publish(topic)
    for topic in ("größe.änderung", "user.anna@example.org.notify", "ä" * 128, "a." * 15 + "a"):
        guado.on(topic)
    with pytest.raises(TypeError, match=r'@guado\.on\("invoice'):
        guado.on(lambda topic, data: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "topic", "hears"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*", "a.b", False),
    ],
)
def test_which_topics_a_subscription_hears(pattern: str, topic: str, hears: bool) -> None:
    assert events.matches(pattern, topic) is hears


def test_without_a_request_there_is_no_page() -> None:
    with pytest.raises(guado.NoRequest):
        guado.new_page()
    assert not pages.is_concurrent(guado.Page.on_message)


def test_what_nobody_can_use_in_phase_0_is_in_the_log() -> None:
    with PushWorker("wsgi--socket", "pages_apps", phase=0) as worker:
        note = "page class pages_apps.Board (and 5 more): nothing comes to it in phase 0; "
        logs = [(level, text) for _, level, text in worker.logs if "phase 0" in text]
        assert logs == [(2, note + "write phase = 3 under [server]")]
