"""Writes protocol/vectors/store.json: ``python python/tests/make_store_vectors.py``.

What it writes is read by test_store.py and by internal/mirror. To be looked at before it is
committed: a difference is a change of the format.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from guado import _values
from guado.store import Share, Store
from test_store import VALUES, VECTORS, Rig, step

REFUSED = {
    "unknown record": "0901010061",
    "SET without its bytes": "0101010061050000006162",
    "DELETE of what is not there": "0301010061",
    "SET of no path": "01000100000061",
    "through a leaf": "0101010061010000003101020100610100620100000031",
    "APPEND to a leaf": "01010100610100000031050101006100000000",
    "REPLACE outside": "0401010061000000000601010061010000000000000000000000",
    "SHARE with a path": "0a010100610200000061",
    "SHARE of no path": "0a000b0000007b2270617468223a5b5d7d",
    "CHANGE with a path": "0701010061010000007b",
    "DRAIN above the last": "0700010000003108000200000000000000",
}


def basic(store: Store) -> None:
    store["cart.items"] = [1, "é"]
    store["cart.items"].append({"a": 1})
    store["cart.items"][0] = Decimal(2)
    store["x"] = 1
    del store["x"]
    store["cart.note"] = "n"
    store["cart.empty"] = {}


def order(store: Store) -> None:
    store.update(b=1, a=2)
    store["b"] = 3
    store["c"] = 4
    del store["a"]
    store["a"] = 5
    store["c"] = {"d": []}


def changes(store: Store) -> None:
    store["a"] = 1
    store.changes.add("p.q", 1, {"n": 2}, "why")
    store.changes.add("r")
    store.changes.acknowledge(1)


def shared(store: Store) -> None:
    store.set("a", 1, "why", {"by": "hand"})
    store.changes._share(Share(0, "", ("a",)), True, "session")
    store.changes._share(Share(3, "u:anna", ("b", "è")), False, "requests")
    store.changes._share(Share(0, "", ("c",)), False, "session")
    store.changes._unshare(Share(0, "", ("a",)))


def cleared(store: Store) -> None:
    store.update(a=1, b={"c": 2})
    store["b"].clear()
    store.root.clear()
    store["z"] = (1, {2})


def chance(seed: int) -> Callable[[Store], None]:
    def run(store: Store) -> None:
        r = random.Random(seed)
        for _ in range(25):
            step(r, store)

    return run


def records_of(name: str, write: Callable[[Store], None]) -> dict[str, Any]:
    rig = Rig()
    with rig.ledger.exchange(rig.x):
        write(rig.store)
    rig.ledger.take(rig.x, rig.frames.append)
    data = b"".join(batch.data for frame in rig.frames for batch in frame.batches)
    snapshot = rig.store.snapshot().hex()
    return {"name": name, "records": data.hex(), "snapshot": snapshot, "bytes": rig.store.bytes}


def commit() -> dict[str, Any]:
    before = Rig()
    before.store["a"] = [1]
    rig = Rig()
    rig.store.restore(before.store.snapshot())
    with rig.ledger.exchange(rig.x), rig.store.transaction():
        rig.store["a"].append(2)
        rig.store["b"] = "é"
    rig.ledger.take(rig.x, rig.frames.append)
    return {
        "before": before.store.snapshot().hex(),
        "user": "anna",
        "generation": 7,
        "page": "P",
        "state": rig.frames[0].encode().hex(),
        "after": rig.store.snapshot().hex(),
    }


def main() -> None:
    cases = [basic, order, changes, cleared, shared, *map(chance, range(6))]
    names = ["dicts, lists and leaves", "the order of keys", "changes", "cleared", "shared"]
    names += [f"random {seed}" for seed in range(6)]
    golden = {
        "version": 1,
        "stores": [records_of(n, c) for n, c in zip(names, cases, strict=True)],
        "values": [
            {"json": _values.encode(value).decode(), "python": repr(value)}
            for value in VALUES
            if not isinstance(value, (set, frozenset))  # whose repr has no order
        ],
        "refused": [{"name": name, "records": data} for name, data in REFUSED.items()],
        "commit": commit(),
    }
    VECTORS.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
