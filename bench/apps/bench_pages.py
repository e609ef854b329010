"""The application of the page workload, and the place where one operation is measured.

Each page keeps ten values. Where they are kept, BENCH_STORE says: "guado" in the page's store,
"pyro" in a Pyro4 daemon (bench_daemon.py at BENCH_PYRO), "dict" in a dict of this process. The
code that works with them is the same.
"""

from __future__ import annotations

import gc
import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

STORE = os.environ.get("BENCH_STORE", "guado")


def values(number: int = 0) -> dict[str, Any]:
    """What a page keeps: ten leaves, 2 KB as JSON, by their paths."""
    return {
        "title": f"Invoice {number}",
        "filter.from": "2026-01-01",
        "filter.to": "2026-02-01",
        "filter.text": f"{number:08d}" + "x" * 472,
        "cart.note": f"{number:08d}" + "n" * 472,
        "cart.total": 1234.5,
        "cart.count": 0,
        "form.name": f"{number:08d}" + "y" * 472,
        "form.address": f"{number:08d}" + "z" * 462,
        "form.dirty": True,
    }


PATHS = tuple(values())
READS = (PATHS + PATHS)[:13]


class Shelf(dict[str, Any]):
    """A page in a dict of this process, with its lock."""

    def __init__(self) -> None:
        super().__init__()
        self.held = threading.RLock()

    def lock(self) -> threading.RLock:  # type: ignore[valid-type]
        return self.held


SHELVES: dict[str, Shelf] = {}


def store_of(page: str) -> Any:
    """What has the values of a page."""
    if STORE == "guado":
        import guado

        return guado.page().store
    if STORE == "pyro":
        import bench_daemon

        return bench_daemon.Remote(page)
    return SHELVES.setdefault(page, Shelf())


def work(store: Any) -> int:
    """56 operations: 40 reads, 10 writes, 3 locks, 3 unlocks."""
    for part in range(3):
        with store.lock():
            for path in READS:
                store[path]
            store["cart.total"] = 10.5 + part
            store["form.dirty"] = part == 1
            store["filter.from"] = "2026-03-01"
    count: int = store["cart.count"] + 1
    store["cart.count"] = count
    return count


def fill(store: Any) -> int:
    for path, value in values().items():
        store[path] = value
    return len(PATHS)


def ten(store: Any) -> int:
    """Ten writes and nothing else."""
    for number in range(10):
        store["cart.total"] = number
    return number


def ten_plain(page: str) -> int:
    """The same ten into a dict, which nobody mirrors."""
    return ten(SHELVES.setdefault(page, Shelf()))


def trim() -> int:
    import ctypes

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return 1


def answer(path: str, page: str, query: dict[str, list[str]]) -> Any:
    if path == "/work":
        return work(store_of(page))
    if path == "/ten":
        return ten(store_of(page))
    if path == "/ten-plain":
        return ten_plain(page)
    if path == "/fill":
        return fill(store_of(page))
    if path == "/calls":
        import bench_calls

        return bench_calls.measure(store_of(page), page, int(query["rounds"][0]))
    if path == "/pages":
        import bench_many

        return bench_many.act(query)
    return trim() if path == "/trim" else 0


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    query = environ["QUERY_STRING"]
    page = query[8:] if query.startswith("page_id=") else ""
    path = environ["PATH_INFO"]
    asked = parse_qs(query) if path in ("/calls", "/pages") else {}
    body = json.dumps(answer(path, page or asked.get("page_id", [""])[0], asked)).encode()
    fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", fields)
    return [body]
