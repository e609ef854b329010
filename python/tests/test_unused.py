"""A store is let go only when nobody has it, or a part of it, in hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from guado import _unused
from guado.store import Store
from test_store import Rig


def filled() -> Rig:
    rig = Rig()
    with rig.ledger.exchange(rig.x):
        rig.store["a"] = {"b": 1, "c": {"d": [1, {"e": [2]}]}}
        rig.store["t"] = (1, [2], {3})
        rig.store["s"] = {1, 2}
        rig.store["plain"] = (1, "x")
        rig.store.changes.add("a", 1)
        rig.commit()
        rig.frames.clear()
    return rig


def test_a_store_that_nobody_has_is_unused_and_takes_no_memory_then() -> None:
    rig = filled()
    holder = [rig.store]
    del rig.store
    assert _unused.unused(holder)
    holder[0]._rest()
    assert rig.ledger.bytes == 0
    assert dict.__len__(holder[0]._root) == 0


@pytest.mark.parametrize(
    "hand",
    [
        lambda s: s,
        lambda s: s["a"],
        lambda s: s["a.c.d"],
        lambda s: s["a.c.d"][1]["e"],
        lambda s: s["t"],
        lambda s: s["t"][1],
        lambda s: s["s"],
        lambda s: s.changes,
        lambda s: s["a"].items(),
        lambda s: iter(s["a.c.d"]),
        lambda s: s["a.c.d"].append,
        lambda s: s.on_change("a", print),
    ],
)
def test_a_store_of_which_somebody_has_a_part_is_in_use(hand: Callable[[Store], Any]) -> None:
    rig = filled()
    with rig.ledger.exchange(rig.x):
        part = hand(rig.store)
        rig.commit()
    holder = [rig.store]
    del rig.store
    assert not _unused.unused(holder)
    del part


def test_a_store_whose_changes_are_not_committed_is_in_use() -> None:
    rig = filled()
    with rig.ledger.exchange(rig.x):
        rig.store["b"] = 1
    holder = [rig.store]
    del rig.store
    assert not _unused.unused(holder)
