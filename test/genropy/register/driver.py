"""Calls of a register as a site makes them, at random but the same for the same seed."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from gnr.core.gnrbag import Bag
from guado.adapters.genropy._shadow import Call

BEGIN = datetime.datetime(2026, 2, 3, 9, 0, 0)
TABLES = ["invc.invoice", "invc.customer", "adm.user", "glbl.provincia"]
PATHS = ["cart", "cart.total", "cart.rows.r1", "gnr.batch", "rootenv.workdate", "sel.linked", "x"]

# The groups of calls, by the names under which reports speak of them.
GROUPS: dict[str, list[str]] = {}


def group(name: str) -> Any:
    def note(function: Any) -> Any:
        GROUPS.setdefault(name, []).append(function.__name__)
        return function

    return note


class Clock:
    """The time of both registers."""

    def __init__(self) -> None:
        self.at = BEGIN

    def now(self) -> datetime.datetime:
        return self.at

    def time(self) -> float:
        return self.at.timestamp()


def page_id(n: int) -> str:
    return f"p{n:021d}"


def connection_id(n: int) -> str:
    return f"c{n:021d}"


class Driver:
    def __init__(
        self, seed: int, clock: Clock, exists: Callable[[str, str], bool] | None = None
    ) -> None:
        """`exists`: new items belong to such that there are, as those of a site do."""
        self.exists = exists
        self.random = random.Random(seed)
        self.clock = clock
        self.count = 0
        self.pages: list[str] = []
        self.connections: list[str] = []
        self.users: list[str] = []
        self.made: dict[str, int] = {}  # calls by group

    def calls(self, number: int) -> Iterator[Call]:
        names = [(name, function) for name, all_ in GROUPS.items() for function in all_]
        weights = [
            8 if g == "create" else 1 if g in ("drop", "cleanup", "life") else 4 for g, _ in names
        ]
        yield Call("setConfiguration", (), {"cleanup": {"page_max_age": "90"}})
        while number > 0:
            name, function = self.random.choices(names, weights)[0]
            self.clock.at += datetime.timedelta(seconds=self.random.choice((0, 0, 1, 2, 7)))
            for call in getattr(self, function)():
                self.made[name] = self.made.get(name, 0) + 1
                number -= 1
                yield call

    def site(self, pages: int, connections: int, users: int) -> Iterator[Call]:
        """So many of each, with what a site keeps in them."""
        for n in range(users):
            yield Call("new_user", (f"user{n}",), {"user_tags": "admin", "user_id": f"u{n}"})
            yield self.on_bag("user", f"user{n}", "setItem", "pref", self.value(), w=1)
            yield self.in_register(
                "set_datachange", "user", f"user{n}", "gnr.x", value=self.value()
            )
        for n in range(connections):
            named = {"user": f"user{n % users}", "user_ip": "10.0.0.1", "connection_name": "c"}
            yield Call(
                "new_connection", (connection_id(n),), {**named, "avatar_extra": self.value()}
            )
            yield self.on_bag("connection", connection_id(n), "setItem", "locale", "it")
        for n in range(pages):
            data = Bag({"rootenv": Bag({"workdate": datetime.date(2026, 2, 3), "v": self.value()})})
            named = {"user": f"user{n % connections % users}", "pagename": "index.py", "data": data}
            yield Call(
                "new_page",
                (page_id(n),),
                {**named, "connection_id": connection_id(n % connections)},
            )
            yield Call(
                "subscribeTable",
                (page_id(n),),
                {"table": self.random.choice(TABLES), "subscribe": True},
            )
            yield Call(
                "setStoreSubscription",
                (page_id(n),),
                {"storename": "user", "client_path": "gnr", "active": True},
            )
            yield self.in_register("subscribe_path", "page", page_id(n), "cart")
            yield self.on_bag("page", page_id(n), "setItem", "cart.total", self.value())
            table = self.random.choice(TABLES)
            rows = self.value()
            yield self.on_bag(
                "page", page_id(n), "setItem", "cart.rows", rows, _caching_table=table
            )
        yield self.on_bag("global", "*", "setItem", "CACHE_TS.adm_user", self.clock.now())
        yield self.on_bag("global", "*", "setItem", "counters.n", 7, dtype="L")

    def probes(self) -> Iterator[Call]:
        """Calls whose answers rest on all that a register keeps."""
        for n in range(0, 60, 7):
            yield self.in_register("get_dbenv", "page", page_id(n))
            yield Call(
                "handle_ping",
                (),
                {
                    "page_id": page_id(n),
                    "_lastUserEventTs": self.clock.now(),
                    "_lastRpc": self.clock.now(),
                },
            )
            yield self.in_register("get_item_data", "page", page_id(n))
        for table in TABLES:
            yield Call("checkCachedTables", (table,), {})
        for n in range(0, 60, 7):
            yield self.in_register("get_item_data", "page", page_id(n))
        yield Call("counters", (), {})

    # What is chosen from.

    def id(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count:021d}"

    def one(self, kind: str) -> Any:
        if self.random.random() < 0.03:
            return f"no_such_{kind}"
        known = {"page": self.pages, "connection": self.connections, "user": self.users}[kind]
        return self.random.choice(known[-12:]) if known else f"no_{kind}"

    def any(self) -> tuple[str, Any]:
        kind = self.random.choice(("page", "page", "connection", "user", "global"))
        return kind, "*" if kind == "global" else self.one(kind)

    def path(self) -> str:
        return self.random.choice(PATHS)

    def value(self) -> Any:
        bag = Bag({"code": "a", "rows": Bag({"r1": 1, "r2": Decimal("2.50")})})
        bag.setItem("name", "Ann", dtype="T", width=20)
        return self.random.choice(
            [
                None,
                True,
                0,
                7,
                7.5,
                "text",
                "è",
                Decimal("9.90"),
                datetime.date(2026, 2, 3),
                self.clock.now(),
                datetime.time(4, 5),
                b"bytes",
                [1, "two", None],
                {"a": 1, 2: (3,)},
                (1, {"b": [2]}),
                {"s", "t"},
                frozenset((1,)),
                range(3),
                complex(1, 2),
                bag,
                Bag(),
            ]
        )

    def in_register(self, name: str, kind: str, id: Any, *args: Any, **named: Any) -> Call:
        return Call(name, (id, *args), {**named, "register_name": kind})

    def on_bag(self, kind: str, id: Any, method: str, *args: Any, **named: Any) -> Call:
        return Call(method, args, named, (kind, id, None))

    # The calls.

    @group("create")
    def new_connection(self) -> Iterator[Call]:
        id = self.id("c")
        user = self.one("user") if self.random.random() < 0.5 and self.users else f"guest_{id}"
        self.connections.append(id)
        self.users.append(user)
        yield Call(
            "new_connection",
            (id,),
            {
                "connection_name": f"10.0.0.{self.count % 250}",
                "user": user,
                "user_ip": "10.0.0.1",
                "user_agent": "Mozilla",
                "browser_name": "Firefox",
                "user_tags": None,
                "avatar_extra": self.value(),
                "electron_static": None,
            },
        )

    @group("create")
    def new_page(self) -> Iterator[Call]:
        id = self.id("p")
        self.pages.append(id)
        data = Bag({"rootenv": Bag({"workdate": datetime.date(2026, 2, 3)}), "pageArgs": {}})
        data.setItem("language", "it", dbenv="locale")
        connection = self.one("connection")
        if self.exists is not None and not self.exists("connection", connection):
            return
        yield Call(
            "new_page",
            (id,),
            {
                "pagename": self.random.choice(("index.py", "thpage.py")),
                "relative_url": "/index",
                "connection_id": connection,
                "user": self.one("user"),
                "user_ip": "10.0.0.1",
                "user_agent": "Mozilla",
                "data": data if self.random.random() < 0.7 else None,
                "subscribed_tables": "adm.user",
            },
        )

    @group("create")
    def new_user(self) -> Iterator[Call]:
        user = f"user{self.random.randrange(12)}"
        self.users.append(user)
        yield Call("new_user", (user,), {"user_tags": "admin", "user_id": "u1", "user_name": "Ann"})

    @group("drop")
    def drop_page(self) -> Iterator[Call]:
        yield Call("drop_page", (self.one("page"),), {"cascade": self.random.random() < 0.5})

    @group("drop")
    def drop_connection(self) -> Iterator[Call]:
        yield Call(
            "drop_connection", (self.one("connection"),), {"cascade": self.random.random() < 0.5}
        )

    @group("drop")
    def drop_many(self) -> Iterator[Call]:
        yield self.random.choice(
            [
                Call("drop_pages", (self.one("connection"),), {}),
                Call("drop_connections", (self.one("user"),), {}),
                Call("drop_user", (self.one("user"),), {}),
            ]
        )

    @group("read")
    def read(self) -> Iterator[Call]:
        connection, user = self.one("connection"), self.one("user")
        some = self.random.random() < 0.1  # it has an effect on all later answers
        yield self.random.choice(
            [
                Call("page", (self.one("page"),), {}),
                Call("connection", (connection,), {}),
                Call("user", (user,), {}),
                Call("pages", (), {}),
                Call("pages", (), {"connection_id": connection}),
                Call("pages", (), {"user": user}),
                Call("pages", (), {"index_name": self.random.choice(TABLES)}),
                Call("pages", (), {"filters": "pagename:th AND user:.*user"}),
                Call("pages", (), {"filters": "relative_url:("}),
                Call("pages", (), {"filters": "*", "include_data": some}),
                Call(
                    "connections",
                    (),
                    {"user": self.random.choice((None, user)), "include_data": some},
                ),
                Call("users", (), {"include_data": some}),
                Call("counters", (), {}),
                Call("user_connection_keys", (user,), {}),
                Call("user_connection_items", (user,), {}),
                Call("connection_page_keys", (connection,), {}),
                Call("connection_page_items", (connection,), {}),
                Call("subscribed_table_pages", (self.random.choice(TABLES),), {}),
            ]
        )

    @group("login")
    def change_connection_user(self) -> Iterator[Call]:
        user = f"user{self.random.randrange(12)}"
        self.users.append(user)
        named = {
            "user_tags": "_DEV_",
            "user_id": "u2",
            "user_name": "Ann B",
            "avatar_extra": self.value(),
        }
        yield Call("change_connection_user", (self.one("connection"),), {"user": user, **named})

    @group("keep-alive")
    def refresh(self) -> Iterator[Call]:
        named = {
            "last_user_ts": self.clock.now(),
            "last_rpc_ts": self.random.choice((None, self.clock.now())),
        }
        yield Call("refresh", (self.one("page"),), {**named, "pageProfilers": self.value()})

    @group("keep-alive")
    def update_profilers(self) -> Iterator[Call]:
        yield self.in_register("updatePageProfilers", "page", self.one("page"), None)

    @group("ping")
    def ping(self) -> Iterator[Call]:
        named: dict[str, Any] = {"reason": "auto", "_lastUserEventTs": self.clock.now()}
        if self.random.random() < 0.4:
            child = {
                "_lastUserEventTs": "2026-02-03 09:00:00::DH",
                "_lastRpc": None,
                "cart.total": "7::L",
            }
            named["_children_pages_info"] = {self.one("page"): child}
        if self.random.random() < 0.4:
            named["_serverstore_changes"] = {"cart.total": "7::L"}
        if self.random.random() < 0.7:
            named["_lastRpc"] = self.clock.now()
        yield Call("handle_ping", (), {"page_id": self.one("page"), **named})

    @group("ping")
    def batch(self) -> Iterator[Call]:
        user = self.one("user")
        yield self.on_bag("user", user, "setItem", "lastBatchUpdate", self.clock.now())
        yield Call(
            "handle_ping",
            (),
            {
                "page_id": self.one("page"),
                "_lastUserEventTs": self.clock.now(),
                "_lastRpc": self.clock.now(),
            },
        )

    @group("client to server store")
    def set_serverstore_changes(self) -> Iterator[Call]:
        text = self.random.choice(
            ("7::L", "::NN", "plain", "9.90::N", "2026-02-03::D", "true::B", 5)
        )
        yield Call("set_serverstore_changes", (self.one("page"), {self.path(): text, "k": "x"}), {})

    @group("subscriptions")
    def subscribe_store(self) -> Iterator[Call]:
        named = {
            "storename": self.random.choice(("user", "user", "connection")),
            "client_path": self.path(),
        }
        yield Call(
            "setStoreSubscription",
            (self.one("page"),),
            {**named, "active": self.random.random() < 0.8},
        )

    @group("subscriptions")
    def subscribe_table(self) -> Iterator[Call]:
        table = self.random.choice(TABLES)
        yield Call(
            "subscribeTable",
            (self.one("page"),),
            {"table": table, "subscribe": self.random.random() < 0.8},
        )
        yield self.in_register("filter_subscribed_tables", "page", [*TABLES, "no.table"])

    @group("subscriptions")
    def subscribe_path(self) -> Iterator[Call]:
        kind = self.random.choice(("page", "connection"))
        yield self.in_register("subscribe_path", kind, self.one(kind), self.path().split(".")[0])

    @group("push")
    def db_events(self) -> Iterator[Call]:
        events = {t: self.random.choice(([], [{"dbevent": "U", "pkey": "p1"}])) for t in TABLES}
        yield Call(
            "notifyDbEvents",
            (events,),
            {"register_name": "page", "origin_page_id": self.one("page"), "dbevent_reason": "test"},
        )

    @group("push")
    def in_client(self) -> Iterator[Call]:
        named: dict[str, Any] = {"page_id": self.one("page")}
        if self.random.random() < 0.2:
            named["filters"] = "pagename:index"
        if self.random.random() < 0.2:
            changes = Bag()
            changes.setItem("one", self.value(), _client_path="a.b", fired=True, kind="k")
            changes.setItem("two", 2, _client_path="a.c")
            yield Call("setInClientData", (changes,), {"register_name": "page", **named})
            return
        named.update(
            value=self.value(), attributes={"k": 1}, reason="r", fired=True, register_name="page"
        )
        yield Call("setInClientData", (self.path(),), named)

    @group("push")
    def pending_context(self) -> Iterator[Call]:
        context = [(self.path(), self.value(), {"serverpath": "y"}), ("pend", Bag({"a": 1}), None)]
        yield Call("setPendingContext", (self.one("page"), context), {"register_name": "page"})

    @group("drain")
    def drain(self) -> Iterator[Call]:
        yield Call("subscription_storechanges", (self.one("user"), self.one("page")), {})

    @group("drain")
    def of_users(self) -> Iterator[Call]:
        user = self.one("user")
        for _ in range(2):
            yield self.in_register(
                "set_datachange", "user", user, self.path(), value=self.value(), attributes={"k": 1}
            )
        yield Call("subscription_storechanges", (user, self.one("page")), {})

    @group("generic")
    def generic(self) -> Iterator[Call]:
        kind, id = self.any()
        yield self.random.choice(
            [
                self.in_register("get_item", kind, id, include_data=self.random.random() < 0.05),
                self.in_register("get_item_data", kind, id),
                self.in_register("exists", kind, id),
                Call(self.random.choice(("keys", "items", "values")), (), {"register_name": kind}),
                self.in_register("update_item", kind, id, {"last_event": self.value()}),
                self.in_register("get_datachanges", kind, id, reset=self.random.random() < 0.3),
                self.in_register("reset_datachanges", kind, id),
                self.in_register("drop_datachanges", kind, id, self.path()),
                self.in_register("get_dbenv", kind, id),
                Call("get_item", (id,), {}),
            ]
        )

    @group("generic")
    def change(self) -> Iterator[Call]:
        kind, id = self.any()
        named = {
            "value": self.value(),
            "reason": self.random.choice((None, "r")),
            "fired": self.random.random() < 0.5,
        }
        named.update(replace=self.random.random() < 0.4, delete=self.random.random() < 0.1)
        yield self.in_register("set_datachange", kind, id, self.path(), **named)

    @group("generic")
    def bag_write(self) -> Iterator[Call]:
        kind, id = self.any()
        on = self.on_bag
        yield self.random.choice(
            [
                on(
                    kind,
                    id,
                    "setItem",
                    self.path(),
                    self.value(),
                    self.random.choice((None, {"dbenv": True, "w": 1})),
                ),
                on(kind, id, "__setitem__", self.path(), self.value()),
                on(
                    kind,
                    id,
                    "setItem",
                    "cart.total",
                    self.value(),
                    _caching_table=self.random.choice(TABLES),
                ),
                on(kind, id, "setItem", "first", 1, _position="<"),
                on(kind, id, "addItem", "cart.double", self.value()),
                on(kind, id, "setAttr", "cart", {"k": self.value()}),
                on(kind, id, "pop", self.path()),
                on(kind, id, "popNode", "cart.rows.r1"),
                on(kind, id, "clear"),
                on(kind, id, "update", Bag({"cart": Bag({"u": 1}), "y": self.value()})),
                on(kind, id, "sort"),
                on(kind, id, "setdefault", "dflt.x", self.value()),
                on(kind, id, "setItem", "@sale.x", 1),
            ]
        )

    @group("generic")
    def bag_read(self) -> Iterator[Call]:
        kind, id = self.any()
        below = self.random.choice((None, None, "cart", "rootenv"))
        method, args = self.random.choice(
            [
                ("getItem", (self.path(),)),
                ("__getitem__", (self.path(),)),
                ("keys", ()),
                ("values", ()),
                ("items", ()),
                ("__len__", ()),
                ("__contains__", (self.path(),)),
                ("getAttr", ("cart",)),
                ("asString", ()),
                ("digest", ("#k,#v",)),
                ("getNode", ("cart",)),
                ("has_no_such", ()),
                ("toXml", ()),
            ]
        )
        yield Call(method, args, {}, (kind, id, below))

    @group("generic")
    def cached_tables(self) -> Iterator[Call]:
        if self.random.random() < 0.5:
            yield Call("checkCachedTables", (self.random.choice(TABLES),), {})
        else:
            yield Call(
                "invalidateTableCache", (self.random.choice(TABLES),), {"register_name": "page"}
            )

    @group("locks")
    def locks(self) -> Iterator[Call]:
        kind, id = self.any()
        for _ in range(self.random.randrange(1, 4)):
            name = self.random.choice(("lock_item", "lock_item", "unlock_item"))
            yield self.in_register(name, kind, id, reason=self.random.randrange(3))

    @group("cleanup")
    def cleanup(self) -> Iterator[Call]:
        if self.random.random() < 0.2:
            self.clock.at += datetime.timedelta(seconds=self.random.choice((45, 100, 900, 8000)))
        yield Call("claim_cleanup", (60,), {})
        connection = self.one("connection")
        yield Call("expire_pages", (connection,), {})
        yield Call("expire_connection", (connection,), {})

    @group("life")
    def life(self) -> Iterator[Call]:
        yield Call("pendingProcessCommands", (), {})
        yield Call("sendProcessCommand", ("reload",), {"pid": self.random.choice((None, -1))})
        yield Call("on_site_stop", (), {})
        yield Call(self.random.choice(("no_such_call", "user_connections")), ("x",), {})
