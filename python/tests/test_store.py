"""Stores against a model: what their records make elsewhere is what they are."""

from __future__ import annotations

import asyncio
import datetime
import json
import math
import pathlib
import random
import threading
import zoneinfo
from decimal import Decimal
from typing import Any

import guado
import pytest
from guado import _values
from guado.store import (
    Deadlock,
    Exchange,
    Ledger,
    LockTimeout,
    Owner,
    ReadOnly,
    Store,
    StoreError,
    StoreFull,
    Taken,
    transaction,
)

VECTORS = pathlib.Path(__file__).parents[2] / "protocol" / "vectors" / "store.json"


class Rig:
    """A worker's ledger, and a store that gets nothing but what was committed."""

    def __init__(self, **options: Any) -> None:
        self.ledger = Ledger()
        self.owner = Owner("anna", 7)
        self.store = Store(self.ledger, self.owner, "page P", id="P", **options)
        self.copy = Store(Ledger(), self.owner, "the copy", pickles=self.store.pickles)
        self.frames: list[Taken] = []
        self.x = Exchange("request 1")

    def commit(self, exchange: Exchange | None = None, end: bool = False) -> None:
        before = len(self.frames)
        self.ledger.take(exchange or self.x, self.frames.append, end)
        for frame in self.frames[before:]:
            for batch in frame.batches:
                if batch.store is self.store:
                    self.copy.restore(self.copy.snapshot() + batch.data)

    def same(self) -> None:
        assert self.copy.snapshot() == self.store.snapshot()
        assert self.copy.bytes == self.store.bytes == self.store._weigh()


@pytest.fixture
def rig() -> Rig:
    return Rig()


ROME = zoneinfo.ZoneInfo("Europe/Rome")
VALUES = [
    None, True, False, 0, -1, 2**53 - 1, 2**53, -(2**70), 1.0, -0.0, 1e300, 0.1, math.inf,
    "", 'a"\\\n\x7fé𝄞', "$x", b"", b"\x00\xff", Decimal("1.10"), Decimal("NaN"), Decimal("-1E+7"),
    datetime.datetime(2026, 2, 3, 4, 5, 6, 7), datetime.datetime(2026, 2, 3, tzinfo=datetime.UTC),
    datetime.datetime(2026, 10, 25, 2, 30, tzinfo=ROME, fold=1),
    datetime.datetime(2026, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=-3))),
    datetime.date(2026, 2, 3), datetime.time(4, 5), datetime.time(4, 5, tzinfo=ROME),
    (), (1, (2,)), {1, 2}, frozenset({"a", ("b",)}), [], [[1], {"a": {"b": []}}],
    [{1: "one", (2, 3): None}], [{"$set": [1]}], [{"": 0}],
]  # fmt: skip


def plain(value: Any) -> Any:
    """With the types of all parts, which == does not look at."""
    kind = getattr(type(value), "_plain", type(value))
    if kind in (list, tuple):
        return kind, [plain(v) for v in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(plain(v)) for v in value)
    if kind is dict:
        return kind, [(plain(k), plain(v)) for k, v in value.items()]
    return kind, repr(value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_what_it_was(value: Any, rig: Rig) -> None:
    assert plain(_values.decode(_values.encode(value))) == plain(value)
    with rig.ledger.exchange(rig.x):
        rig.store["v"] = value
        rig.commit()
        assert plain(rig.store["v"]) == plain(value)
    assert plain(rig.copy["v"]) == plain(value)
    rig.same()


@pytest.mark.parametrize(
    "value", [object(), datetime.timedelta(1), bytearray(b""), "\ud800", [{1: object()}], type]
)
def test_what_would_not_come_back_is_refused_and_changes_nothing(value: Any, rig: Rig) -> None:
    with rig.ledger.exchange(rig.x), pytest.raises((TypeError, ValueError)):
        rig.store["v"] = value
    assert "v" not in rig.store
    assert rig.store.bytes == 0


def test_a_list_that_holds_itself_is_refused(rig: Rig) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested"):
        rig.store["v"] = loop


def step(r: random.Random, store: Store) -> None:
    """One random thing that an application may do."""

    def value(depth: int = 0) -> Any:
        kind = r.randrange(9 if depth < 3 else 5)
        if kind < 5:
            return r.choice(VALUES[:12])
        if kind == 5:
            return [value(depth + 1) for _ in range(r.randrange(4))]
        if kind == 6:
            return {r.choice("abc"): value(depth + 1) for _ in range(r.randrange(4))}
        if kind == 7:
            return tuple(value(depth + 1) for _ in range(r.randrange(3)))
        return {r.randrange(9) for _ in range(3)}

    found: list[Any] = [store.root]
    for node in found:
        if len(found) < 60:
            inside = node.values() if isinstance(node, dict) else node
            found += [v for v in inside if isinstance(v, (dict, list, set, tuple))]
    node = r.choice(found)
    what = r.randrange(10)
    if isinstance(node, dict):
        key = r.choice("abcd")
        if what < 5:
            node[key] = value()
        elif what < 7:
            node.pop(key, None)
        elif what == 7:
            node.update({key: value(), "z": value(2)})
        elif what == 8:
            node.setdefault(key, value())
        elif node is not store.root or r.random() < 0.1:
            node.clear()
    elif isinstance(node, list):
        at = r.randrange(len(node) + 1)
        if what < 3 or not node:
            node.append(value())
        elif what == 3:
            node.insert(at, r.choice(node))
        elif what == 4:
            node.pop(r.randrange(len(node)))
        elif what == 5:
            node[r.randrange(len(node))] = value()
        elif what == 6:
            node.reverse()
        elif what == 7:
            node[at : at + 2] = [value(), value()]
        elif what == 8:
            node.sort(key=lambda v: repr(v))
        else:
            del node[::2]
    elif isinstance(node, set):
        (node.add if what < 6 else node.discard)(r.randrange(9))


@pytest.mark.parametrize("seed", range(30))
def test_records_make_the_same_store_elsewhere_always(seed: int) -> None:
    r = random.Random(seed)
    rig = Rig()
    with rig.ledger.exchange(rig.x):
        for _ in range(80):
            step(r, rig.store)
            if r.random() < 0.2:
                rig.store.changes.add("a.b", 1, {"x": 2}, "why")
            if r.random() < 0.1:
                rig.store.changes.hand_out()
            if r.random() < 0.3:
                rig.commit()
                rig.same()
                assert plain(rig.copy.root) == plain(rig.store.root)
        rig.commit()
        rig.same()
        rig.store.clear()
        rig.store.changes.hand_out()
        assert rig.store.bytes == 0 == rig.ledger.bytes


def test_a_write_above_the_limit_raises_and_changes_nothing() -> None:
    rig = Rig(limit=200)
    with rig.ledger.exchange(rig.x):
        rig.store["a"] = [{"x": "1"}]
        before = rig.store.snapshot()
        for write in (
            lambda: rig.store.set("b", "x" * 200),
            lambda: rig.store["a"].append("x" * 200),
            lambda: rig.store["a"][0].update(x="x" * 200),
            lambda: rig.store["a"].insert(0, "x" * 200),
            lambda: rig.store.changes.add("p", "x" * 200),
        ):
            with pytest.raises(StoreFull, match="page P"):
                write()
        assert rig.store.snapshot() == before
        rig.commit()
        rig.same()


def test_what_has_left_its_store_is_an_ordinary_container(rig: Rig) -> None:
    with rig.ledger.exchange(rig.x):
        rig.store["a"] = {"b": [{"c": 1}]}
        gone, inner = rig.store["a"], rig.store["a.b"][0]
        del rig.store["a"]
        gone["x"] = object()
        gone["b"].append(object())
        inner["c"] = object()
        rig.commit()
        rig.same()


def test_an_interrupt_in_the_middle_of_a_write_is_healed(rig: Rig, monkeypatch: Any) -> None:
    def broken(store: Store, cost: int) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with rig.ledger.exchange(rig.x):
        rig.store["a"] = {"b": 1}
        rig.commit()
        monkeypatch.setattr(Store, "_count", broken)
        with pytest.raises(KeyboardInterrupt):
            rig.store.set("a.b", 2, "a reason")  # in C nothing can interrupt a write
        rig.commit()
        rig.same()


def test_changes_are_handed_out_once_and_in_order_or_until_they_are_acknowledged(rig: Rig) -> None:
    changes = rig.store.changes
    with rig.ledger.exchange(rig.x):
        changes.add("a.b", Decimal(1), {"n": 1}, "save")
        changes.add(("a.b",), fired=True)
        changes.add("c", delete=True)
        kept = changes.hand_out(keep=True)
        assert changes.hand_out(keep=True) == kept
        assert [json.loads(c.data) for c in kept] == [
            {"path": ["a", "b"], "value": {"$decimal": "1"}, "attributes": {"n": 1},
             "reason": "save"},
            {"path": ["a.b"], "value": None, "fired": True},
            {"path": ["c"], "delete": True},
        ]  # fmt: skip
        changes.acknowledge(2)
        assert [c.number for c in changes.hand_out()] == [3]
        assert changes.hand_out() == []
        with pytest.raises(ValueError, match="never"):
            changes.acknowledge(4)
        rig.commit()
        rig.same()


def test_subscribers_hear_of_writes_at_below_and_above_their_path(rig: Rig) -> None:
    heard: list[Any] = []
    end = rig.store.on_change("a.b", lambda w: heard.append((w.path, w.deleted)))
    with rig.ledger.exchange(rig.x):
        rig.store["a.b"] = [1]
        rig.store["a.b"].append(2)
        rig.store["a.c"] = 1
        del rig.store["a"]
        end()
        rig.store["a"] = 1
    assert heard == [
        (("a",), False), (("a", "b"), False), (("a", "b"), False), (("a",), True),
    ]  # fmt: skip


def test_a_commit_takes_what_others_wrote_but_not_from_an_open_transaction(rig: Rig) -> None:
    other, reader = Exchange("request 2"), Exchange("request 3")
    with rig.ledger.exchange(other):
        rig.store["told"] = 1
        with rig.store.transaction():
            rig.store["secret"] = 2
    with rig.ledger.exchange(reader):
        rig.store.patience = 0.01
        with pytest.raises(LockTimeout, match="request 2"):
            rig.store["secret"]
    rig.commit(reader)
    assert dict(rig.copy.items()) == {"told": 1}
    assert rig.frames[-1].generations == {"anna": 7}
    rig.commit(other)
    rig.same()
    assert [f.sequence for f in rig.frames] == [1, 2]
    assert rig.frames[-1].batches[0].token > 0
    with rig.ledger.exchange(reader):
        assert rig.store["secret"] == 2
    nobody = Exchange("idle")
    assert not rig.ledger.take(nobody, rig.frames.append, end=True)


def test_a_transaction_entered_again_before_the_commit_stays_locked_until_it(rig: Rig) -> None:
    with rig.ledger.exchange(rig.x):
        for _ in range(2):
            with rig.store.transaction(), rig.store.transaction():
                rig.store["n"] = rig.store.get("n", 0) + 1
        assert rig.store._lock.owner is rig.x
        rig.commit()
    assert rig.store._lock.owner is None
    assert rig.store._gate is None
    rig.same()


def test_after_its_head_an_exchange_only_reads(rig: Rig) -> None:
    with rig.ledger.exchange(rig.x):
        rig.store["a"] = [1]
        rig.x.read_only = True
        assert rig.store["a"] == [1]
        with pytest.raises(ReadOnly, match="turn"):
            rig.store["a"].append(2)


def test_a_cycle_of_waits_is_a_deadlock_that_names_both(rig: Rig) -> None:
    second = Store(rig.ledger, rig.owner, "page Q")
    inside = threading.Barrier(2, timeout=60)
    errors: list[BaseException] = []

    def run(name: str, first: Store, then: Store) -> None:
        exchange = Exchange(name)
        with rig.ledger.exchange(exchange), first.lock():
            inside.wait()
            try:
                with then.lock():
                    pass
            except Deadlock as error:
                errors.append(error)

    threads = [
        threading.Thread(target=run, args=("request A", rig.store, second)),
        threading.Thread(target=run, args=("request B", second, rig.store)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 1
    assert "request A" in str(errors[0])
    assert "request B" in str(errors[0])


def test_a_loop_is_never_blocked_by_a_lock_of_its_own_tasks(rig: Rig) -> None:
    async def scenario() -> list[str]:
        order: list[str] = []
        taken, go = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            with rig.ledger.exchange(Exchange("request A")):
                async with rig.store.lock():
                    order.append("A")
                    taken.set()
                    await go.wait()

        async def second() -> None:
            await taken.wait()
            with rig.ledger.exchange(Exchange("request B")):
                with pytest.raises(Deadlock, match="async with"):
                    rig.store.lock().__enter__()
                go.set()
                async with rig.store.lock():
                    order.append("B")

        await asyncio.gather(first(), second())
        return order

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == ["A", "B"]


def test_locks_need_somebody_who_has_them(rig: Rig) -> None:
    with pytest.raises(StoreError, match="request"), transaction(rig.store):
        pass


def test_threads_that_write_at_once_lose_nothing(rig: Rig) -> None:
    def run(number: int) -> None:
        exchange = Exchange(f"request {number}")
        with rig.ledger.exchange(exchange):
            for i in range(100):
                rig.store["list"].append(i)
                with rig.store.transaction():
                    rig.store["n"] = rig.store["n"] + 1
                rig.ledger.take(exchange, rig.frames.append)
            rig.ledger.take(exchange, rig.frames.append, end=True)

    with rig.ledger.exchange(rig.x):
        rig.store.update({"list": [], "n": 0})
    rig.ledger.take(rig.x, rig.frames.append, end=True)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for frame in rig.frames:
        for batch in frame.batches:
            rig.copy.restore(rig.copy.snapshot() + batch.data)
    assert rig.copy["n"] == 400
    assert len(rig.copy["list"]) == 400
    rig.same()


class Basket:
    def __init__(self) -> None:
        self.lines: list[str] = []


def test_a_pickled_object_that_was_read_is_compared_at_the_commit() -> None:
    rig = Rig(pickles=True)
    with rig.ledger.exchange(rig.x):
        rig.store["a"] = Basket()
        rig.commit()
        rig.store["a"].lines.append("x")
        rig.commit()
        assert rig.copy["a"].lines == ["x"]
        rig.same()


def test_what_cannot_be_restored_leaves_no_half_of_a_store(rig: Rig) -> None:
    golden = json.loads(VECTORS.read_text())
    for case in golden["refused"]:
        with pytest.raises((ValueError, LookupError)):
            rig.store.restore(bytes.fromhex(golden["stores"][0]["records"] + case["records"]))
        assert (rig.store.snapshot(), rig.store.bytes) == (b"", 0), case["name"]


def test_the_golden_vectors() -> None:
    golden = json.loads(VECTORS.read_text())
    for case in golden["stores"]:
        rig = Rig()
        rig.store.restore(bytes.fromhex(case["records"]))
        assert rig.store.snapshot().hex() == case["snapshot"], case["name"]
        assert rig.store.bytes == case["bytes"], case["name"]
    rig = Rig()
    rig.store.restore(bytes.fromhex(golden["commit"]["before"]))
    with rig.ledger.exchange(rig.x), rig.store.transaction():
        rig.store["a"].append(2)
        rig.store["b"] = "é"
    rig.ledger.take(rig.x, rig.frames.append)
    assert rig.frames[0].encode().hex() == golden["commit"]["state"]
    assert rig.store.snapshot().hex() == golden["commit"]["after"]
    for case in golden["values"]:
        value = _values.decode(case["json"].encode())
        assert _values.encode(value).decode() == case["json"]
        assert repr(value) == case["python"]


def test_a_counter_and_compare_and_set_lose_nothing_between_threads(rig: Rig) -> None:
    def run(number: int) -> None:
        with rig.ledger.exchange(Exchange(f"request {number}")):
            for _ in range(100):
                rig.store.add("count.a")
                while not rig.store.compare_and_set("n", was := rig.store["n"], was + 1):
                    pass

    with rig.ledger.exchange(rig.x):
        rig.store["n"] = 0
    rig.commit(end=True)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with rig.ledger.exchange(rig.x):
        assert (rig.store["count.a"], rig.store["n"]) == (400, 400)
        rig.commit()
        rig.same()


def test_compare_and_set_looks_at_values_with_their_types(rig: Rig) -> None:
    with rig.ledger.exchange(rig.x):
        for old, new in (
            (guado.MISSING, 1),
            (1, {"a": [1, Decimal("2.0")], "b": {"c": None}}),
            ({"b": {"c": None}, "a": [1, Decimal("2.0")]}, [1, {"x": 2}]),
            ([1, {"x": 2}], None),
            (None, guado.MISSING),
            (guado.MISSING, guado.MISSING),
            (guado.MISSING, True),
        ):
            for other in (2, 1.0, "1", {}, {"a": [1, 2], "b": {"c": None}}, [1]):
                assert not rig.store.compare_and_set("at.x", other, "never")
            assert rig.store.compare_and_set("at.x", old, new)
            assert rig.store.get("at.x", guado.MISSING) == new
            rig.commit()
            rig.same()
        with pytest.raises(TypeError, match=r"at\.x of page P is no whole number"):
            rig.store.add("at.x")
        with pytest.raises(TypeError, match="whole numbers"):
            rig.store.add("at.y", 0.5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is no dict"):
            rig.store.compare_and_set("at.x.y", guado.MISSING, 1)
        assert [rig.store.add("big", 1 << 70), rig.store.add("big", -1)] == [1 << 70, (1 << 70) - 1]
