"""The global store, in memory.

Before: guado.global_store(), by the verbs global.*. After: nothing. Not here: the order in
which workers see writes; there is one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from guado import _values
from guado._replica import Changed
from guado.globalstore import GlobalStore, _plain
from guado.testing._memory import Refused

Path = tuple[str, ...]
Node = dict[str, Any]  # of Node, and bytes: JSON of protocol/store.md

_nothing: Any = object()


class Verbs:
    """The verbs, as protocol/link.md has them. They run under the host's lock."""

    def __init__(self, tell: Callable[[Path, Any, bool], None]) -> None:
        self.tell = tell
        self.root: Node = {}
        self.ends: dict[Path, float] = {}
        self.number = 0
        self.verbs = {
            "global.get": self.get,
            "global.set": self.set,
            "global.delete": self.delete,
            "global.compare": self.compare,
            "global.add": self.add,
            "global.default": self.default,
        }

    def get(self, data: dict[str, Any]) -> dict[str, Any]:
        found = self.find(tuple(data["path"]))
        if found is _nothing:
            return {"found": False, "number": self.number}
        return {"found": True, "value": json.loads(_json_of(found)), "number": self.number}

    def set(self, data: dict[str, Any]) -> dict[str, Any]:
        self.put(data, data["value"])
        return {"number": self.number}

    def delete(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"deleted": self.remove(tuple(data["path"])), "number": self.number}

    def compare(self, data: dict[str, Any]) -> dict[str, Any]:
        found, path = self.find(tuple(data["path"])), tuple(data["path"])
        old = _parsed(data["old"]) if "old" in data else _nothing
        same = found is old if _nothing in (found, old) else _json_of(found) == _json_of(old)
        if isinstance(found, dict) and isinstance(old, dict):
            same = json.loads(_json_of(found)) == json.loads(_json_of(old))
        if same and "new" in data:
            self.put(data, data["new"])
        elif same:
            self.remove(path)
        return {"swapped": same, "number": self.number}

    def add(self, data: dict[str, Any]) -> dict[str, Any]:
        found = self.find(tuple(data["path"]))
        if found is _nothing:
            value, more = 0, data
        else:
            value, more = _values.decode(_json_of(found)), {**data, "ttl_ms": None}
        if type(value) is not int:
            raise Refused(409, "no_counter", "the path holds something else than a whole number")
        total = json.loads(_values.encode(value + int(data.get("by", "1"))))
        self.put(more, total)
        return {"value": total, "number": self.number}

    def default(self, data: dict[str, Any]) -> dict[str, Any]:
        made = self.find(tuple(data["path"])) is _nothing
        if made:
            self.put(data, data["value"])
        value = json.loads(_json_of(self.find(tuple(data["path"]))))
        return {"made": made, "value": value, "number": self.number}

    # The tree.

    def find(self, path: Path) -> Any:
        self.expire()
        node: Any = self.root
        for key in path:
            if not isinstance(node, dict) or key not in node:
                return _nothing
            node = node[key]
        return node

    def put(self, data: dict[str, Any], value: Any) -> None:
        path = tuple(data["path"])
        if not path:
            raise Refused(400, "bad_path", "a path has a key")
        self.expire()
        node = self.root
        for key in path[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise Refused(409, "no_dict", f"{key} holds a value, and can have none below it")
        before = node.get(path[-1])
        node[path[-1]] = _parsed(value)
        ttl = data.get("ttl_ms", 0)
        if ttl is not None or before is None:
            for at in [p for p in self.ends if p[: len(path)] == path]:
                del self.ends[at]
        if ttl:
            self.ends[path] = time.monotonic() + ttl / 1000
        self.number += 1
        self.tell(path, node[path[-1]], False)

    def remove(self, path: Path) -> bool:
        if self.find(path) is _nothing or (not path and not self.root):
            return False
        node = self.root
        for key in path[:-1]:
            node = node[key]
        if path:
            del node[path[-1]]
        else:
            node.clear()
        self.ends = {at: end for at, end in self.ends.items() if at[: len(path)] != path}
        self.number += 1
        self.tell(path, None, True)
        return True

    def expire(self) -> None:
        now = time.monotonic()
        for path in [p for p, end in self.ends.items() if end <= now]:
            del self.ends[path]
            self.remove(path)


def _parsed(value: Any) -> Any:
    """A tree of what came as JSON: objects are dicts, but for those that stand for a value
    of another type (their first key begins with $)."""
    if isinstance(value, dict):
        if set(value) == {"$dict"}:
            return {key: _parsed(below) for key, below in value["$dict"]}
        if not next(iter(value), "").startswith("$"):
            return {key: _parsed(below) for key, below in value.items()}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _json_of(node: Any) -> bytes:
    if isinstance(node, bytes):
        return node
    pairs = [(json.dumps(k, ensure_ascii=False).encode(), _json_of(v)) for k, v in node.items()]
    if any(key.startswith("$") for key in node):
        return b'{"$dict":[%s]}' % b",".join(b"[%s,%s]" % pair for pair in pairs)
    return b"{%s}" % b",".join(b"%s:%s" % pair for pair in pairs)


class Store(GlobalStore):
    """The global store of a test. Who listens hears of a write before it returns."""

    def __init__(self) -> None:
        super().__init__(None)
        self.listeners: list[tuple[Path, Callable[[Changed], Any]]] = []
        self.changes: list[Changed] = []

    def note(self, path: Path, node: Any, gone: bool) -> None:
        """A write: under the host's lock, where nobody is called."""
        value = None if gone else _plain(json.loads(_json_of(node)))
        self.changes.append(Changed(path, value, gone))

    def told(self) -> None:
        """Behind the lock."""
        while self.changes:
            change = self.changes.pop(0)
            for path, function in list(self.listeners):
                short = min(len(path), len(change.path))
                if path[:short] == change.path[:short]:
                    function(change)

    def on_change(
        self, path: str | Any | None, function: Callable[[Changed], Any]
    ) -> Callable[[], None]:
        from guado import _records

        entry = (() if path is None else _records.path_of(path), function)
        self.listeners.append(entry)

        def end() -> None:
            if entry in self.listeners:
                self.listeners.remove(entry)

        return end
