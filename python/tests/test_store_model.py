"""Stores beside plain containers: the same is done to both, and both are the same after it.

What a worker's stores do in C (csrc/store_*.c) and in Python is held to one model, and what
they send to the same bytes.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from guado import _native, _records, _values
from guado.store import Exchange, Ledger, Owner, Store, StoreFull, Taken
from test_store import VALUES, VECTORS, Rig, plain

SEEDS = range(24)
STEPS = 60

KEYS = ["a", "b", "è", "a.b", ""]


def value(r: random.Random, depth: int = 0) -> Any:
    kind = r.randrange(10 if depth < 3 else 5)
    if kind < 5:
        return r.choice(VALUES[:20])
    if kind < 7:
        return {r.choice(KEYS): value(r, depth + 1) for _ in range(r.randrange(4))}
    if kind < 9:
        return [value(r, depth + 1) for _ in range(r.randrange(4))]
    return r.choice([(value(r, depth + 1), [r.randrange(5)]), {1, "x"}, frozenset({2}), ()])


def containers(tree: Any) -> list[tuple[Any, ...]]:
    """Where the containers are that can change, as keys and indices from the root."""
    found: list[tuple[Any, ...]] = []

    def look(node: Any, path: tuple[Any, ...]) -> None:
        if isinstance(node, (dict, list, set)):
            found.append(path)
        if isinstance(node, dict):
            for key, below in node.items():
                look(below, (*path, key))
        elif isinstance(node, (list, tuple)):
            for index, below in enumerate(node):
                look(below, (*path, index))

    look(tree, ())
    return found


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def unshared(tree: Any) -> Any:
    """A store holds no object twice: the second one is a copy."""
    if isinstance(tree, dict):
        return {key: unshared(below) for key, below in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map(unshared, tree))
    return copy.copy(tree)


Doing = Callable[[Any], Any]


def on_dict(r: random.Random) -> Doing:
    key, new = r.choice(KEYS), value(r)
    return r.choice(
        [
            lambda d: d.__setitem__(key, copy.deepcopy(new)),
            lambda d: d.__setitem__(key, copy.deepcopy(new)),
            lambda d: d.__setitem__(key, 7),
            lambda d: d.__delitem__(key),
            lambda d: d.pop(key),
            lambda d: d.pop(key, None),
            lambda d: d.popitem(),
            lambda d: d.update({key: copy.deepcopy(new), "z": 1}),
            lambda d: d.setdefault(key, copy.deepcopy(new)),
            lambda d: d.clear() if r.random() < 0.3 else d.get(key, 3),
            lambda d: (key in d, len(d), list(d), d.get(key), list(d.keys()), d == {}),
            lambda d: list(d.items())[:2] + list(d.values()),
        ]
    )


def on_list(r: random.Random) -> Doing:
    index, new = r.randrange(-1, 4), value(r)
    return r.choice(
        [
            lambda v: v.append(copy.deepcopy(new)),
            lambda v: v.append(5),
            lambda v: v.extend([1, copy.deepcopy(new)]),
            lambda v: v.insert(index, copy.deepcopy(new)),
            lambda v: v.pop(),
            lambda v: v.pop(index),
            lambda v: v.__setitem__(index, copy.deepcopy(new)),
            lambda v: v.__setitem__(slice(0, index), [copy.deepcopy(new), 2]),
            lambda v: v.__delitem__(index),
            lambda v: v.__delitem__(slice(None, None, 2)),
            lambda v: v.remove(5),
            lambda v: v.reverse(),
            lambda v: v.sort(key=lambda item: repr(plain(item))),
            lambda v: v.__imul__(2) and None if len(v) < 5 else v.clear(),
            lambda v: (5 in v, len(v), v[index:], v.count(5), v == [5]),
            lambda v: v[index],
        ]
    )


def on_set(r: random.Random) -> Doing:
    number = r.randrange(4)
    return r.choice(
        [
            lambda s: s.add(number),
            lambda s: s.discard(number),
            lambda s: s.remove(number),
            lambda s: s.update({number, "y"}),
            lambda s: s.__isub__({number}) and None,
            lambda s: (number in s, len(s), sorted(map(repr, s))),
        ]
    )


def outcome(doing: Doing, node: Any) -> tuple[Any, Any]:
    try:
        return "gave", plain(doing(node))
    except (KeyError, IndexError, ValueError, TypeError) as error:
        return "raised", type(error)


def step(r: random.Random, store: Store, model: dict[str, Any]) -> None:
    """One thing, done to both."""
    path = r.choice(containers(model))
    node = at(model, path)
    doing = (on_dict if isinstance(node, dict) else on_list if isinstance(node, list) else on_set)(
        r
    )
    state = r.getstate()
    wanted = outcome(doing, node)
    r.setstate(state)  # some of what is done draws
    assert outcome(doing, at(store.root, path)) == wanted, path


def by_path(r: random.Random, store: Store, model: dict[str, Any]) -> None:
    """The same by the paths of the store, which a plain dict does not have."""
    keys = tuple(r.choice("ab") for _ in range(r.randrange(1, 4)))
    path: Any = r.choice([keys, ".".join(keys)])
    new = value(r)
    holder: Any = model
    for key in keys[:-1]:
        holder = holder.get(key) if isinstance(holder, dict) else None
    there = isinstance(holder, dict) and keys[-1] in holder
    assert (path in store) == there
    assert plain(store.get(path)) == plain(holder[keys[-1]] if there else None)
    what = r.randrange(3)
    if what == 0 and there:
        del store[path]
        del holder[keys[-1]]
    elif what == 0:
        with pytest.raises(KeyError):
            store[path]
    else:
        blocked = False
        for key in keys[:-1]:
            model = model.setdefault(key, {}) if isinstance(model, dict) else {}
            if blocked := not isinstance(model, dict):
                break
        if blocked:
            with pytest.raises(TypeError):
                store[path] = new
        else:
            model[keys[-1]] = copy.deepcopy(new)
            store.set(path, new, "why" if what == 1 else None)


def run(seed: int) -> bytes:
    """A life of a store; gives all that was sent of it."""
    r = random.Random(seed)
    rig, model, sent = Rig(), {}, []  # type: ignore[var-annotated]
    with rig.ledger.exchange(rig.x):
        for _ in range(STEPS):
            (by_path if r.random() < 0.2 else step)(r, rig.store, model)
            model = unshared(model)
            assert plain(rig.store.root) == plain(model)
            if r.random() < 0.2:
                rig.commit()
                rig.same()
                assert plain(rig.copy.root) == plain(model)
        rig.commit()
        rig.same()
        again = Store(Ledger(), rig.owner, "restored")
        again.restore(rig.store.snapshot())
        assert plain(again.root) == plain(model)
        sent = [frame.encode() for frame in rig.frames]
        rig.store.clear()
        assert rig.store.bytes == 0 == rig.ledger.bytes
    return b"".join(sent)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_is_what_plain_containers_are(seed: int) -> None:
    run(seed)


def digests() -> str:
    return " ".join(hashlib.sha256(run(seed)).hexdigest()[:16] for seed in SEEDS)


def test_what_is_sent_is_the_same_with_the_extension_and_without() -> None:
    without = "import sys; sys.modules['guado._core'] = None\n"
    code = "import test_store_model as t; print(t.digests())"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", without + code],
        capture_output=True, text=True, timeout=100, check=False, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digests()


def texts(r: random.Random) -> str:
    some = ["a", '"', "\\", "\n", "\x00", "\x1f", "\x7f", "é", "\u2028", "𝄞", "/"]
    return "".join(r.choice(some) for _ in range(r.randrange(40)))


def test_values_have_the_same_bytes_in_c_and_in_python() -> None:
    r = random.Random(1)
    numbers: list[Any] = [2**53 - 1, 2**53, -(2**53), 2**63, -(2**63), 10**30, 1e16, 1e-7, 5e-324]
    numbers += [0.1 + 0.2, -0.0, math.inf, -math.inf, r.random() * 1e20]
    cases = [*VALUES, *numbers, *(texts(r) for _ in range(200)), *(value(r) for _ in range(300))]
    cases += [bytes(r.randrange(256) for _ in range(n)) for n in range(20)]
    cases += [{texts(r): value(r)} for _ in range(50)] + [{"$": 1}, {"": {"$a": [set()]}}]
    for case in cases:
        data = _values.encode(case)
        assert data == _values._encode(case)
        if not isinstance(case, float):
            assert plain(_values.decode(data)) == plain(case)
    for refused in ("\ud800", {"\udfff": 1}, {1: "\ud800"}, [object()]):
        with pytest.raises((ValueError, TypeError)) as one:
            _values.encode(refused)
        with pytest.raises((ValueError, TypeError)) as other:
            _values._encode(refused)
        assert str(one.value) == str(other.value)
    deep: Any = 1
    for _ in range(_values.MOST_DEPTH):
        deep = [deep]
    assert _values.encode(deep) == _values._encode(deep)
    with pytest.raises(ValueError, match="nested"):
        _values.encode([deep])


@pytest.mark.parametrize("room", range(60, 200, 7))
def test_a_write_that_does_not_fit_changes_nothing_wherever_it_happens(room: int) -> None:
    r = random.Random(room)
    rig = Rig(limit=room)
    with rig.ledger.exchange(rig.x):
        for _ in range(60):
            before = rig.store.snapshot(), rig.store.bytes
            try:
                step(r, rig.store, copy.deepcopy(rig.store.root))
            except StoreFull:
                assert (rig.store.snapshot(), rig.store.bytes) == before
            assert rig.store.bytes <= room
        rig.commit()
        rig.same()


def test_what_was_forgotten_keeps_no_memory() -> None:
    """Stores, nodes, slots, locks and exchanges hold each other in circles."""

    def live() -> None:
        rig = Rig()
        with rig.ledger.exchange(rig.x), rig.store.transaction(), rig.store.lock():
            for _ in range(20):
                step(random.Random(3), rig.store, copy.deepcopy(rig.store.root))
            rig.store["list"] = [[1], {"a": {1, 2}}, ([2],)]
            rig.store["list"][0].append(3)
            rig.store["date"] = VALUES[21]

    def counted() -> int:
        gc.collect()
        kinds = ("Store", "TrackedDict", "TrackedList", "Slot", "Lock", "Exchange", "Ledger")
        return sum(type(o).__name__ in kinds for o in gc.get_objects())

    live()
    before = counted()
    for _ in range(20):
        live()
    assert counted() == before


def test_an_error_of_who_seals_loses_no_record_and_no_number() -> None:
    ledger = Ledger()
    store = Store(ledger, Owner("anna", 7), "page P", id="P")
    x = Exchange("request 1")
    frames: list[Taken] = []

    def fails(taken: Taken) -> None:
        raise KeyboardInterrupt

    with ledger.exchange(x):
        store["a"] = 1
        with pytest.raises(KeyboardInterrupt):
            ledger.take(x, fails)
        store["b"] = 2
        ledger.take(x, frames.append)
    assert [frame.sequence for frame in frames] == [1]
    assert [batch.records for batch in frames[0].batches] == [2]


def test_records_are_read_alike_in_c_and_in_python_also_where_they_are_broken() -> None:
    def read(reader: Callable[[bytes], Any], data: bytes) -> Any:
        try:
            return [(r.op, r.path, list(r.items), r.at, r.removed) for r in reader(data)]
        except ValueError:
            return "none"

    r = random.Random(5)
    golden = json.loads(VECTORS.read_text())
    whole = [bytes.fromhex(case["records"]) for case in golden["stores"]]
    broken = 0
    for _ in range(3000):
        data = bytearray(r.choice(whole))
        for _ in range(r.randrange(3)):
            at = r.randrange(len(data) or 1)
            data[at : at + r.randrange(2)] = bytes([r.choice([0, 1, 6, 8, 32, 33, 255])])
        wanted = read(_records._read, bytes(data))
        assert read(_records.read, bytes(data)) == wanted, data.hex()
        broken += wanted == "none"
    assert 300 < broken < 2700


@pytest.mark.skipif(_native.Mutex is threading.Lock, reason="of the extension")
def test_a_finalizer_that_uses_a_store_in_the_middle_of_a_write_is_told_so() -> None:
    rig = Rig()
    with rig.ledger.lock, pytest.raises(RuntimeError, match="finalizer"):
        rig.store.snapshot()
    assert rig.store.snapshot() == b""


def test_threads_that_write_parts_of_one_item_at_once_lose_nothing() -> None:
    rig = Rig()
    with rig.ledger.exchange(rig.x):
        rig.store["rows"] = [{"when": VALUES[21], "n": 0} for _ in range(3)]
    rig.commit(end=True)
    threads = 4

    def write(number: int) -> None:
        exchange = Exchange(f"request {number}")
        with rig.ledger.exchange(exchange):
            for i in range(200):
                rig.store["rows"][i % 3][f"of {number}"] = i
                rig.store[f"own.{number}"] = i
                rig.store["rows"][i % 3]["n"] = number
                rig.ledger.take(exchange, rig.frames.append)

    running = [threading.Thread(target=write, args=(i,)) for i in range(threads)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    for frame in rig.frames[1:]:
        for batch in frame.batches:
            rig.copy.restore(rig.copy.snapshot() + batch.data)
    rig.same()
    assert [frame.sequence for frame in rig.frames] == list(range(1, len(rig.frames) + 1))
    for number in range(threads):
        assert [row[f"of {number}"] for row in rig.copy["rows"]] == [198, 199, 197]
        assert rig.copy[f"own.{number}"] == 199
