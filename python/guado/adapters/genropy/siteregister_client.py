"""The register as GenroPy's pages have it: items as dicts by id, and stores with Bags.

Before: GenroPy, whose module of the same name this stands for. After: _register, in this
process. Not here: what calls mean.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from datetime import datetime
from types import TracebackType
from typing import Any

from gnr.core.gnrbag import Bag, BagResolver

from guado.adapters.genropy import _hosted, _steps
from guado.adapters.genropy._legacy import daemon_of
from guado.adapters.genropy.siteregister import GnrDaemonException, GnrDaemonLocked
from guado.store import StoreError

__all__ = [
    "GnrDaemonException",
    "GnrDaemonLocked",
    "RegisterResolver",
    "RemoteStoreBag",
    "ServerStore",
    "SiteRegisterClient",
]

_log = logging.getLogger("guado")

LOCK_TRIES = 50
LOCK_PAUSE = 0.2

_BAG = Bag()


class RemoteStoreBag:
    """The Bag of an item, or what lies at `rootpath` in it. What it gives is a copy."""

    def __init__(
        self,
        uri: Any = None,
        register_name: str = "",
        register_item_id: Any = None,
        rootpath: Any = None,
        hmac_key: Any = None,
    ) -> None:
        self.uri = uri  # GenroPy's word for where it is: here, the register itself
        self.register_name = register_name
        self.register_item_id = register_item_id
        self.rootpath = rootpath
        self.hmac_key = hmac_key

    def chunk(self, path: Any) -> RemoteStoreBag:
        return RemoteStoreBag(self.uri, self.register_name, self.register_item_id, self.rootpath)

    def _call(self, method: str, *args: Any, **named: Any) -> Any:
        kind, id = self.register_name, self.register_item_id
        return self.uri.bag_call(kind, id, self.rootpath, method, args, named)

    def __str__(self) -> str:
        return str(self._call("asString"))

    def __getitem__(self, path: Any) -> Any:
        return self._call("__getitem__", path)

    def __setitem__(self, path: Any, value: Any) -> None:
        self._call("__setitem__", path, value)

    def __len__(self) -> int:
        return int(self._call("__len__"))

    def __contains__(self, what: Any) -> bool:
        return bool(self._call("__contains__", what))

    def __eq__(self, other: object) -> bool:
        return bool(self._call("__eq__", other))

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return functools.partial(self._call, name)


class SiteRegisterClient:
    """`site.register`. A call that fails says so in the log, and gives None: a daemon's
    client did that, and pages rely on it."""

    def __init__(self, site: Any) -> None:
        self.locked_exception = GnrDaemonLocked
        self.site = site
        domain = str(site.currentDomainIdentifier)
        self.siteregister = _hosted.register(domain, lambda: daemon_of(site, domain))
        _steps.listen(site, domain)
        self.remotebag_uri = self.siteregister
        self.siteregister.setConfiguration(cleanup=site.custom_config.getAttr("cleanup"))

    def new_page(self, page_id: Any, page: Any, data: Any = None) -> Any:
        item = self.siteregister.new_page(
            page_id,
            pagename=page.pagename,
            connection_id=page.connection_id,
            user=page.user,
            user_ip=page.user_ip,
            user_agent=page.user_agent,
            relative_url=page.request.path_info,
            data=data,
        )
        return self.add_data_to_register_item(item)

    def new_connection(self, connection_id: Any, connection: Any) -> Any:
        item = self.siteregister.new_connection(
            connection_id,
            connection_name=connection.connection_name,
            user=connection.user,
            user_id=connection.user_id,
            user_tags=connection.user_tags,
            user_ip=connection.ip,
            browser_name=connection.browser_name,
            user_agent=connection.user_agent,
            avatar_extra=connection.avatar_extra,
            electron_static=connection.electron_static,
        )
        return self.add_data_to_register_item(item)

    def _by_id(self, call: str, include_data: Any, **named: Any) -> dict[Any, Any]:
        lazy = include_data == "lazy"
        found = getattr(self.siteregister, call)(
            include_data=False if lazy else include_data, **named
        )
        return self.adaptListToDict(found, lazy_data=lazy)

    def pages(
        self,
        connection_id: Any = None,
        user: Any = None,
        index_name: Any = None,
        filters: Any = None,
        include_data: Any = None,
    ) -> dict[Any, Any]:
        named = {"connection_id": connection_id, "user": user, "index_name": index_name}
        return self._by_id("pages", include_data, filters=filters, **named)

    def connections(self, user: Any = None, include_data: Any = None) -> dict[Any, Any]:
        return self._by_id("connections", include_data, user=user)

    def users(self, include_data: Any = None) -> dict[Any, Any]:
        return self._by_id("users", include_data)

    def adaptListToDict(self, items: Any, lazy_data: Any = None) -> dict[Any, Any]:
        if lazy_data:
            items = map(self.add_data_to_register_item, items)
        return {item["register_item_id"]: item for item in items}

    def counters(self) -> dict[str, int]:
        counted: dict[str, int] = self.siteregister.counters()
        return counted

    def refresh(
        self, page_id: Any, ts: Any = None, lastRpc: Any = None, pageProfilers: Any = None
    ) -> Any:
        return self.siteregister.refresh(page_id, ts, lastRpc, pageProfilers)

    def connectionStore(self, connection_id: Any, triggered: Any = False) -> ServerStore:
        return self.make_store("connection", connection_id, triggered)

    def userStore(self, user: Any, triggered: Any = False) -> ServerStore:
        return self.make_store("user", user, triggered)

    def pageStore(self, page_id: Any, triggered: Any = False) -> ServerStore:
        return self.make_store("page", page_id, triggered)

    def globalStore(self, triggered: Any = False) -> ServerStore:
        return self.make_store("global", "*", triggered)

    def make_store(
        self, register_name: str, register_item_id: Any, triggered: Any = None
    ) -> ServerStore:
        return ServerStore(self, register_name, register_item_id, triggered)

    def get_item(
        self, register_item_id: Any, include_data: Any = False, register_name: Any = None
    ) -> Any:
        lazy = include_data == "lazy"
        item = self.siteregister.get_item(
            register_item_id,
            include_data=False if lazy else include_data,
            register_name=register_name,
        )
        return self.add_data_to_register_item(item) if item and lazy else item

    def add_data_to_register_item(self, item: Any) -> Any:
        item["data"] = RemoteStoreBag(
            self.remotebag_uri, item["register_name"], item["register_item_id"]
        )
        return item

    def page(self, page_id: Any, include_data: Any = None) -> Any:
        return self.get_item(page_id, include_data, "page")

    def connection(self, connection_id: Any, include_data: Any = None) -> Any:
        return self.get_item(connection_id, include_data, "connection")

    def user(self, user: Any, include_data: Any = None) -> Any:
        return self.get_item(user, include_data, "user")

    def dump(self) -> None:
        self.siteregister.dump()

    def load(self) -> None:
        self.siteregister.load()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "siteregister":
            raise AttributeError(name)
        call = getattr(self.siteregister, name)
        return functools.partial(self._leniently, name, call) if callable(call) else call

    def _leniently(self, name: str, call: Any, *args: Any, **named: Any) -> Any:
        try:
            return call(*args, **named)
        except StoreError:
            raise  # what was not kept must not look kept
        except Exception:
            _log.warning("the call %s of the register failed", name, exc_info=True)
            return None


class ServerStore:
    """The store of an item. Within `with`, it is locked: other threads that do the same
    wait, those that do not ask do not."""

    def __init__(
        self,
        parent: Any,
        register_name: str = "",
        register_item_id: Any = None,
        triggered: Any = True,
        max_retry: int | None = None,
        retry_delay: float | None = None,
    ) -> None:
        self.siteregister = parent
        self.register_name = register_name
        self.register_item_id = register_item_id
        self.triggered = triggered
        self.max_retry = max_retry or LOCK_TRIES
        self.retry_delay = retry_delay or LOCK_PAUSE
        self.thread_id = threading.get_ident()

    def _asked(self, call: str, *args: Any, **named: Any) -> Any:
        function = getattr(self.siteregister, call)
        return function(self.register_item_id, *args, register_name=self.register_name, **named)

    def __enter__(self) -> ServerStore:
        self.start_locking_time = time.time()
        end = time.monotonic() + self.max_retry * self.retry_delay
        register = self.siteregister.siteregister
        while not self._asked("lock_item", reason=self.thread_id):
            if time.monotonic() > end:
                raise GnrDaemonLocked(
                    f"the store of {self.register_name} {self.register_item_id} stays locked"
                )
            register.wait_free(self.retry_delay)
        self.success_locking_time = time.time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._asked("unlock_item", reason=self.thread_id)

    def reset_datachanges(self) -> Any:
        return self._asked("reset_datachanges")

    def set_datachange(self, path: Any, value: Any = None, **named: Any) -> Any:
        return self._asked("set_datachange", path, value=value, **named)

    def drop_datachanges(self, path: Any) -> None:
        self._asked("drop_datachanges", path)

    def subscribe_path(self, path: Any) -> None:
        self._asked("subscribe_path", path)

    @property
    def register_item(self) -> Any:
        return self._asked("get_item", include_data="lazy")

    @property
    def data(self) -> Any:
        if self._asked("exists"):
            register = self.siteregister.remotebag_uri
            return RemoteStoreBag(register, self.register_name, self.register_item_id)
        return None

    @property
    def datachanges(self) -> Any:
        return self.register_item["datachanges"]

    @property
    def subscribed_paths(self) -> Any:
        return self.register_item["subscribed_paths"]

    def __getattr__(self, name: str) -> Any:
        if not hasattr(_BAG, name):
            raise AttributeError(f"neither a store nor a Bag has {name}")

        def call(*args: Any, **named: Any) -> Any:
            data = self.data
            return None if data is None else getattr(data, name)(*args, **named)

        return call


class RegisterResolver(BagResolver):  # type: ignore[misc]
    """The tree of users, their connections and their pages, for those who look at it."""

    classKwargs = {  # noqa: RUF012
        "cacheTime": 1,
        "readOnly": False,
        "user": None,
        "connection_id": None,
        "_page": None,
    }
    classArgs = ["user"]  # noqa: RUF012

    def load(self) -> Any:
        if not self.user:
            return self.list_users()
        if not self.connection_id:
            return self.list_connections(user=self.user)
        return self.list_pages(connection_id=self.connection_id)

    @property
    def register(self) -> Any:
        return self._page.site.register

    def _item(self, fields: dict[str, Any], *hidden: str) -> Any:
        item = Bag()
        data = fields.pop("data", None)
        for name in hidden:
            fields.pop(name, None)
        item["info"] = Bag(fields)
        item["data"] = data
        return item

    def list_users(self) -> Any:
        result = Bag()
        for user, fields in self.register.users(include_data=True).items():
            item = self._item(fields, "datachanges", "datachanges_idx")
            item.setItem("connections", RegisterResolver(user=user), cacheTime=3)
            result.setItem(user, item, user=user)
        return result

    def list_connections(self, user: Any) -> Any:
        result = Bag()
        for id, fields in self.register.connections(user=user, include_data=True).items():
            owner = fields["user"] or "Anonymous"
            label = f"{fields['connection_name']} ({_age(fields)})"
            item = self._item(fields)
            below = RegisterResolver(user=owner, connection_id=id)
            item.setItem("pages", below, cacheTime=2)
            result.setItem(label, item, user=owner, connection_id=id)
        return result

    def list_pages(self, connection_id: Any) -> Any:
        result = Bag()
        for id, fields in self.register.pages(
            connection_id=connection_id, include_data=True
        ).items():
            label = f"{fields['pagename'].replace('.py', '')} ({_age(fields)})"
            item = self._item(fields)
            result.setItem(
                label, item, user=fields["user"], connection_id=connection_id, page_id=id
            )
        return result

    def resolverSerialize(self, *args: Any, **named: Any) -> Any:
        described = super().resolverSerialize(*args, **named)
        described["kwargs"].pop("_page", None)
        return described


def _age(fields: dict[str, Any]) -> int:
    return int((datetime.now() - fields["start_ts"]).seconds)
