"""An application that has come a long way: below phase 4 it keeps its users, connections and
pages in a database beside all workers, from there on in stores."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qs

import guado
from guado import _phases, _state, store
from guado.register import Item, phase

FILE = os.environ["TEST_REGISTER"]


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(FILE, timeout=30, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            "CREATE TABLE IF NOT EXISTS item"
            " (kind, id, user, connection, fields, data, PRIMARY KEY (kind, id))"
        )
        yield db
        db.execute("COMMIT")
    finally:
        db.close()


def at(point: str) -> None:
    """Ends server and worker here, where a test wants it."""
    if os.path.exists(f"{FILE}.kill"):
        with open(f"{FILE}.kill") as wanted:
            if wanted.read() != point:
                return
        os.remove(f"{FILE}.kill")
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(1)


if phase() >= 4:
    at("import")


class Legacy:
    """The register of before."""

    def items(self) -> Iterable[Item]:
        at("items")
        if os.path.exists(f"{FILE}.broken"):
            raise RuntimeError("the old register is broken")
        with database() as db:
            rows = db.execute("SELECT * FROM item").fetchall()
        for kind, id, user, connection, fields, data in rows:
            yield Item(kind, id, user, connection, json.loads(fields), json.loads(data))
        at("items end")

    def replace(self, items: list[Item]) -> None:
        at("replace")
        with database() as db:
            db.execute("DELETE FROM item")
            at("replace half")
            for i in items:
                row = (i.kind, i.id, i.user, i.connection, json.dumps(i.fields), json.dumps(i.data))
                db.execute("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)", row)
        at("replaced")
        if os.path.exists(f"{FILE}.forgetful"):
            with database() as db:
                db.execute("UPDATE item SET data = '{}' WHERE kind = 'page'")


class Names(Legacy):
    """One that keeps users alone."""

    kinds = ("user",)

    def replace(self, items: list[Item]) -> None:
        if any(item.kind != "user" for item in items):
            raise RuntimeError(f"not users alone: {items}")
        super().replace(items)


class Wrong(Legacy):
    """One of a kind that there is not."""

    kinds = ("user", "session")


def fill(users: int, connections: int, pages: int) -> None:
    """Makes items, each with something in it."""
    legacy = []
    for i in range(users):
        legacy.append(Item("user", f"user{i}", data={"name": f"User {i}", "rights": [i, {"x": i}]}))
    for i in range(connections):
        user = f"user{i % users}" if i % 4 else None
        legacy.append(Item("connection", f"c{i:021}", user, data={"lang": "it", "n": i}))
    for i in range(pages):
        legacy.append(
            Item(
                "page",
                f"p{i:021}",
                connection=f"c{i % connections:021}",
                fields={"pagename": f"page/{i % 7}"},
                data={
                    "count": 0,
                    "env": {"workdate": "2026-01-01", "é": [1.5, None, True, "x" * (i % 1000)]},
                },
            )
        )
    Legacy().replace(legacy)


def count(id: str) -> int:
    """One more visit of a page."""
    if phase() >= 4:
        mine = guado.page(id).store
        mine["count"] += 1
        return int(mine["count"])
    with database() as db:
        row = db.execute("SELECT data FROM item WHERE kind = 'page' AND id = ?", (id,)).fetchone()
        data = json.loads(row[0])
        data["count"] += 1
        new = json.dumps(data)
        db.execute("UPDATE item SET data = ? WHERE kind = 'page' AND id = ?", (new, id))
    return int(data["count"])


def dump(side: str) -> dict[str, object]:
    """All items of one side: of the register of before, of this worker, or of the host."""
    items: Iterable[Item]
    if side == "legacy":
        items = Legacy().items()
    elif side == "host":
        items = _phases._kept()
    else:
        items = here()
    return {str(i): [i.user, i.connection, dict(i.fields), plain(i.data)] for i in items}


def here() -> Iterator[Item]:
    stores = _state.current()
    for user in guado.registry.users.list().result():
        data = stores.store(store.USER, f"u:{user.id}")
        yield Item("user", user.id, None, None, user.fields, data)
    for c in guado.registry.connections.list().result():
        yield Item("connection", c.id, c.user, None, c.fields, stores.store(store.CONNECTION, c.id))
    for page in guado.registry.pages.list().result():
        data = guado.page(page.id).store
        yield Item("page", page.id, None, page.connection, page.fields, data)


def plain(value: object) -> object:
    """Of tracked containers what is in them."""
    if isinstance(value, (Mapping, store.Store)):
        return {key: plain(value[key]) for key in value}
    return [plain(one) for one in value] if isinstance(value, list) else value


def app(environ: dict[str, str], start: Callable[..., object]) -> list[bytes]:
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    path = environ["PATH_INFO"]
    if path == "/fill":
        fill(int(query["users"]), int(query["connections"]), int(query["pages"]))
        answer: object = "filled"
    elif path == "/count":
        answer = count(query["id"])
    elif path == "/dump":
        answer = dump(query["side"])
    elif path == "/names":
        answer = sorted(map(str, Legacy().items()))
    elif path == "/wait":
        open(f"{FILE}.waits", "w").close()
        end = time.monotonic() + 60
        while not os.path.exists(f"{FILE}.go") and time.monotonic() < end:
            time.sleep(0.01)
        answer = "waited"
    else:
        answer = {"phase": phase(), "pid": os.getpid()}
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
