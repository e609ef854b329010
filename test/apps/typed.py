"""Most of the API, as a typed application uses it: `make lint` checks that its types fit, and
nobody runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import guado
from guado import registry, testing


class Cart(guado.Page, name="cart"):
    total: int = 0

    def on_open(self, *, reopened: bool = False) -> None:
        self.subscribe("stock")
        self.subscribe_table("invoice").result()
        self.room = int(self.args["room"])

    def on_restore(self) -> None:
        self.total = sum(item["qty"] for item in self.store.get("items", []))

    def on_message(self, data: Any) -> dict[str, int]:
        self.store.setdefault("items", []).append(data)
        n: int = self.store.add("n")
        won: bool = self.store.compare_and_set("state", guado.MISSING, "open")
        with self.store.transaction(timeout=3), self.store.lock():
            self.store["total.net"] = Decimal("1.0")
        with guado.transaction(self.store, guado.connection().store):
            pass
        self.push({"n": n, "won": won})
        return {"n": n}

    def on_request(self, request: guado.PageRequest) -> Any:
        if request.method != "GET":
            raise guado.PageError("method", "only GET")
        return {"path": request.path, "query": request.query, "data": request.data}

    @guado.concurrent
    def on_event(self, topic: str, data: Any) -> None:
        self.push([topic, data], ack=True, timeout=3.0)

    def on_close(self, why: str) -> None:
        print(why)


class Later(guado.Page):
    async def on_open(self, *, reopened: bool = False) -> None:
        await self.subscribe("x")

    async def on_message(self, data: Any) -> Any:
        async with guado.page("x").turn(timeout=1), self.store.lock(), self.store.transaction():
            pass
        delivered = await self.push(data)
        return delivered.pages

    async def on_request(self, request: guado.PageRequest) -> Any:
        return request.path


@guado.on("stock.*")
def heard(topic: str, data: Any) -> None:
    print(topic, data)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    connection = guado.connection()
    connection.login("ada", flag="blue")
    name: str | None = connection.user
    page_id: str = guado.new_page(Cart, room=1)
    page = guado.page()
    with page.turn():
        page.store["a", "b.c"] = 1
    ended = page.store.on_change("a", lambda w: print(w.path, w.deleted))
    ended()
    page.store.set("x", 1, "a reason")
    value: Any = page.store.get("x")
    guado.user("ada").push({"x": 1})
    guado.user().store["theme"] = "dark"
    guado.broadcast(1)
    published: guado.Published = guado.publish("stock.7", {"n": 1}).result()
    guado.dbevent("invoice", "update", 7)
    with guado.dbevents() as changes:
        changes.add("invoice", "insert", 8)
    item = registry.pages.get(page_id).result()
    if item is not None:
        print(item.user, item.started)
    count: int = registry.users.count().result()
    store = guado.global_store()
    store["rates", "EUR"] = Decimal("1")
    total: int = store.add("hits").result()
    done: bool = store.compare_and_set("x", guado.MISSING, 1).result()
    task = guado.executor("cpu").submit(pow, 2, 3)
    power: int = task.result()
    start_response("200 OK", [])
    return [f"{name} {value} {published.pages} {count} {total} {done} {power}".encode()]


async def later() -> None:
    item = await registry.connections.get("x")
    print(item)
    n: int = await guado.global_store().add("x")
    print(n)
    try:
        await guado.page("x").push(1)
    except guado.NoPage as error:
        print(error.code)
    except (guado.Deadlock, guado.LockTimeout, guado.StoreFull, guado.ReadOnly):
        pass


def test() -> None:
    with testing.worker(user="ada", page=Cart, args={"room": 1}) as w:
        page = w.open(Cart, {"room": 2})
        got: Any = page.fetch("x?y", {"a": 1}, method="POST")
        print(got, page.pushed, w.published)
        site = w.wsgi(app)
        print(site)
