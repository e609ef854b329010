"""One operation of a store, of the registry, of a dict, of Redis and of a Pyro4 daemon, in a
worker of Guado, while a request runs: microseconds by the clock, since what others do for the
operation counts, too. Each round visits each of them.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import guado

# So many calls of each in a round: of what is done in memory, of what is asked of another
# process.
NEAR, FAR, TURN = 2000, 100, 5


def near(store: Any) -> dict[str, Callable[[], Any]]:
    values = {f"k{i}": i for i in range(10)}

    def lock() -> None:
        with store.lock():
            pass

    def write() -> None:
        store["cart.total"] = 7

    def dict_write() -> None:
        values["k3"] = 7

    def transaction() -> None:
        with store.transaction():
            store["cart.total"] = 8

    return {
        "dict read": lambda: values["k3"],
        "dict write": dict_write,
        "store read": lambda: store["cart.total"],
        "store write": write,
        "store lock + unlock": lock,
        "store transaction": transaction,
    }


def far(page: str) -> dict[str, Callable[[], Any]]:
    pages, users = guado.registry.pages, guado.registry.users
    connection = guado.connection().id
    found = {
        "host: look up a page": lambda: pages.get(page).result(),
        "host: look up a connection": lambda: guado.registry.connections.get(connection).result(),
        "host: is there a user": lambda: users.exists("nobody").result(),
        "host: touch a page": lambda: pages.touch(page).result(),
    }
    return found | redis(page) | pyro(page)


def redis(page: str) -> dict[str, Callable[[], Any]]:
    """The same look-ups, as an application does them that has its index in Redis."""
    path = os.environ.get("BENCH_REDIS")
    if not path:
        return {}
    from redis import Redis

    client = Redis(unix_socket_path=path, decode_responses=True)
    item = guado.registry.pages.get(page).result()
    assert item is not None
    kept = {name: str(getattr(item, name)) for name in item.__slots__ if name != "fields"}
    client.hset("item", mapping=kept)
    return {
        "redis: one field": lambda: client.hget("item", "user"),
        "redis: all of an item": lambda: client.hgetall("item"),
        "redis: write a field": lambda: client.hset("item", "path", "/there"),
    }


def pyro(page: str) -> dict[str, Callable[[], Any]]:
    if not os.environ.get("BENCH_PYRO"):
        return {}
    import bench_daemon

    remote = bench_daemon.Remote(page)
    remote["path"] = "/here"

    def write() -> None:
        remote["path"] = "/there"

    return {
        "pyro: read": lambda: remote["path"],
        "pyro: write": write,
        "pyro: read, new connection": lambda: bench_daemon.once(page, "path"),
    }


def measure(store: Any, page: str, rounds: int) -> dict[str, float]:
    """The median of what one call takes, in microseconds: over rounds; of what others are asked
    over all calls, made by turns, for a processor that was idle is slow to wake."""
    near_by, far_off = near(store), far(page)
    found: dict[str, list[float]] = {name: [] for name in (near_by | far_off)}
    for _ in range(rounds):
        for name, do in near_by.items():
            start = time.perf_counter_ns()
            for _ in range(NEAR):
                do()
            found[name].append((time.perf_counter_ns() - start) / NEAR)
            guado.page().flush()
        for _ in range(FAR // TURN):
            for name, do in far_off.items():
                do()
                for _ in range(TURN):
                    start = time.perf_counter_ns()
                    do()
                    found[name].append(time.perf_counter_ns() - start)
    return {name: statistics.median(all) / 1000 for name, all in found.items()}
