"""The four registers of a site and what their calls mean, as GenroPy's callers know them.

Before: register, which lets in one call at a time and hands out copies. After: _items, and
the backing that has the stores. Not here: what spans registers (_site).

Answers are those of GenroPy's own register down to its oddities, for a site was written
against them. Where a line below seems strange, it is because an answer would be another one:
an item that was once asked for with its data shows them ever after, filters joined by AND
give a page once for each that matches, ages are looked at without their days.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gnr.core.gnrbag import Bag
from gnr.web.gnrwebpage import ClientDataChange

from guado.adapters.genropy._items import Item

if TYPE_CHECKING:
    from guado.adapters.genropy._site import Site

LOCK_EXPIRY = 10  # seconds

Fields = dict[str, Any]


class Register:
    """What all four have in common."""

    kind = ""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._items: dict[str, Item] = {}  # what was made of stores so far
        self._locks: dict[Any, dict[str, Any]] = {}
        self._cached: dict[str, dict[str, set[str]]] = {}  # table → item → paths of its data

    # Items.

    def _add(self, id: Any, fields: Fields, data: Any = None) -> Fields:
        fields.update(datachanges=[], datachanges_idx=0, subscribed_paths=set())
        store = self._site.backing.create(self.kind, id, fields)
        try:
            item = self._items[id] = Item.make(store, fields, Bag(data))
        except BaseException:
            self._site.backing.drop(self.kind, id)  # no half of an item
            raise
        self._listen(id, item)
        return fields

    def _item(self, id: Any) -> Item | None:
        store = self._site.backing.find(self.kind, id)
        item = self._items.get(id)
        if store is None:
            if item is not None:
                del self._items[id]
            return None
        if item is None or item.store is not store or not item.current():
            try:
                item = Item.load(store)
            except KeyError:  # it was ended, or made by halves: nobody can use it
                self._items.pop(id, None)
                return None
            self._items[id] = item
            self._listen(id, item)
            self._know_tables(id, item)
        return item

    def _known(self) -> list[tuple[Any, Item]]:
        pairs = ((id, self._item(id)) for id in self._site.backing.ids(self.kind))
        return [(id, item) for id, item in pairs if item is not None]

    def _changing(self, id: Any) -> Item | None:
        item = self._item(id)
        if item is not None:
            self._site.change(item)
        return item

    def _drop(self, id: Any) -> Fields | None:
        item = self._item(id)
        self._items.pop(id, None)
        self._site.backing.drop(self.kind, id)
        if item is None:
            return None
        self._site.forget(item)
        return item.fields

    def _listen(self, id: Any, item: Item) -> None:
        item.listen(lambda **event: self._heard(id, item, **event))

    def _know_tables(self, id: Any, item: Item) -> None:
        """Tables whose rows are cached in the data, of an item that comes out of its store."""

        def look(node: Any, _pathlist: list[str]) -> None:
            table = node.attr.get("_caching_table")
            if table:
                path = ".".join([*_pathlist, node.label])
                self._cached.setdefault(table, {}).setdefault(id, set()).add(path)

        item.data.walk(look, _pathlist=[])

    def _heard(
        self, id: Any, item: Item, node: Any = None, evt: Any = None, pathlist: Any = None, **_: Any
    ) -> None:
        """The data has changed: clients hear of it that subscribed to the path."""
        if evt == "ins":
            pathlist.append(node.label)
        path = ".".join(pathlist)
        if evt != "del" and node.attr.get("_caching_table"):
            tables = self._cached.setdefault(node.attr["_caching_table"], {})
            tables.setdefault(id, set()).add(path)
        if any(path.startswith(prefix) for prefix in item.fields["subscribed_paths"]):
            change = ClientDataChange(
                path=path, value=node.value, reason="serverChange", attributes=node.attr
            )
            item.fields["datachanges"].append(change)

    # Generic calls.

    def exists(self, register_item_id: Any) -> bool:
        return self._site.backing.find(self.kind, register_item_id) is not None

    def get_item(self, register_item_id: Any, include_data: Any = False) -> Fields | None:
        item = self._item(register_item_id)
        if item is None:
            return None
        if include_data:
            item.fields["data"] = item.data
        return item.fields

    def get_item_data(self, register_item_id: Any) -> Any:
        item = self._item(register_item_id)
        return Bag() if item is None else item.data

    def keys(self) -> list[Any]:
        return [id for id, _ in self._known()]

    def items(self, include_data: Any = None) -> list[tuple[Any, Fields]]:
        known = self._known()
        if include_data:
            for _, item in known:
                item.fields["data"] = item.data
        return [(id, item.fields) for id, item in known]

    def values(self, include_data: Any = False) -> list[Fields]:
        return [fields for _, fields in self.items(include_data)]

    def update_item(self, register_item_id: Any, upddict: Any = None) -> Fields | None:
        item = self._changing(register_item_id)
        if item is None:
            return None
        item.fields.update(upddict)
        item.touch(*dict(upddict))
        self._site.backing.changed(self.kind, register_item_id, item.fields)
        return item.fields

    def refresh(
        self,
        register_item_id: Any,
        last_user_ts: Any = None,
        last_rpc_ts: Any = None,
        refresh_ts: Any = None,
    ) -> Fields | None:
        item = self._changing(register_item_id)
        if item is None:
            return None
        fields = item.fields
        for name, time in (
            ("last_user_ts", last_user_ts),
            ("last_rpc_ts", last_rpc_ts),
            ("last_refresh_ts", refresh_ts),
        ):
            item.set(**{name: max(fields[name], time) if fields.get(name) else time})
        return fields

    def get_dbenv(self, register_item_id: Any) -> Any:
        item = self._changing(register_item_id)
        data = Bag() if item is None else item.data
        env = data.getItem("dbenv") or Bag()
        env.update(data.getItem("rootenv") or Bag())

        def add(node: Any, _pathlist: Any = None) -> None:
            name = node.attr.get("dbenv")
            if name:
                env[node.label if name is True else name] = node.value

        data.walk(add, _pathlist=[])
        if item is not None and data.getItem("dbenv") is env:
            item.touch_data(("dbenv",))
        return env

    def drop_item(self, register_item_id: Any) -> Fields | None:
        return self._drop(register_item_id)

    # Locks: of whom `reason` names, and of this process's life.

    def lock_item(self, register_item_id: Any, reason: Any = None) -> bool:
        now = self._site.now()
        lock = self._locks.get(register_item_id)
        if lock is None:
            self._locks[register_item_id] = {"reason": reason, "count": 1, "at": now}
            return True
        if lock["reason"] == reason:
            lock["count"] += 1
            lock["at"] = now
            return True
        if (now - lock["at"]).total_seconds() > LOCK_EXPIRY:
            del self._locks[register_item_id]
        return False

    def unlock_item(self, register_item_id: Any, reason: Any = None) -> bool | None:
        lock = self._locks.get(register_item_id)
        if lock is None:
            return None
        if lock["reason"] != reason:
            return False
        lock["count"] -= 1
        if not lock["count"]:
            del self._locks[register_item_id]
        return None

    # Changes for clients.

    def get_datachanges(self, register_item_id: Any, reset: Any = False) -> Any:
        item = self._changing(register_item_id)
        if item is None:
            return None
        changes = item.fields["datachanges"]
        if reset:
            item.set(datachanges=[], datachanges_idx=0)
        return changes

    def reset_datachanges(self, register_item_id: Any) -> Fields | None:
        return self.update_item(register_item_id, {"datachanges": [], "datachanges_idx": 0})

    def set_datachange(
        self,
        register_item_id: Any,
        path: Any,
        value: Any = None,
        attributes: Any = None,
        fired: Any = False,
        reason: Any = None,
        replace: Any = False,
        delete: Any = False,
    ) -> None:
        item = self._changing(register_item_id)
        if item is None:
            return
        changes = item.fields["datachanges"]
        item.set(datachanges_idx=item.fields.get("datachanges_idx", 0) + 1)
        change = ClientDataChange(
            path,
            value,
            attributes=attributes,
            fired=fired,
            reason=reason,
            change_idx=item.fields["datachanges_idx"],
            delete=delete,
        )
        if replace and change in changes:
            del changes[changes.index(change)]
            item.touch("datachanges")
        changes.append(change)

    def drop_datachanges(self, register_item_id: Any, path: Any) -> None:
        item = self._changing(register_item_id)
        if item is not None:
            changes = item.fields["datachanges"]
            changes[:] = [c for c in changes if not c.path.startswith(path)]
            item.touch("datachanges")

    def subscribe_path(self, register_item_id: Any, path: Any) -> None:
        item = self._changing(register_item_id)
        if item is None:
            raise TypeError(f"there is no {self.kind} {register_item_id} to subscribe a path of")
        item.fields["subscribed_paths"].add(path)
        item.touch("subscribed_paths")

    # Tables whose rows are cached in data.

    def invalidateTableCache(self, table: Any) -> None:
        for id, paths in list(self._cached.pop(table).items()):
            item = self._changing(id)
            if item is None or not item.data:
                continue
            for path in paths:
                item.data[path] = None
            item.touch_data()


class Global(Register):
    kind = "global"

    def create(self, identifier: Any = None) -> Fields:
        return self._add(
            identifier,
            {
                "start_ts": self._site.now(),
                "register_item_id": identifier,
                "register_name": "global",
            },
        )

    def drop(self, identifier: Any) -> None:
        self._drop(identifier)


class Users(Register):
    kind = "user"

    def create(
        self,
        user: Any,
        user_id: Any = None,
        user_name: Any = None,
        user_tags: Any = None,
        avatar_extra: Any = None,
    ) -> Fields:
        return self._add(
            user,
            {
                "register_item_id": user,
                "start_ts": self._site.now(),
                "user": user,
                "user_id": user_id,
                "user_name": user_name,
                "user_tags": user_tags,
                "avatar_extra": avatar_extra,
                "register_name": "user",
            },
        )

    def drop(self, user: Any) -> None:
        self._site.drop_connections(user)
        self._drop(user)


class Connections(Register):
    kind = "connection"

    def create(
        self,
        connection_id: Any,
        connection_name: Any = None,
        user: Any = None,
        user_id: Any = None,
        user_name: Any = None,
        user_tags: Any = None,
        user_ip: Any = None,
        user_agent: Any = None,
        browser_name: Any = None,
        electron_static: Any = None,
    ) -> Fields:
        return self._add(
            connection_id,
            {
                "register_item_id": connection_id,
                "start_ts": self._site.now(),
                "connection_name": connection_name,
                "user": user,
                "user_id": user_id,
                "user_name": user_name,
                "user_tags": user_tags,
                "user_ip": user_ip,
                "user_agent": user_agent,
                "electron_static": electron_static,
                "browser_name": browser_name,
                "register_name": "connection",
            },
        )

    def drop(self, register_item_id: Any = None, cascade: Any = None) -> None:
        self._site.drop_pages(register_item_id)
        fields: Any = self._drop(register_item_id)
        if cascade and not self.user_connection_keys(fields["user"]):
            self._site.drop_user(fields["user"])

    def user_connection_keys(self, user: Any) -> list[Any]:
        return [id for id, fields in self.items() if fields["user"] == user]

    def user_connection_items(self, user: Any) -> list[tuple[Any, Fields]]:
        return [(id, fields) for id, fields in self.items() if fields["user"] == user]

    def connections(self, user: Any = None, include_data: Any = None) -> list[Fields]:
        found = self.values(include_data)
        return [f for f in found if f["user"] == user] if user else found


class Pages(Register):
    kind = "page"

    def create(
        self,
        page_id: Any,
        pagename: Any = None,
        connection_id: Any = None,
        subscribed_tables: Any = None,
        user: Any = None,
        user_ip: Any = None,
        user_agent: Any = None,
        relative_url: Any = None,
        data: Any = None,
    ) -> Fields:
        return self._add(
            page_id,
            {
                "register_item_id": page_id,
                "pagename": pagename,
                "connection_id": connection_id,
                "start_ts": self._site.now(),
                "subscribed_tables": subscribed_tables.split(",") if subscribed_tables else [],
                "user": user,
                "user_ip": user_ip,
                "user_agent": user_agent,
                "relative_url": relative_url,
                "datachanges": [],  # here, and not behind: GenroPy makes Bags of these fields
                "subscribed_paths": set(),
                "register_name": "page",
            },
            data,
        )

    def drop(self, register_item_id: Any = None, cascade: Any = None) -> None:
        fields: Any = self._drop(register_item_id)
        if cascade and not self.connection_page_keys(fields["connection_id"]):
            self._site.drop_connection(fields["connection_id"])

    def connection_page_keys(self, connection_id: Any) -> list[Any]:
        return [id for id, f in self.items() if f["connection_id"] == connection_id]

    def connection_page_items(self, connection_id: Any) -> list[tuple[Any, Fields]]:
        return [(id, f) for id, f in self.items() if f["connection_id"] == connection_id]

    def filter_subscribed_tables(self, table_list: Any) -> list[Any]:
        tables: set[Any] = set()
        for fields in self.values():
            tables.update(fields["subscribed_tables"])
        return list(tables.intersection(table_list))

    def subscribed_table_page_keys(self, table: Any) -> list[Any]:
        return [id for id, f in self.items() if table in f["subscribed_tables"]]

    def subscribed_table_page_items(self, table: Any) -> list[tuple[Any, Fields]]:
        return [(id, f) for id, f in self.items() if table in f["subscribed_tables"]]

    def subscribed_table_pages(self, table: Any) -> list[Fields]:
        return [f for f in self.values() if table in f["subscribed_tables"]]

    def pages(
        self,
        connection_id: Any = None,
        user: Any = None,
        include_data: Any = None,
        filters: Any = None,
    ) -> list[Any]:
        found = self.values(include_data)
        if connection_id:
            found = [f for f in found if f["connection_id"] == connection_id]
        if user:
            found = [f for f in found if f["user"] == user]
        if not filters or filters == "*":
            return found
        # One name twice is the last one, in the place of the first.
        wanted = dict(part.split(":", 1) for part in filters.split(" AND "))
        matching = []
        for fields in found:
            page = Bag(fields)
            matching += [page for name, value in wanted.items() if _matches(page[name], value)]
        return matching

    def updatePageProfilers(self, page_id: Any, pageProfilers: Any) -> None:
        """Nobody reads them from the register."""

    def setStoreSubscription(
        self, page_id: Any, storename: Any = None, client_path: Any = None, active: Any = None
    ) -> None:
        item = self._changing(page_id)
        data = Bag() if item is None else item.data
        at = f"_subscriptions.{storename}"
        paths = data.getItem(at)
        if paths is None:
            paths = {}
            data.setItem(at, paths)
        paths.setdefault(client_path, {})["on"] = active
        if item is not None:
            item.touch_data(("_subscriptions",))

    def subscribeTable(
        self, page_id: Any, table: Any = None, subscribe: Any = None, subscribeMode: Any = None
    ) -> None:
        item = self._changing(page_id)
        if item is None:
            raise TypeError(f"there is no page {page_id} to subscribe a table of")
        tables = item.fields["subscribed_tables"]
        if subscribe and table not in tables:
            tables.append(table)
        elif not subscribe and table in tables:
            tables.remove(table)
        item.touch("subscribed_tables")

    def notifyDbEvents(
        self, dbeventsDict: Any = None, origin_page_id: Any = None, dbevent_reason: Any = None
    ) -> None:
        for table, events in list(dbeventsDict.items()):
            if not events:
                continue
            self._site.checkCachedTables(table)
            for fields in self.subscribed_table_pages(table):
                self.set_datachange(
                    fields["register_item_id"],
                    f"gnr.dbchanges.{table.replace('.', '_')}",
                    events,
                    attributes={"from_page_id": origin_page_id, "dbevent_reason": dbevent_reason},
                )

    def setPendingContext(self, page_id: Any, pendingContext: Any) -> None:
        item = self._changing(page_id)
        data = Bag() if item is None else item.data
        if item is not None:
            item.touch_data()
        for path, value, attributes in pendingContext:
            data.setItem(path, value, attributes)
            if isinstance(value, Bag):
                data.clearBackRef()
                data.setBackRef()
            self.subscribe_path(page_id, path)

    def setInClientData(
        self,
        path: Any,
        value: Any = None,
        attributes: Any = None,
        page_id: Any = None,
        filters: Any = None,
        fired: Any = False,
        reason: Any = None,
        public: Any = False,
        replace: Any = False,
    ) -> None:
        ids = [p["register_item_id"] for p in self.pages(filters=filters)] if filters else [page_id]
        for id in ids:
            if not isinstance(path, Bag):
                self.set_datachange(
                    id, path=path, value=value, reason=reason, attributes=attributes, fired=fired
                )
                continue
            for node in path:
                attr = node.attr
                self.set_datachange(
                    id,
                    path=attr.pop("_client_path"),
                    value=node.value,
                    attributes=attr,
                    fired=attr.pop("fired", None),
                )


def _matches(value: Any, wanted: str) -> Any:
    if not value:
        return None
    if not isinstance(value, bytes | str):
        return wanted == value
    try:
        return re.match(wanted, value)  # type: ignore[arg-type]
    except (re.error, TypeError):
        return False
