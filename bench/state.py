"""Stores in a worker beside a dict, and what the mirror costs a request.

    bench/state.py [--rounds 7] [--seconds 3] [--json FILE] [--no-host] [--part 1|2]

Part one, in this process:

A *dict operation* is one call of a Python function that does `d[k]` (or `d[k] = v`) on a dict
of ten keys; a store operation is the same call with a store in the place of the dict. Both are
measured in the same process, alternately, each round some thousand calls in a plain loop; the
time of the loop itself is not taken off, so it flatters the ratio of neither. Figures are
medians over rounds, of the thread's CPU time: what else runs on the machine counts for none.

The store is the page of the memory test: 10 leaves, 2 KB as JSON. `bytes` is what tracemalloc
finds for one such page more, less the values themselves in an ordinary dict of dicts.

Part two is bench/pages.py: servers, and others beside them.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

import pages  # noqa: E402
from figures import figure  # noqa: E402
from guado.store import Exchange, Ledger, Owner, Store  # noqa: E402

# How many times a dict operation each may take.
BOUNDS = {"read": 8, "write": 15, "lock + unlock": 25}

Operation = Callable[[Any], Any]


def page(number: int = 0) -> dict[str, Any]:
    """What a page keeps: 10 leaves, 2 KB as JSON."""
    return {
        "title": f"Invoice {number}",
        "filter": {"from": "2026-01-01", "to": "2026-02-01", "text": "x" * 480},
        "cart": {"note": "n" * 480, "total": 1234.5, "count": number},
        "form": {"name": "y" * 480, "address": "z" * 470, "dirty": True},
    }


class Bench:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.owner = Owner("anna", 7)
        self.exchange, self.nobody = Exchange("bench"), Exchange("nobody")
        self.store = self.make(0)
        self.flat = Store(self.ledger, self.owner, "flat", id="F")
        self.flat.update({f"k{i}": i for i in range(10)})

    def make(self, number: int) -> Store:
        store = Store(self.ledger, self.owner, f"page {number}", id=f"{number:022d}")
        for key, value in page(number).items():
            store[key] = value
        return store

    def take(self) -> bytes:
        """As a commit does: the section of the frame."""
        frames: list[bytes] = []
        self.ledger.take(self.exchange, lambda taken: frames.append(taken.encode()))
        return frames[0] if frames else b""

    def operations(self) -> dict[str, tuple[Any, Operation]]:
        d = {f"k{i}": i for i in range(10)}
        cart = self.store["cart"]
        self.store["list"] = [1]

        def read(s: Any) -> Any:
            return s["k3"]

        def write(s: Any) -> None:
            s["k3"] = 7

        def read_path(s: Any) -> Any:
            return s["cart.total"]

        def read_key(s: Any) -> Any:
            return s["total"]

        def write_path(s: Any) -> None:
            s["cart.count"] = 8

        def write_text(s: Any) -> None:
            s["cart.note"] = "a note of an ordinary length, with è"

        def write_key(s: Any) -> None:
            s["count"] = 9

        def write_dict(s: Any) -> None:
            s["line"] = {"sku": 7, "qty": 1, "price": 9.5}

        def append(s: Any) -> None:
            s.append(1)

        def lock(s: Any) -> None:
            with s.lock():
                pass

        def transaction(s: Any) -> None:
            with s.transaction():
                pass
            self.ledger.take(self.exchange, lambda _: None)

        items = self.store["list"]
        return {
            "dict read": (d, read),
            "dict write": (d, write),
            "read": (self.flat, read),
            "read, dotted path": (self.store, read_path),
            "read, key of a dict in the store": (cart, read_key),
            "write": (self.flat, write),
            "write, dotted path": (self.store, write_path),
            "write, dotted path, text": (self.store, write_text),
            "write, key of a dict in the store": (cart, write_key),
            "a dict of three, written": (self.store, write_dict),
            "append to a list of the store": (items, append),
            "lock + unlock": (self.store, lock),
            "transaction + commit": (self.store, transaction),
        }

    def ten_writes(self) -> None:
        store = self.store
        for i in range(10):
            store["cart.total"] = i

    def request(self, _: Any) -> None:
        exchange = Exchange("request")
        with self.ledger.exchange(exchange):
            self.ten_writes()
        frames: list[bytes] = []
        self.ledger.take(exchange, lambda taken: frames.append(taken.encode()), end=True)

    def idle(self, _: Any) -> None:
        self.ledger.take(self.nobody, lambda _: None)


def cost(bench: Bench, subject: Any, operation: Operation, calls: int) -> float:
    """Microseconds of one call."""
    start = time.thread_time_ns()
    for _ in range(calls):
        operation(subject)
    took = (time.thread_time_ns() - start) / calls / 1000
    bench.take()
    del bench.store["list"]
    bench.store["list"] = [1]
    bench.take()
    return took


def operations(rounds: int) -> dict[str, float]:
    bench = Bench()
    with bench.ledger.exchange(bench.exchange):
        todo = bench.operations()
        found: dict[str, list[float]] = {name: [] for name in todo}
        for _ in range(rounds):
            for name, (subject, operation) in todo.items():
                if "append" in name:
                    subject = bench.store["list"]
                found[name].append(cost(bench, subject, operation, 3000))
        todo = {
            "a request: ten writes, take, encode": (None, bench.request),
            "take where nothing was touched": (None, bench.idle),
        }
        for name, (subject, operation) in todo.items():
            found[name] = [cost(bench, subject, operation, 1000) for _ in range(rounds)]
        alone = []
        for _ in range(rounds * 100):
            bench.ten_writes()
            start = time.perf_counter_ns()
            bench.take()
            alone.append((time.perf_counter_ns() - start) / 1000)
        found["take and encode of ten writes"] = alone
    return {name: statistics.median(values) for name, values in found.items()}


def memory(pages: int = 500) -> float:
    """Bytes of one page in the worker, beyond the values."""

    def grown(make: Callable[[int], Any]) -> float:
        gc.collect()
        tracemalloc.start()
        kept = [make(i) for i in range(pages)]
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (size - sys.getsizeof(kept)) / pages

    bench = Bench()

    def committed(number: int) -> Store:
        store = bench.make(number)
        bench.ledger.take(bench.ledger.outside, lambda _: None, end=True)
        return store

    return grown(committed) - grown(page)


def host() -> dict[str, float]:
    """Microseconds and bytes of the host's half, by the benchmarks of internal/mirror."""
    command = ["go", "test", "-run", "^$", "-bench", ".", "-benchtime", "0.5s"]
    done = subprocess.run(
        [*command, "./internal/mirror"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        if line.startswith("Benchmark"):
            name, _, *figures = line.split()
            for figure, unit in zip(figures[::2], figures[1::2], strict=True):
                found[f"{name.removeprefix('Benchmark').split('-')[0]}, {unit}"] = float(figure)
    return found


def report(found: dict[str, float]) -> None:
    print(f"\n{'in the worker':36} {'µs':>8} {'× dict':>8}  bound")
    for name, value in found.items():
        base = found["dict write" if "writ" in name or "append" in name else "dict read"]
        bound = next((b for kind, b in BOUNDS.items() if name.startswith(kind)), None)
        ratio, what = value / base, f"a store's {name}, beside a dict's"
        verdict = "" if bound is None else figure(what, ratio, bound, unit="×")
        print(f"{name:36} {value:8.3f} {ratio:8.1f}  {verdict}")


def one(rounds: int, in_go: bool) -> dict[str, Any]:
    """Part one."""
    found = operations(rounds)
    report(found)
    size = memory()
    print(f"\none page in the worker, beyond its values: {size:.0f} bytes")
    mirror = host() if in_go else {}
    for name, value in mirror.items():
        print(f"mirror: {name}: {value:g}")
    applied = mirror.get("ApplyTenWrites, ns/op")
    if applied is not None:
        cost = found["take and encode of ten writes"] + applied / 1000
        what = "the mirror of ten writes"
        print(f"{what}: {cost:.1f} µs {figure(what, cost, 15, unit='µs')}")
        idle = found["take where nothing was touched"]
        what = "the mirror where nothing was touched, in the worker"
        print(f"{what}: {idle:.2f} µs {figure(what, idle, 1, unit='µs')}")
    return {"worker": found, "bytes": size, "host": mirror}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=int, default=3, help="of each load of part two")
    parser.add_argument("--no-host", action="store_true", help="without the benchmarks in Go")
    parser.add_argument("--part", type=int, choices=(1, 2), help="this one alone")
    options = parser.parse_args()
    print(f"CPython {sys.version.split()[0]}")
    found: dict[str, Any] = {}
    if options.part != 2:
        found = one(options.rounds, not options.no_host)
    if options.part != 1:
        found |= pages.measure(options.rounds, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
