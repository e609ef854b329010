"""One item of a register: its living fields and Bag, and the store that survives them.

Before: _registers, whose calls change the living ones. After: the item's store, into which
`settle` writes what a call has changed. Not here: what calls do, and which items there are.

    store = {"register": fields, "changes": what clients wait for, "data": the Bag}

The Bag is GenroPy's own, with its triggers; GenroPy's rules hold because GenroPy's code
runs. It is a cache: where its store has been restored or dropped, it is made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gnr.web.gnrwebpage import ClientDataChange

from guado.adapters.genropy import _values
from guado.store import Store, StoreFull

# Fields that are not kept below "register": they have a place of their own, or none.
_APART = ("data", "datachanges")

_CHANGE = ("path", "value", "attributes", "reason", "fired", "change_ts", "change_idx", "delete")


def pack(change: Any) -> tuple[Any, ...]:
    return tuple(_values.keep(getattr(change, name)) for name in _CHANGE)


def unpack(kept: Any) -> Any:
    return ClientDataChange(**{n: _values.found(v) for n, v in zip(_CHANGE, kept, strict=True)})


class Item:
    """`fields` is what the legacy register calls the register item."""

    def __init__(self, store: Store, fields: dict[str, Any], data: Any) -> None:
        self.store = store
        self.fields = fields
        self.data = data
        self.mark: Any = None  # of the store as it was when this was made
        self._written = 0  # changes that are in the store
        self._again = False  # the changes are not what they were
        self._marked: set[int] = set()  # or these of them
        self._fields: set[str] = set()  # to be written
        self._paths: dict[tuple[str, ...], None] = {}  # in the order in which they came

    @classmethod
    def make(cls, store: Store, fields: dict[str, Any], data: Any) -> Item:
        item = cls(store, fields, data)
        kept = {k: _values.keep(v) for k, v in fields.items() if k not in _APART}
        kept = {k: kept.get(k) for k in fields}  # those apart have their place in the order
        store.update({"register": kept, "changes": [], "data": _values.entry(data)})
        item.mark = store["register"]
        item.settle()
        return item

    @classmethod
    def load(cls, store: Store) -> Item:
        """Out of its store. KeyError: there is no item in it."""
        mark = store["register"]
        fields = {k: _values.found(v) for k, v in store.get("register").items()}
        fields["datachanges"] = [unpack(kept) for kept in store["changes"]]
        data = _values.value_of(store["data"])
        item = cls(store, fields, data)
        item.mark = mark
        item._written = len(fields["datachanges"])
        return item

    def current(self) -> bool:
        """This is what is in the store. It is read for this answer, too."""
        return self.store.root.get("register") is self.mark

    def listen(self, function: Callable[..., None]) -> None:
        self.data.subscribe("datachanges", any=function)

    # What a call has changed.

    def set(self, **fields: Any) -> None:
        self.fields.update(fields)
        self.touch(*fields)

    def touch(self, *fields: str) -> None:
        self._again = self._again or "datachanges" in fields
        self._fields.update(name for name in fields if name not in _APART)

    def touch_change(self, at: int) -> None:
        self._marked.add(at)

    def touch_data(self, path: tuple[str, ...] = ()) -> None:
        """Something at or below the path; () is anywhere."""
        self._paths[path] = None

    def settle(self) -> None:
        """Writes it."""
        for name in self._fields:
            self.store.set(("register", name), _values.keep(self.fields[name]))
        self._fields.clear()
        if self._paths:
            self._write_data()
        self._write_changes()

    def _write_data(self) -> None:
        paths, self._paths = self._paths, {}
        if () in paths:
            _values.write(self.store, ("data",), self.data)
            return
        for path in paths:
            _values.write_node(self.store, ("data",), self.data, path)

    def _write_changes(self) -> None:
        changes = self.fields["datachanges"]
        if type(changes) is not list:
            return
        again, self._again = self._again or len(changes) < self._written, False
        marked, self._marked = self._marked, set()
        if again:
            self.store.set("changes", [pack(change) for change in changes])
            self._written = len(changes)
            return
        for at in marked:
            if at < self._written:
                self.store["changes"][at] = pack(changes[at])
        if len(changes) > self._written:
            new = [pack(change) for change in changes[self._written :]]
            try:
                self.store["changes"].extend(new)
            except StoreFull:
                if self.fields["register_name"] != "user" or len(changes) < 2:
                    raise
                self._shorten()
        self._written = len(changes)

    def _shorten(self) -> None:
        """The changes of a user are never taken by anybody, and would fill every store: those
        go that have waited longest."""
        changes = self.fields["datachanges"]
        del changes[: len(changes) // 2]
        self.store.set("changes", [pack(change) for change in changes])
