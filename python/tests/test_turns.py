"""Waits for turns of pages and locks of stores: what would never end is refused at once, and
named, whoever waits in a thread, a coroutine or a handler."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import guado
import pytest
from guado import testing
from guado.testing import Client, OpenPage, Worker

PATIENCE = 60.0  # nothing here takes that long, unless it hangs


class Asks(guado.Page):
    """Wants what somebody else has."""

    def on_message(self, data: Any) -> Any:
        """Does what the test has set, as the page's handler."""
        return steps[data](self)


class AsksLater(guado.Page):
    """The same by a coroutine."""

    async def on_message(self, data: Any) -> Any:
        """Does what the test has set, as the page's handler."""
        return await steps[data](self)


steps: dict[str, Callable[[Any], Any]] = {}


@pytest.fixture
def w() -> Iterator[Worker]:
    steps.clear()
    with testing.worker() as worker:
        yield worker


class Pair:
    """Two pages, and what both sides of a scenario have told."""

    def __init__(self, w: Worker, cls: type[guado.Page] = Asks) -> None:
        self.w = w
        self.client: Client = w.client("ada")
        self.a, self.b = self.client.open(cls), self.client.open(cls)
        self.both = threading.Barrier(2, timeout=PATIENCE)
        self.told: list[BaseException] = []

    def thread(self, function: Callable[[], None], page: OpenPage) -> threading.Thread:
        def run() -> None:
            with self.w.request(page=page):
                self.noted(function)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def noted(self, function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            self.told.append(error)

    def deadlock(self, *threads: threading.Thread) -> str:
        """One of both was refused, and the other one went on."""
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "both wait"
        assert [type(e) for e in self.told] == [guado.Deadlock], self.told
        return str(self.told[0])


def held(
    first: Callable[[], Any], both: threading.Barrier, then: Callable[[], Any]
) -> Callable[[], None]:
    """Has one, and when the other side has the other one wants that."""

    def run() -> None:
        with first():
            both.wait()
            with then():
                pass

    return run


@pytest.mark.parametrize("wanted", ["turn", "lock", "transaction"])
@pytest.mark.parametrize("had", ["turn", "lock", "transaction"])
def test_a_cycle_over_turns_and_locks_is_refused_at_once_and_named(
    w: Worker, had: str, wanted: str
) -> None:
    pair = Pair(w)

    def of(kind: str, page: OpenPage) -> Callable[[], Any]:
        handle = guado.page(page.id)
        return handle.turn if kind == "turn" else getattr(handle.store, kind)

    mine, other = of(had, pair.a), of(wanted, pair.b)
    said = pair.deadlock(
        pair.thread(held(mine, pair.both, other), pair.a),
        pair.thread(held(other, pair.both, mine), pair.b),
    )
    for kind, page in ((had, pair.a), (wanted, pair.b)):
        what = "the turn of" if kind == "turn" else "the lock of"
        assert f"{what} page {page.id}" in said
    assert said.count("request ") >= 3  # who waits, who has what, and who has what that wants


def test_three_that_wait_for_each_other_are_named(w: Worker) -> None:
    pair = Pair(w)
    c = pair.client.open(Asks)
    pages = [pair.a, pair.b, c]
    all_have = threading.Barrier(3, timeout=PATIENCE)
    turns = [guado.page(page.id).turn for page in pages]
    threads = [
        pair.thread(held(turns[i], all_have, turns[(i + 1) % 3]), pages[i]) for i in range(3)
    ]
    said = pair.deadlock(*threads)
    assert all(page.id in said for page in pages)


def test_handlers_that_want_each_others_turns_are_refused_at_once(w: Worker) -> None:
    pair = Pair(w)

    def wants(page: OpenPage) -> Callable[[Any], None]:
        def run(handler: guado.Page) -> None:
            pair.both.wait()
            pair.noted(held(guado.page(page.id).turn, nobody, contextlib.nullcontext))

        return run

    nobody = threading.Barrier(1)
    steps["wants b"], steps["wants a"] = wants(pair.b), wants(pair.a)
    threads = [
        threading.Thread(target=pair.a.message, args=("wants b",), daemon=True),
        threading.Thread(target=pair.b.message, args=("wants a",), daemon=True),
    ]
    for thread in threads:
        thread.start()
    said = pair.deadlock(*threads)
    for page in (pair.a, pair.b):
        assert f"turn request of page {page.id}" in said
        assert f"the turn of page {page.id}" in said


@pytest.mark.parametrize("first", ["handler", "request"])
def test_a_handler_that_waits_for_who_wants_its_turn_is_in_a_cycle(w: Worker, first: str) -> None:
    pair = Pair(w)
    store = guado.page(pair.b.id).store
    locks = w._state.ledger.locks  # type: ignore[union-attr]

    def handler(page: guado.Page) -> None:
        pair.both.wait()
        if first == "request":
            waiting.wait(PATIENCE)
        pair.noted(held(store.lock, threading.Barrier(1), contextlib.nullcontext))

    def request() -> None:
        with store.lock():
            pair.both.wait()
            if first == "handler":
                waiting.wait(PATIENCE)
            with guado.page(pair.a.id).turn():
                pass

    waiting = threading.Event()
    begun = locks.wait_for

    def told(*args: Any) -> None:
        begun(*args)
        waiting.set()

    locks.wait_for = told  # type: ignore[method-assign]
    steps["lock"] = handler
    turn = threading.Thread(target=pair.a.message, args=("lock",), daemon=True)
    turn.start()
    said = pair.deadlock(turn, pair.thread(request, pair.b))
    assert f"turn request of page {pair.a.id}" in said
    assert f"the turn of page {pair.a.id}" in said
    assert f"the lock of page {pair.b.id}" in said


def test_coroutines_that_want_what_the_other_has_are_refused_at_once(w: Worker) -> None:
    pair = Pair(w)

    async def one(first: Any, then: Any, mine: asyncio.Event, other: asyncio.Event) -> None:
        with w.request(page=pair.a):
            try:
                async with first():
                    mine.set()
                    await other.wait()
                    async with then():
                        pass
            except guado.Deadlock as error:
                pair.told.append(error)

    async def both() -> None:
        turn, lock = guado.page(pair.a.id).turn, guado.page(pair.b.id).store.lock
        x, y = asyncio.Event(), asyncio.Event()
        tasks = [
            asyncio.create_task(one(turn, lock, x, y)),
            asyncio.create_task(one(lock, turn, y, x)),
        ]
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)

    asyncio.run(both())
    said = pair.deadlock()
    assert f"the turn of page {pair.a.id}" in said
    assert f"the lock of page {pair.b.id}" in said


def test_async_handlers_that_want_each_others_turns_are_refused_at_once(w: Worker) -> None:
    pair = Pair(w, AsksLater)
    both = asyncio.Barrier(2)

    def wants(page: OpenPage) -> Callable[[Any], Any]:
        async def run(handler: guado.Page) -> None:
            await both.wait()
            try:
                async with guado.page(page.id).turn():
                    pass
            except guado.Deadlock as error:
                pair.told.append(error)

        return run

    steps["wants b"], steps["wants a"] = wants(pair.b), wants(pair.a)
    threads = [
        threading.Thread(target=pair.a.message, args=("wants b",), daemon=True),
        threading.Thread(target=pair.b.message, args=("wants a",), daemon=True),
    ]
    for thread in threads:
        thread.start()
    assert "turn request of page" in pair.deadlock(*threads)


def test_who_waits_in_no_cycle_is_let_in(w: Worker) -> None:
    pair = Pair(w)
    order: list[str] = []

    def waits() -> None:
        with guado.page(pair.a.id).turn(), guado.page(pair.b.id).store.lock():
            order.append("waits")

    with w.request(page=pair.a), guado.page(pair.a.id).turn():
        thread = pair.thread(waits, pair.b)
        with guado.page(pair.b.id).turn(), guado.page(pair.b.id).store.transaction():
            order.append("has")
    thread.join(PATIENCE)
    assert (order, pair.told) == (["has", "waits"], [])
    assert not w._state.ledger.locks.waiting  # type: ignore[union-attr]
    assert not w._state.ledger.locks.turns  # type: ignore[union-attr]


def test_a_turn_that_is_not_had_in_time_says_who_has_it(w: Worker) -> None:
    pair = Pair(w)

    def late() -> None:
        with guado.page(pair.a.id).turn(timeout=0.01):
            pass

    with w.request(page=pair.a), guado.page(pair.a.id).turn():
        pair.thread(late, pair.b).join(PATIENCE)
    (error,) = pair.told
    assert isinstance(error, guado.LockTimeout)
    assert isinstance(error, guado.HostError)
    assert error.code == "deadline"
    assert f"page {pair.a.id}" in str(error)
    assert traceback.format_exception_only(error)[0].startswith("guado.LockTimeout: ")
    assert "request " in str(error)
    with guado.page(pair.a.id).turn(timeout=0.01):
        pass


def test_a_turn_that_is_entered_and_not_left_ends_with_its_request(
    w: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(w)
    with w.request(page=pair.a):
        turn = guado.page().turn()
        turn.__enter__()
    (line,) = [one.getMessage() for one in caplog.records]
    assert f"the turn of page {pair.a.id}, which it had entered and not left" in line
    with w.request(page=pair.b), guado.page(pair.a.id).turn(timeout=0.01):
        turn.__exit__()  # too late: it is somebody else's now
        pair.thread(lambda: guado.page(pair.a.id).turn(timeout=0.01).__enter__(), pair.b).join(
            PATIENCE
        )
    (error,) = pair.told
    assert isinstance(error, guado.LockTimeout)


def test_errors_have_the_names_by_which_people_know_them() -> None:
    for name in guado.__all__:
        found = getattr(guado, name)
        if isinstance(found, type) and issubclass(found, BaseException):
            assert not found.__module__.startswith("guado._"), found
            assert pickle.loads(pickle.dumps(found)) is found


def test_who_waited_in_vain_leaves_known_who_has_the_turn(w: Worker) -> None:
    pair = Pair(w)
    late = threading.Event()

    def comes_late() -> None:
        with pytest.raises(guado.LockTimeout), guado.page(pair.a.id).turn(timeout=0.01):
            pass
        late.set()

    def has() -> None:
        with guado.page(pair.a.id).turn():
            pair.thread(comes_late, pair.b)
            assert late.wait(PATIENCE)
            held(contextlib.nullcontext, pair.both, guado.page(pair.b.id).store.lock)()

    first = pair.thread(has, pair.a)
    assert late.wait(PATIENCE)
    second = pair.thread(
        held(guado.page(pair.b.id).store.lock, pair.both, guado.page(pair.a.id).turn), pair.b
    )
    assert f"the turn of page {pair.a.id}" in pair.deadlock(first, second)


@pytest.mark.parametrize("kind", ["turn", "lock", "transaction", "read"])
def test_the_thread_of_a_loop_waits_for_a_thread_a_moment_at_most(
    w: Worker, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guado._cycles.LOOP_PATIENCE", 0.01)
    pair = Pair(w)
    handle = guado.page(pair.a.id)
    has, go = threading.Event(), threading.Event()

    def holds() -> None:
        how: Any = handle.turn if kind == "turn" else handle.store.transaction
        with how():
            has.set()
            go.wait(PATIENCE)

    async def asks() -> None:
        with w.request(page=pair.b):
            if kind == "read":
                handle.store.get("x")
            else:
                with handle.turn() if kind == "turn" else getattr(handle.store, kind)():
                    pass

    async def asks_well() -> None:
        with w.request(page=pair.b):
            asked = asyncio.get_running_loop().call_soon(go.set)
            async with handle.turn() if kind == "turn" else handle.store.lock():
                handle.store.get("x")
            asked.cancel()

    thread = pair.thread(holds, pair.a)
    has.wait(PATIENCE)
    with pytest.raises(guado.LockTimeout, match=r"in 0.01 s.*use async with"):
        asyncio.run(asks())
    asyncio.run(asyncio.wait_for(asks_well(), PATIENCE))
    thread.join(PATIENCE)
    assert pair.told == []


def test_the_thread_of_a_loop_never_waits_for_a_turn_of_its_own_tasks(w: Worker) -> None:
    pair = Pair(w)
    handle = guado.page(pair.a.id)

    async def asks() -> None:
        with w.request(page=pair.b), handle.turn():
            pass

    async def has() -> None:
        with w.request(page=pair.a):
            async with handle.turn():
                with pytest.raises(guado.Deadlock, match="use async with"):
                    await asyncio.create_task(asks())

    asyncio.run(asyncio.wait_for(has(), PATIENCE))
