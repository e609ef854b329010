"""The index of users, connections and pages: who is there, since when, from where.

Before: any code of an application, an executor's function, a program. After: _host, which
asks the host: it is the authority. Not here: what items keep (guado.page().store), pushes to
them (push).

    guado.registry.pages.create(page_id, connection=connection_id, fields={"root": root})
    for item in guado.registry.pages.list(user="ann", last_seen__min=a_minute_ago).result():
        ...
    await guado.registry.connections.drop(connection_id, cascade=True)

The server makes items by itself for clients of its own (guado.connection(), guado.new_page());
these verbs are for applications that have ids of their own, and to look at all of them. An id
of a page or connection has 22 letters, digits or "_"; that of a user is the name.

Every verb returns a Reply: call ``result()``, or ``await`` it, or leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypedDict, TypeVar, Unpack

from guado import _host, _json
from guado._host import Reply

__all__ = ["Item", "Registry", "connections", "pages", "users"]

T = TypeVar("T")


class Item:
    """A user, connection or page as it was when it was asked for."""

    __slots__ = (
        "address",
        "app",
        "bytes",
        "claimed",
        "class_name",
        "connected",
        "connection",
        "connections",
        "fields",
        "flag",
        "id",
        "kind",
        "last_seen",
        "pages",
        "path",
        "started",
        "user",
        "user_agent",
    )

    kind: str  # "page", "connection" or "user"
    id: str
    user: str | None  # whose it is; None: a guest's
    connection: str | None  # of a page
    flag: str | None  # of the user's release
    started: datetime
    last_seen: datetime
    address: str | None
    user_agent: str | None
    app: str | None  # of a page, with class_name and path
    class_name: str | None
    path: str | None
    connected: bool  # the page's client has its session open now
    claimed: bool  # the page's client has come once
    pages: int  # of a connection or user
    connections: int  # of a user
    bytes: int  # of its store
    fields: dict[str, Any]  # the application's own

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.kind = answer["kind"]
        self.id = answer["id"]
        self.user = answer.get("user")
        self.connection = answer.get("connection")
        self.flag = answer.get("flag")
        self.started = datetime.fromisoformat(answer["started"])
        self.last_seen = datetime.fromisoformat(answer["last_seen"])
        self.address = answer.get("address")
        self.user_agent = answer.get("user_agent")
        self.app = answer.get("app")
        self.class_name = answer.get("class")
        self.path = answer.get("path")
        self.connected = answer.get("connected", False)
        self.claimed = answer.get("claimed", False)
        self.pages = answer.get("pages", 0)
        self.connections = answer.get("connections", 0)
        self.bytes = answer.get("bytes", 0)
        self.fields = answer.get("fields") or {}

    def __repr__(self) -> str:
        return f"<{self.kind} {self.id} of {self.user or 'a guest'}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]


class Told(TypedDict, total=False):
    """What an application says of an item."""

    user: str | None  # of a connection: whose it is
    connection: str  # of a page
    address: str | None
    user_agent: str | None
    app: str
    path: str
    fields: Mapping[str, Any]  # the application's own: JSON; None takes one away


def _item(answer: Any) -> Item:
    return Item(answer)


def _found(answer: Any) -> Item | None:
    return Item(answer) if answer else None


Items = list[Item]


def _items(answer: Any) -> Items:
    return [Item(one) for one in answer["items"] or ()]


class Registry:
    """The items of one kind: ``guado.registry.users``, ``.connections``, ``.pages``."""

    def __init__(self, kind: str) -> None:
        self.kind: Final = kind
        self._name = kind.encode()

    def __repr__(self) -> str:
        return f"guado.registry.{self.kind}s"

    def create(self, id: str | None = None, **told: Unpack[Told]) -> Reply[Item]:
        """Makes an item; without an id, with one that nobody can guess (not a user).

        A page needs its ``connection``, and is its user's. HostError: ``exists``,
        ``no_connection``, ``bad_id``, ``bad_user``, ``bad_fields``.
        """
        return self._ask("create", _item, _told(id, told))

    def get(self, id: str) -> Reply[Item | None]:
        """The item; None: there is none."""
        return self._look("get", _found, id)

    def exists(self, id: str) -> Reply[bool]:
        """Whether there is one with this id."""
        return self._look("get", bool, id)

    def list(self, limit: int = 0, /, **filter: Any) -> Reply[Items]:
        """The items for which all conditions are true, those that began first first.

        A condition names what an Item has, or one of the application's own fields:
        ``user="ann"``, ``user=None`` (guests), ``pagename__prefix="adm/"``,
        ``user_agent__matches="Firefox"`` (a regular expression of RE2), ``id__in=[...]``,
        ``last_seen__min=moment``, ``__max`` (both inclusive).
        """
        return self._ask("list", _items, {"limit": limit, "filter": _filter(filter)})

    def count(self, **filter: Any) -> Reply[int]:
        """How many there are, with the conditions of :meth:`list`."""
        return self._ask("count", _counted, {"filter": _filter(filter)})

    def update(self, id: str, **told: Unpack[Told]) -> Reply[Item]:
        """Changes what an item says of itself; fields are put over those that there are.

        ``user`` gives a connection that the application has made, with all its pages, to
        another user (None: a guest). HostError: ``no_item``, ``fixed``, ``has_cookie`` (log
        in by guado.connection().login()).
        """
        return self._ask("update", _item, _told(id, told))

    def touch(self, id: str) -> Reply[bool]:
        """Says that an item is in use, and with a page its connection. False: there is none.

        A request that names its page (``page.from``) does so by itself.
        """
        return self._look("touch", _there, id)

    def drop(self, id: str, cascade: bool = False) -> Reply[int]:
        """Ends an item and what belongs to it: the pages of a connection, the connections of
        a user. With `cascade`, also what it belonged to, if nothing else does: the connection
        of a page, the user of a connection. Tells how many have ended; 0: there was none.
        """
        return self._ask("drop", _ended, {"id": id, "cascade": cascade})

    def _look(self, verb: str, convert: Callable[[Any], T], id: str) -> Reply[T]:
        """At one item: the short way."""
        reply: Reply[T] = Reply()
        data = b'{"kind":"%s","id":%s}' % (self._name, _json.encode(id))
        _host.ask(f"registry.{verb}", data, reply, convert)
        return reply

    def _ask(self, verb: str, convert: Callable[[Any], T], data: dict[str, Any]) -> Reply[T]:
        reply: Reply[T] = Reply()
        data["kind"] = self.kind
        _host.ask(f"registry.{verb}", _json.encode(data), reply, convert)
        return reply


def _counted(answer: Any) -> int:
    return int(answer["count"])


def _there(answer: Any) -> bool:
    return bool(answer["there"])


def _ended(answer: Any) -> int:
    return int(answer["ended"])


def _told(id: str | None, told: Told) -> dict[str, Any]:
    data: dict[str, Any] = dict(told)
    unknown = data.keys() - Told.__annotations__.keys()
    if unknown:
        raise TypeError(
            f"an item says nothing under the name {min(unknown)!r}; what is the application's "
            "own goes into fields={...}"
        )
    for name in ("user", "address", "user_agent"):
        if name in data and data[name] is None:
            data[name] = ""
    if id is not None:
        data["id"] = id
    return data


_OPERATORS = ("in", "prefix", "matches", "min", "max")


def _filter(conditions: dict[str, Any]) -> dict[str, Any]:
    """{"user": "ann", "last_seen": {"min": "2026-…"}} of user="ann", last_seen__min=…"""
    data: dict[str, Any] = {}
    for name, value in conditions.items():
        field, _, operator = name.rpartition("__")
        if not field or operator not in _OPERATORS:
            if name in data:
                raise TypeError(f"two conditions for {name!r} that exclude each other")
            data[name] = _plain(value)
            continue
        one = data.setdefault(field, {})
        if not isinstance(one, dict):
            raise TypeError(f"two conditions for {field!r} that exclude each other")
        one[operator] = [_plain(v) for v in value] if operator == "in" else _plain(value)
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.astimezone()
        return value.isoformat()
    return value


pages = Registry("page")
connections = Registry("connection")
users = Registry("user")
