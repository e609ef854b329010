"""Opens many pages with something in their stores, ends them, and says what is left."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import guado
from guado import _state

TO_A_CONNECTION = 10


def leaves(number: int) -> dict[str, Any]:
    """Ten of them, 2 KB as JSON."""
    text = f"{number:08d}" + "x" * 460
    return {
        "title": f"Invoice {number}",
        "filter": {"from": "2026-01-01", "to": "2026-02-01", "text": text},
        "cart": {"note": text, "total": 1234.5, "lines": [number, number]},
        "form": {"name": text, "address": text, "dirty": True},
    }


def opened(count: int) -> list[str]:
    """Opens pages of guests and of users; gives their connections."""
    registry = guado.registry
    made = []
    for number in range(count // TO_A_CONNECTION):
        user = {"user": f"user{number}"} if number % 2 else {}
        made.append(registry.connections.create(**user))
    connections = [one.result().id for one in made]
    for i, connection in enumerate(connections):
        pages = [registry.pages.create(connection=connection) for _ in range(TO_A_CONNECTION)]
        for page in pages:
            guado.page(page.result().id).store.update(leaves(i))
        if i % 2:
            guado.user(f"user{i}").store["theme"] = "dark"
    return connections


def left() -> list[int]:
    """Bytes of the account in this worker, and stores that it has."""
    state: Any = _state.current()
    state._find(0, "")  # takes in what has ended
    return [state.ledger.bytes, len(state._stores) + len(state._restored)]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What the path says."""
    answer: Any = None
    match environ["PATH_INFO"].split("/"):
        case ["", "open", count]:
            answer = opened(int(count))
        case ["", "end"]:
            registry = guado.registry
            for id in json.load(environ["wsgi.input"]):
                registry.connections.drop(id).result()
            for user in registry.users.list().result():
                registry.users.drop(user.id).result()
        case ["", "left"]:
            answer = left()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
