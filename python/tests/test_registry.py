"""guado.registry, from a view and from a coroutine, over a real link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from push_host import WAYS, PushWorker, Refused

ITEM = {
    "kind": "page",
    "id": "P1",
    "user": "ann",
    "connection": "C1",
    "started": "2026-02-03T04:05:06.123456789Z",
    "last_seen": "2026-02-03T05:05:06Z",
    "connected": True,
    "fields": {"root": "R"},
}
PLAIN = ["<page P1 of ann>", {"root": "R"}, 0, True, "2026-02-03T05:05:06+00:00"]


def refuse(_: Any) -> Any:
    raise Refused(404, "no_item", "there is no such item")


@pytest.fixture(params=WAYS, scope="module")
def worker(request: pytest.FixtureRequest) -> Iterator[PushWorker]:
    with PushWorker(request.param, "registry_apps") as worker:
        worker.verbs |= {
            "registry.create": lambda _: ITEM,
            "registry.get": lambda data: ITEM if data["id"] != "nobody" else {},
            "registry.list": lambda _: {"items": [ITEM, ITEM | {"user": ""}]},
            "registry.count": lambda _: {"count": 7},
            "registry.update": lambda data: refuse(data) if data["id"] == "nobody" else ITEM,
            "registry.touch": lambda _: {"there": True},
            "registry.drop": lambda _: {"ended": 2},
        }
        yield worker
        assert worker.stop() == 0


@pytest.mark.parametrize(
    ("name", "verb", "data", "result"),
    [
        (
            "create",
            "create",
            {
                "kind": "page",
                "id": "P1",
                "connection": "C1",
                "user_agent": "",
                "fields": {"root": "R", "n": 1},
            },
            PLAIN,
        ),
        ("get", "get", {"kind": "page", "id": "P1"}, PLAIN),
        ("none", "get", {"kind": "user", "id": "nobody"}, None),
        ("exists", "get", {"kind": "connection", "id": "C1"}, True),
        (
            "list",
            "list",
            {
                "kind": "page",
                "limit": 5,
                "filter": {
                    "user": None,
                    "last_seen": {"min": "2026-02-03T04:05:06+00:00"},
                    "title": {"prefix": "U", "matches": "s$"},
                    "id": {"in": ["a"]},
                },
            },
            [PLAIN, ["<page P1 of a guest>", *PLAIN[1:]]],
        ),
        ("count", "count", {"kind": "user", "filter": {}}, 7),
        (
            "update",
            "update",
            {"kind": "connection", "id": "C1", "user": "", "fields": {"n": None}},
            PLAIN,
        ),
        ("touch", "touch", {"kind": "page", "id": "P1"}, True),
        ("drop", "drop", {"kind": "page", "id": "P1", "cascade": True}, 2),
    ],
)
def test_what_is_asked_of_the_index_and_what_comes_of_it(
    worker: PushWorker, name: str, verb: str, data: Any, result: Any
) -> None:
    for path in [f"/{name}"] + [f"/await/{name}"] * (worker.kind == "asgi"):
        assert worker.run(path) == result
        assert worker.asked[-1].verb == f"registry.{verb}"
        assert worker.asked[-1].data == data


def test_what_is_wrong_is_an_exception(worker: PushWorker) -> None:
    assert worker.run("/missing") == ["NoItem", "there is no such item", "no_item"]
    asked = len(worker.asked)
    for name, says in {
        "unknown": "an item says nothing under the name 'colour'",
        "twice": "two conditions for 'user' that exclude each other",
        "unfit": "which JSON does not have",
    }.items():
        kind, text, _ = worker.run(f"/{name}")
        assert kind == "TypeError"
        assert says in text
    assert len(worker.asked) == asked
