"""Many pages: opened by the application itself, ten to a connection, each with its values."""

from __future__ import annotations

from typing import Any

import bench_pages
import guado
from guado import _state

TO_A_CONNECTION = 10


def act(query: dict[str, list[str]]) -> Any:
    do = query["do"][0]
    if do == "open":
        return opened(int(query["from"][0]), int(query["count"][0]))
    if do == "close":
        return closed(query["connections"][0].split(","))
    # What the worker holds: bytes of the account, and stores.
    state: Any = _state.current()
    state._find(0, "")  # takes in which stores have ended
    return [state.ledger.bytes, len(state._stores) + len(state._restored)]


def opened(first: int, count: int) -> list[str]:
    """Opens pages; gives their connections."""
    registry = guado.registry
    made = [registry.connections.create() for _ in range(count // TO_A_CONNECTION)]
    connections = [one.result().id for one in made]
    pages = [
        registry.pages.create(connection=connections[i // TO_A_CONNECTION], path="/")
        for i in range(count)
    ]
    for number, page in enumerate(pages, first):
        store = guado.page(page.result().id).store
        for path, value in bench_pages.values(number).items():
            store[path] = value
    return connections


def closed(connections: list[str]) -> int:
    """Ends connections and their pages; gives how many items have ended."""
    ends = [guado.registry.connections.drop(id) for id in connections]
    return sum(one.result() for one in ends)
