"""What spans the registers of a site: users with connections with pages, pings, expiry.

Before: register, which lets in one call at a time and hands out copies. After: _registers.
Not here: locks between calls, and which names callers may use (register).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from gnr.core.gnrbag import Bag
from gnr.core.gnrclasses import GnrClassCatalog

from guado.adapters.genropy import _values
from guado.adapters.genropy._backing import Backing
from guado.adapters.genropy._items import Item
from guado.adapters.genropy._registers import Connections, Fields, Global, Pages, Register, Users

_log = logging.getLogger("guado")

PAGE_MAX_AGE = 600
GUEST_MAX_AGE = 40
CONNECTION_MAX_AGE = 7200
SILENT_PROCESS = 600
BATCH_SHOWN = 5


class Site:
    """All registers of one site, or of one domain of it. Values of its own are handed out
    as they are, and it is no good to call it from two threads."""

    def __init__(
        self,
        backing: Backing,
        sitename: str = "",
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.backing = backing
        self.sitename = sitename
        self.now = now
        self.clock = clock
        self.last_cleanup = 0.0
        self.catalog = GnrClassCatalog()
        self._changed: set[Item] = set()
        self._processes: dict[Any, dict[str, Any]] = {}
        self.global_register = Global(self)
        self.page_register = Pages(self)
        self.connection_register = Connections(self)
        self.user_register = Users(self)
        self.setConfiguration()
        if not self.global_register.exists("*"):
            self.global_register.create("*")

    def get_register(self, register_name: str) -> Register:
        register: Register = getattr(self, f"{register_name}_register")
        return register

    # Between calls and stores.

    def change(self, item: Item) -> None:
        """This call may change the item."""
        self._changed.add(item)

    def forget(self, item: Item) -> None:
        self._changed.discard(item)

    def settle(self) -> None:
        """Behind each call: what it has changed goes into the stores. Where a store refuses,
        nobody keeps what it has not."""
        changed, self._changed = self._changed, set()
        try:
            for item in changed:
                item.settle()
        except BaseException:
            for item in changed:
                item.mark = None  # made anew from its store
            raise
        finally:
            self.backing.settle()

    def bag_call(
        self, kind: str, id: Any, below: Any, method: str, args: Any, named: dict[str, Any]
    ) -> Any:
        """A method of the Bag of an item, or of one at a path below it."""
        register = self.get_register(kind)
        item = register._changing(id)
        bag = Bag() if item is None else item.data
        if below:
            bag = bag.getItem(below)
        function = getattr(bag, method, None)
        if not function:
            raise AttributeError(f"the data of {kind} {id} have no {method} at {below or 'top'}")
        if item is not None and method not in _READING:
            item.touch_data(_below(below, method, args, named))
        return function(*args, **named)

    # Creating and dropping.

    def setConfiguration(self, cleanup: Any = None) -> None:
        cleanup = cleanup or {}
        self.page_max_age = int(cleanup.get("page_max_age") or PAGE_MAX_AGE)
        guests = cleanup.get("guest_connection_max_age")
        self.guest_connection_max_age = int(guests or GUEST_MAX_AGE)
        self.connection_max_age = int(cleanup.get("connection_max_age") or CONNECTION_MAX_AGE)

    def new_connection(
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
        avatar_extra: Any = None,
        electron_static: Any = None,
    ) -> Fields:
        if self.connection_register.exists(connection_id):
            raise AssertionError(f"the connection {connection_id} is registered already")
        if not self.user_register.exists(user):
            self.new_user(user, user_tags, user_id, user_name, avatar_extra)
        return self.connection_register.create(
            connection_id,
            connection_name=connection_name,
            user=user,
            user_id=user_id,
            user_name=user_name,
            user_tags=user_tags,
            user_ip=user_ip,
            user_agent=user_agent,
            browser_name=browser_name,
            electron_static=electron_static,
        )

    def new_page(
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
        return self.page_register.create(
            page_id,
            pagename=pagename,
            connection_id=connection_id,
            user=user,
            user_ip=user_ip,
            user_agent=user_agent,
            relative_url=relative_url,
            data=data,
        )

    def new_user(
        self,
        user: Any = None,
        user_tags: Any = None,
        user_id: Any = None,
        user_name: Any = None,
        avatar_extra: Any = None,
    ) -> Fields:
        return self.user_register.create(user, user_id, user_name, user_tags, avatar_extra)

    def drop_pages(self, connection_id: Any) -> None:
        for page_id in self.connection_page_keys(connection_id):
            self.drop_page(page_id)

    def drop_page(self, page_id: Any, cascade: Any = None) -> None:
        self.page_register.drop(page_id, cascade)

    def drop_connections(self, user: Any) -> None:
        for connection_id in self.user_connection_keys(user):
            self.drop_connection(connection_id)

    def drop_connection(self, connection_id: Any, cascade: Any = None) -> None:
        self.connection_register.drop(connection_id, cascade)

    def drop_user(self, user: Any) -> None:
        self.user_register.drop(user)

    # Reading.

    def user_connection_keys(self, user: Any) -> list[Any]:
        return self.connection_register.user_connection_keys(user)

    def user_connection_items(self, user: Any) -> list[tuple[Any, Fields]]:
        return self.connection_register.user_connection_items(user)

    def connection_page_keys(self, connection_id: Any) -> list[Any]:
        return self.page_register.connection_page_keys(connection_id)

    def connection_page_items(self, connection_id: Any) -> list[tuple[Any, Fields]]:
        return self.page_register.connection_page_items(connection_id)

    def subscribed_table_pages(self, table: Any = None) -> list[Fields]:
        return self.page_register.subscribed_table_pages(table)

    def pages(
        self,
        connection_id: Any = None,
        user: Any = None,
        index_name: Any = None,
        filters: Any = None,
        include_data: Any = None,
    ) -> list[Any]:
        if index_name:
            return self.subscribed_table_pages(index_name)
        return self.page_register.pages(connection_id, user, include_data, filters)

    def page(self, page_id: Any) -> Fields | None:
        return self.page_register.get_item(page_id)

    def connection(self, connection_id: Any) -> Fields | None:
        return self.connection_register.get_item(connection_id)

    def user(self, user: Any) -> Fields | None:
        return self.user_register.get_item(user)

    def users(self, include_data: Any = None) -> list[Fields]:
        return self.user_register.values(include_data)

    def connections(self, user: Any = None, include_data: Any = None) -> list[Fields]:
        return self.connection_register.connections(user, include_data)

    def counters(self) -> dict[str, int]:
        return {
            "users": len(self.users()),
            "connections": len(self.connections()),
            "pages": len(self.pages()),
        }

    # Login and keep-alive.

    def change_connection_user(
        self,
        connection_id: Any,
        user: Any = None,
        user_tags: Any = None,
        user_id: Any = None,
        user_name: Any = None,
        avatar_extra: Any = None,
    ) -> None:
        item = self.connection_register._changing(connection_id)
        if item is None:
            raise TypeError(f"there is no connection {connection_id} to log in")
        before = item.fields["user"]
        if not self.user(user):
            self.new_user(user, user_tags, user_id, user_name, avatar_extra)
        item.set(
            user=user,
            user_tags=user_tags,
            user_name=user_name,
            user_id=user_id,
            avatar_extra=avatar_extra,
        )
        self.backing.changed("connection", connection_id, item.fields)
        for page_id in self.connection_page_keys(connection_id):
            page = self.page_register._changing(page_id)
            if page is not None:
                page.set(user=user)
                self.backing.changed("page", page_id, page.fields)
        if not self.connections(before):
            self.drop_user(before)

    def refresh(
        self,
        page_id: Any,
        last_user_ts: Any = None,
        last_rpc_ts: Any = None,
        pageProfilers: Any = None,
    ) -> Fields | None:
        now = self.now()
        page = self.page_register.refresh(page_id, last_user_ts, last_rpc_ts, now)
        if not page:
            return None
        connection = self.connection_register.refresh(
            page["connection_id"], last_user_ts, last_rpc_ts, now
        )
        if not connection:
            return None
        return self.user_register.refresh(connection["user"], last_user_ts, last_rpc_ts, now)

    # Expiry. An age is looked at without its days, as callers of this are used to; what is
    # left over for a day is the host's to end.

    def claim_cleanup(self, min_gap_seconds: Any) -> bool:
        now = self.clock()
        if now - self.last_cleanup < min_gap_seconds:
            return False
        self.last_cleanup = now
        return True

    def _is_over(self, fields: Fields, most: int) -> bool:
        last: Any = fields.get("last_refresh_ts") or fields.get("start_ts")
        if fields["user"].startswith("guest_"):
            most = self.guest_connection_max_age
        return bool((self.now() - last).seconds > most)

    def expire_pages(self, connection_id: Any) -> list[Any]:
        pages = self.page_register.pages(connection_id=connection_id)
        over = [p["register_item_id"] for p in pages if self._is_over(p, self.page_max_age)]
        for page_id in over:
            self.drop_page(page_id)
        return over

    def expire_connection(self, connection_id: Any) -> bool:
        fields = self.connection(connection_id)
        if not fields or not self._is_over(fields, self.connection_max_age):
            return False
        self.drop_connection(connection_id, cascade=True)
        return True

    # Subscriptions and pings.

    def setStoreSubscription(
        self, page_id: Any, storename: Any = None, client_path: Any = None, active: Any = None
    ) -> None:
        self.page_register.setStoreSubscription(page_id, storename, client_path, active)

    def subscribeTable(
        self, page_id: Any, table: Any, subscribe: Any, subscribeMode: Any = None
    ) -> None:
        self.page_register.subscribeTable(page_id, table, subscribe, subscribeMode)

    def checkCachedTables(self, table: Any) -> None:
        for register in (self.page_register, self.connection_register, self.user_register):
            if table in register._cached:
                register.invalidateTableCache(table)

    def subscription_storechanges(self, user: Any, page_id: Any) -> Any:
        """What waits for the page, and is gone with this; and what is new to it of the
        user's changes, which stay."""
        own = self.page_register.get_datachanges(page_id, reset=True)
        page = self.page_register._changing(page_id)
        wanted = page.data.getItem("_subscriptions.user") if page is not None else None
        if page is None or not wanted:
            return own
        changes: Any = self.user_register.get_datachanges(user)
        owner = self.user_register._changing(user)
        data = Bag() if owner is None else owner.data
        reached = data.getItem("_subscriptions.offsets")
        if reached is None:
            reached = {}
            data.setItem("_subscriptions.offsets", reached)
            if owner is not None:
                owner.touch_data(("_subscriptions",))
        new = []
        for at, change in enumerate(changes):
            for prefix, subscription in list(wanted.items()):
                if not (subscription["on"] and change.path.startswith(prefix)):
                    continue
                if change.change_idx > subscription.get("offset", 0):
                    subscription["offset"] = change.change_idx
                    _mark(change, change.change_idx > reached.get(prefix, 0))
                    if change.attributes.get("_new_datachange"):
                        reached[prefix] = change.change_idx
                    new.append(change)
                    page.touch_data(("_subscriptions",))
                    if owner is not None:
                        owner.touch_data(("_subscriptions",))
                        owner.touch_change(at)
        return own + new

    def handle_ping(
        self,
        page_id: Any = None,
        reason: Any = None,
        _serverstore_changes: Any = None,
        **kwargs: Any,
    ) -> Any:
        children = kwargs.get("_children_pages_info")
        owner = self.refresh(
            page_id,
            kwargs.get("_lastUserEventTs"),
            last_rpc_ts=kwargs.get("_lastRpc"),
            pageProfilers=kwargs.get("_pageProfilers"),
        )
        if not owner:
            return False
        if _serverstore_changes:
            self.set_serverstore_changes(page_id, _serverstore_changes)
        for id, info in list((children or {}).items()):
            self._refresh_child(id, info)
        answer = Bag({"result": None})
        user = owner["user"]
        waiting = self.handle_ping_get_datachanges(page_id, user=user)
        if waiting:
            answer.setItem("dataChanges", waiting)
        for id in list(children or ()):
            waiting = self.handle_ping_get_datachanges(id, user=user)
            if waiting:
                answer.setItem(f"childDataChanges.{id}", waiting)
        self._tell_batch(user, answer)
        return answer

    def _refresh_child(self, id: Any, info: Any) -> None:
        user_ts, rpc_ts = info.pop("_lastUserEventTs", None), info.pop("_lastRpc", None)
        profilers = info.pop("_pageProfilers", None)
        if info:
            self.set_serverstore_changes(id, info)
        read = self.catalog.fromTypedText
        user_ts, rpc_ts = (read(ts) if ts else ts for ts in (user_ts, rpc_ts))
        self.refresh(id, user_ts, last_rpc_ts=rpc_ts, pageProfilers=profilers)

    def _tell_batch(self, user: Any, answer: Any) -> None:
        data = self.user_register.get_item_data(user)
        last = data.getItem("lastBatchUpdate")
        if not last:
            return
        if (self.now() - last).seconds < BATCH_SHOWN:
            answer.setItem("runningBatch", True)
            return
        data.setItem("lastBatchUpdate", None)
        owner = self.user_register._changing(user)
        if owner is not None:
            owner.touch_data(("lastBatchUpdate",))

    def handle_ping_get_datachanges(self, page_id: Any, user: Any = None) -> Any:
        result = Bag()
        for at, change in enumerate(self.subscription_storechanges(user, page_id) or ()):
            result.setItem(
                f"sc_{at}",
                change.value,
                change_path=change.path,
                change_reason=change.reason,
                change_fired=change.fired,
                change_attr=change.attributes,
                change_ts=change.change_ts,
                change_delete=change.delete,
            )
        return result

    def set_serverstore_changes(self, page_id: Any = None, datachanges: Any = None) -> None:
        item = self.page_register._changing(page_id)
        data = Bag() if item is None else item.data
        for path, text in list(datachanges.items()):
            if item is not None:
                item.touch_data(_below(None, "setItem", (path,), {}))
            data.setItem(path, self._parsed(text))

    def _parsed(self, text: Any) -> Any:
        if not isinstance(text, bytes | str):
            return text
        value = self.catalog.fromTypedText(text)
        return value.decode() if isinstance(value, bytes) else value

    # Life.

    def dump(self) -> None:
        """The host keeps the stores; there is nothing to be written."""

    def load(self) -> bool:
        """They are there already."""
        return False

    def on_reloader_restart(self) -> None:
        """The registers are in the host, and see no restart."""

    def on_site_stop(self) -> None:
        _log.info("the site %s is stopped", self.sitename)

    def pendingProcessCommands(self) -> list[Any]:
        queue = self._processes.setdefault(os.getpid(), {"commands": []})
        commands, queue["commands"] = queue["commands"], []
        queue["ts"] = self.now()
        return list(commands)

    def sendProcessCommand(self, command: Any, pid: Any = None) -> None:
        for process in list(self._processes) if pid is None else [pid]:
            queue = self._processes[process]
            if (self.now() - queue["ts"]).total_seconds() > SILENT_PROCESS:
                del self._processes[process]
            else:
                queue["commands"] += command if isinstance(command, list) else [command]


def _mark(change: Any, is_new: bool) -> None:
    change.attributes = change.attributes or {}
    if is_new:
        change.attributes["_new_datachange"] = True
    else:
        change.attributes.pop("_new_datachange", None)


def _below(below: Any, method: str, args: Any, named: dict[str, Any]) -> tuple[str, ...]:
    path = _values.simple_path(method, args, named)
    if path is None:
        return ()
    if not below:
        return path
    root = _values.simple_path("setItem", (below,), {})
    return () if root is None else (*root, *path)


# Methods of a Bag that change nothing. After any other one, all of the Bag is looked through.
_READING = frozenset(
    "getItem __getitem__ get keys values items has_key __contains__ __len__ __eq__ __ne__ __str__ "  # noqa: SIM905
    "asString getAttr getNode getNodes digest asDict asDictDeeply toXml toJson columns sum "
    "nodesByAttr isEmpty getIndex getIndexList getLeaves getFormattedValue getNodeByAttr "
    "getInheritedAttributes diff deepcopy copy pickle".split()
)
