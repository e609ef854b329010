"""What the API answers, as a list: under a server (WSGI), and in memory (`python alike.py`).

Ids that are made are told as id1, id2, … in the order in which they appear.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import guado

TOLD: list[Any] = []


class Room(guado.Page, name="alike.Room"):
    """Whoever opens it only waits for its first client, who never comes."""


def tell(name: str, work: Callable[[], Any]) -> Any:
    """Does it, and notes what came of it."""
    try:
        result = work()
        if hasattr(result, "result"):
            result = result.result()
    except guado.PageError as error:
        TOLD.append([name, "PageError", error.code])
    except Exception as error:
        TOLD.append([name, type(error).__name__, getattr(error, "code", "")])
    else:
        TOLD.append([name, plain(result)])
        return result
    return None


def plain(value: Any) -> Any:
    """Of an item all but its times."""
    if hasattr(value, "last_seen"):
        names = ("kind", "id", "user", "connection", "flag", "address", "user_agent")
        names += ("class_name", "path", "connected", "claimed", "pages", "connections", "fields")
        return {name: getattr(value, name) for name in names}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value if isinstance(value, dict | str | int | float | None) else repr(value)


def masked(told: list[Any]) -> list[Any]:
    known: dict[str, str] = {}
    for made in re.findall(r'"([A-Za-z0-9_]{22})"', text := json.dumps(told)):
        if not made.startswith("AAAA"):
            known.setdefault(made, f"id{len(known) + 1}")
    for made, name in known.items():
        text = text.replace(made, name)
    parsed: list[Any] = json.loads(text)
    return parsed


def people() -> None:
    me = guado.connection()
    tell("user of a guest", lambda: me.user)
    tell("bad name", lambda: me.login(" ada"))
    tell("login", lambda: me.login("ada", flag="bl"))
    tell("user", lambda: guado.connection().user)
    page = tell("new page", lambda: guado.new_page(Room, n=1))
    tell("no such class", lambda: guado.new_page("alike.None"))
    tell("item", lambda: guado.registry.pages.get(page))
    tell("page of the request", lambda: guado.page().id == page)
    handle = guado.page(page)
    tell("page", lambda: [handle.user, handle.connection == me.id, handle.connected])
    tell("push", lambda: handle.push({"a": (1, None)}))
    tell("push to a user", lambda: guado.user("ada").push(1))
    tell("push to nobody", lambda: guado.user("nobody").push(1))
    tell("push to none", lambda: guado.page("A" * 22).push(1))
    tell("push to all", lambda: guado.broadcast(1))
    tell("push what is no JSON", lambda: handle.push({1}))
    tell("subscribe", lambda: handle.subscribe("alike.*"))
    tell("bad topic", lambda: handle.subscribe("alike..x"))
    tell("subscribe none", lambda: guado.page("A" * 22).subscribe("alike.*"))
    tell("publish", lambda: guado.publish("alike.x", 1))
    tell("publish to nobody", lambda: guado.publish("nothing.x", 1))
    tell("unsubscribe", lambda: handle.unsubscribe("alike.*"))
    tell("publish again", lambda: guado.publish("alike.x", 1))
    tell("table", lambda: handle.subscribe_table("invoice"))
    tell("change", lambda: guado.dbevent("invoice", "insert", 7))
    tell("turn", lambda: in_turn(handle))
    tell("turn of none", lambda: in_turn(guado.page("A" * 22)))
    tell("end", handle.end)
    tell("end again", handle.end)
    tell("user of none", lambda: handle.user)


def in_turn(page: guado.PageHandle) -> Any:
    with page.turn(), page.turn():
        page.store["n"] = 1
        page.flush()
    return page.store["n"]


def items() -> None:
    pages, browsers, users = guado.registry.pages, guado.registry.connections, guado.registry.users
    mine = guado.connection().id
    tell("count", lambda: [browsers.count().result(), users.count().result()])
    other = tell("create", lambda: browsers.create(user="eve", fields={"kind": "api"}))
    tell("of ada", lambda: browsers.list(user="ada"))
    tell("of eve", lambda: users.get("eve"))
    tell("bad id", lambda: browsers.create("short"))
    tell("bad user", lambda: browsers.create(user="\n"))
    tell("no connection", lambda: pages.create(connection="A" * 22))
    page = tell(
        "page",
        lambda: pages.create(
            "A" * 22,
            connection=other.id,
            path="/x",
            address="10.0.0.1",
            user_agent="curl",
            fields={"n": 1, "t": "adm/x"},
        ),
    )
    tell("exists", lambda: pages.create("A" * 22, connection=other.id))
    tell("of another", lambda: pages.create(connection=other.id, user="ada"))
    for conditions in (
        {"n": 1},
        {"n__min": 1, "n__max": 1},
        {"n__min": 2},
        {"t__prefix": "adm/"},
        {"t__matches": "x$"},
        {"user__in": ["eve", "ada"]},
        {"user": None},
        {"last_seen__min": page.last_seen},
        {"started__max": page.started},
        {"id": page.id, "connected": False},
    ):
        tell(str([*conditions]), lambda c=conditions: pages.count(**c))
    tell("limit", lambda: users.list(1))
    tell("update", lambda: pages.update(page.id, fields={"n": None, "m": [1]}, address=None))
    tell("fixed", lambda: pages.update(page.id, user="ada"))
    tell("no item", lambda: pages.update("B" * 22, fields={}))
    tell("has cookie", lambda: browsers.update(mine, user="eve"))
    tell("given", lambda: browsers.update(other.id, user="bob"))
    tell("page of bob", lambda: guado.page(page.id).user)
    tell("touch", lambda: [pages.touch(page.id).result(), pages.touch("B" * 22).result()])
    tell("drop none", lambda: pages.drop("B" * 22))
    tell("drop", lambda: pages.drop(page.id, cascade=True))
    tell("gone", lambda: [browsers.exists(other.id).result(), users.exists("bob").result()])
    tell("user", lambda: users.create("zoe", fields={"x": True}))
    tell("drop user", lambda: users.drop("zoe"))


def stores() -> None:
    one = guado.global_store()
    tell("set", lambda: one.set("a.b", [1, (2,), {"$x": b"y"}]) and None)
    tell("get", lambda: repr(one["a"]))
    tell("below a value", lambda: one.set("a.b.c", 1))
    tell("add", lambda: [one.add("n").result(), one.add("n", 10**20).result()])
    tell("add to a list", lambda: one.add("a.b"))
    tell("compare", lambda: one.compare_and_set("n", 1, 2))
    tell("compare none", lambda: one.compare_and_set("m", guado.MISSING, {"k": {}}))
    tell("compare dicts", lambda: one.compare_and_set("m", {"k": {}}, guado.MISSING))
    tell("default", lambda: [one.setdefault("d", 1).result(), one.setdefault("d", 2).result()])
    tell("fresh", lambda: one.read("d", fresh=True))
    tell("missing", lambda: one["x"])
    tell("delete", lambda: [one.delete("a").result(), one.delete("a").result()])
    tell("keys", lambda: one.keys())
    mine = guado.connection().store
    mine["a", "b.c"] = {"d": [1]}
    mine["a"]["b.c"]["d"].append(2)
    tell("store", lambda: repr(mine["a"]))
    tell("store keeps", lambda: mine.set("x", object()))
    tell("no page", lambda: guado.page("B" * 22).store)
    tell("user store", lambda: guado.user("ada").store.setdefault("n", 1))
    guado.connection().logout()
    tell("after the logout", lambda: [guado.connection().user, guado.connection().store.get("a")])


def run() -> list[Any]:
    for part in (people, items, stores):
        part()
    return masked(TOLD)


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = json.dumps(run()).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


if __name__ == "__main__":
    from guado import testing

    with testing.worker() as w:
        guado.registry.connections.drop(w.connection.id).result()
        environ = {"PATH_INFO": "/", "REMOTE_ADDR": "127.0.0.1", "HTTP_USER_AGENT": "alike"}
        answer = w.wsgi(application)(environ, lambda status, fields: None)
        print(b"".join(answer).decode())
