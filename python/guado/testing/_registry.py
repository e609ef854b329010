"""The index of users, connections and pages, in memory.

Before: guado.registry, by the verbs registry.*. After: _memory, which has them. Not here:
expiry; in a test time does not pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from guado.testing._memory import Browser, Host, Meta, Refused, Tab, checked_user

_ID = re.compile(r"[A-Za-z0-9_]{22}").fullmatch


class Registry:
    """The verbs, as protocol/link.md has them. They run under the host's lock."""

    def __init__(self, host: Host, bytes_of: Callable[[str, str], int]) -> None:
        self.host = host
        self.bytes_of = bytes_of
        self.verbs = {
            "registry.create": self.create,
            "registry.update": self.update,
            "registry.get": self.get,
            "registry.list": self.listed,
            "registry.count": self.count,
            "registry.touch": self.touch,
            "registry.drop": self.drop,
        }

    def create(self, data: dict[str, Any]) -> dict[str, Any]:
        kind, id, host = data["kind"], data.get("id", ""), self.host
        if id and self.find(kind, id) is not None:
            raise Refused(409, "exists", f"there is a {kind} {id}")
        if kind == "user":
            id = checked_user(id or data.get("user", ""))
            self.put(host.user(id), data)
            return self.item(kind, id)
        if id and not _ID(id):
            raise Refused(400, "bad_id", f"{id!r} is no id: 22 letters, digits or _")
        made: Browser | Tab
        if kind == "connection":
            user = data.get("user", "")
            made = host.browser(checked_user(user) if user else "", id, cookie=False)
        else:
            browser = host.browsers.get(data.get("connection", ""))
            if browser is None:
                raise Refused(404, "no_connection", "a page needs a connection that there is")
            if data.get("user", browser.user) != browser.user:
                raise Refused(409, "fixed", f"the connection is {browser.user!r}'s")
            made = host.open(browser, "", {}, id)
            made.meta.app, made.meta.path = data.get("app", ""), data.get("path", "")
        self.put(made.meta, data)
        return self.item(kind, made.id)

    def update(self, data: dict[str, Any]) -> dict[str, Any]:
        kind, id = data["kind"], data["id"]
        found = self.find(kind, id)
        if found is None:
            raise Refused(404, "no_item", f"there is no {kind} {id}")
        if data.get("connection") or ("user" in data and kind != "connection"):
            raise Refused(409, "fixed", "what an item belongs to is fixed")
        self.put(found if isinstance(found, Meta) else found.meta, data)
        if "user" in data and isinstance(found, Browser) and data["user"] != found.user:
            if found.cookie:
                raise Refused(409, "has_cookie", "a browser has this connection's cookie")
            user = checked_user(data["user"]) if data["user"] else ""
            self.host.change(found, user, ends=False)
        return self.item(kind, id)

    def get(self, data: dict[str, Any]) -> dict[str, Any]:
        there = self.find(data["kind"], data["id"]) is not None
        return self.item(data["kind"], data["id"]) if there else {}

    def listed(self, data: dict[str, Any]) -> dict[str, Any]:
        kind, limit = data["kind"], data.get("limit", 0)
        host = self.host
        ids: dict[str, Iterable[str]] = {"user": host.users, "connection": host.browsers}
        items = [self.item(kind, id) for id in ids.get(kind, host.tabs)]
        found = [one for one in items if matches(one, data.get("filter") or {})]
        return {"items": found[: limit or None]}

    def count(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"count": len(self.listed({**data, "limit": 0})["items"])}

    def touch(self, data: dict[str, Any]) -> dict[str, Any]:
        found = self.find(data["kind"], data["id"])
        if found is None:
            return {"there": False}
        touched = [found if isinstance(found, Meta) else found.meta]
        if isinstance(found, Tab):
            touched.append(found.browser.meta)
        for meta in touched:
            meta.seen = datetime.now(UTC)
        return {"there": True}

    def drop(self, data: dict[str, Any]) -> dict[str, Any]:
        kind, id, cascade, host = data["kind"], data["id"], data.get("cascade"), self.host
        found = self.find(kind, id)
        ended = 0
        if isinstance(found, Tab):
            host.end(found, "dropped")
            ended = 1
            if cascade and not any(t.browser is found.browser for t in host.tabs.values()):
                ended += host.drop(found.browser)
        elif isinstance(found, Browser):
            ended = host.drop(found)
            if cascade and found.user and not self.browsers(found.user):
                ended += host.forget(found.user)
        elif found is not None:
            ended = sum(host.drop(b) for b in self.browsers(id)) + host.forget(id)
        return {"ended": ended}

    # What there is.

    def find(self, kind: str, id: str) -> Browser | Tab | Meta | None:
        host = self.host
        if kind == "page":
            return host.tabs.get(id)
        return host.browsers.get(id) if kind == "connection" else host.users.get(id)

    def browsers(self, user: str) -> list[Browser]:
        return [b for b in self.host.browsers.values() if b.user == user]

    def put(self, meta: Meta, data: dict[str, Any]) -> None:
        meta.address = data.get("address", meta.address)
        meta.user_agent = data.get("user_agent", meta.user_agent)
        merged = {**meta.fields, **(data.get("fields") or {})}
        meta.fields = {name: value for name, value in merged.items() if value is not None}

    def item(self, kind: str, id: str) -> dict[str, Any]:
        """As the host tells it."""
        found, tabs = self.find(kind, id), list(self.host.tabs.values())
        told: dict[str, Any] = {"kind": kind, "id": id, "bytes": self.bytes_of(kind, id)}
        if isinstance(found, Tab):
            meta, browser = found.meta, found.browser
            told |= {
                "user": browser.user,
                "connection": browser.id,
                "class": found.cls,
                "connected": found.connected,
                "claimed": found.opened or found.connected,
            }
        elif isinstance(found, Browser):
            meta = found.meta
            told |= {"user": found.user, "flag": found.flag}
            told["pages"] = sum(t.browser is found for t in tabs)
        else:
            assert found is not None
            meta, browsers = found, self.browsers(id)
            told |= {"user": id, "connections": len(browsers)}
            told["flag"] = browsers[-1].flag if browsers else ""
            told["pages"] = sum(t.browser.user == id for t in tabs)
        told |= {
            "started": meta.started.isoformat(),
            "last_seen": meta.seen.isoformat(),
            "address": meta.address,
            "user_agent": meta.user_agent,
            "app": meta.app,
            "path": meta.path,
            "fields": meta.fields,
        }
        return {name: value for name, value in told.items() if value not in ("", None, {})}


_KNOWN = {"id", "user", "connection", "flag", "address", "user_agent", "app", "class", "path"}
_KNOWN |= {"started", "last_seen", "connected", "claimed", "pages", "connections"}


def matches(item: dict[str, Any], conditions: dict[str, Any]) -> bool:
    """Whether all conditions are true of an item."""
    for name, condition in conditions.items():
        value = item.get(name) if name in _KNOWN else (item.get("fields") or {}).get(name)
        if name in ("started", "last_seen"):
            value = datetime.fromisoformat(str(value))
            condition = _moments(condition)
        if not isinstance(condition, dict):
            if value != condition:
                return False
        elif not all(_OPERATORS[op](value, wanted) for op, wanted in condition.items()):
            return False
    return True


def _moments(condition: Any) -> Any:
    if isinstance(condition, dict):
        return {name: _moments(value) for name, value in condition.items()}
    if isinstance(condition, list):
        return [_moments(value) for value in condition]
    return datetime.fromisoformat(condition) if isinstance(condition, str) else condition


def _compared(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, wanted: type(value) is type(wanted) and test(value, wanted)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "in": lambda value, wanted: value in wanted,
    "prefix": _compared(lambda value, wanted: value.startswith(wanted)),
    "matches": _compared(lambda value, wanted: re.search(wanted, value) is not None),
    "min": _compared(lambda value, wanted: value >= wanted),
    "max": _compared(lambda value, wanted: value <= wanted),
}
