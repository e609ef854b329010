"""The register of this process: its items are those of the host's registries, its stores
theirs, and the Bag for all is in the global store.

Before: siteregister_client. After: _register, over guado.registry and the worker's stores.
Not here: what calls mean.

Which items there are is asked once. In phases 4 to 6 this is the one worker that makes them,
and the end of one by anybody else shows when it is next looked at.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import guado
from guado import _state
from guado.adapters.genropy import _transfer
from guado.adapters.genropy._legacy import Port
from guado.adapters.genropy._register import SiteRegister
from guado.errors import HostError
from guado.globalstore import global_store
from guado.store import CONNECTION, PAGE, USER, Store, StoreGone

_NUMBERS = {"user": USER, "connection": CONNECTION, "page": PAGE}

# Seconds after which an item that is looked at says again that it is in use: the host ends
# those that are not.
TOUCH = {"page": 10.0, "connection": 60.0, "user": 60.0}

# Under this name an item says of which site it is.
FIELD = "genropy"

_log = logging.getLogger("guado")

_nothing: Any = object()


class Hosted:
    """Items in the host. The call lock guards what this remembers."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self._state = _state.current()
        self._global: dict[str, Any] = {}
        self._stores: dict[str, dict[str, Store | None]] = {kind: {} for kind in _NUMBERS}
        self._touched: dict[tuple[str, str], float] = {}
        self.moving = False  # items are made that have been somewhere else until now
        for kind in _NUMBERS:
            for item in _registry(kind).list(**{FIELD: domain}).result():
                self._stores[kind][item.id] = None  # opened when it is looked at
        if f"{FIELD}.{domain}" in global_store():
            self._global["*"] = Global(domain)

    def fresh(self) -> bool:
        """There has been no register of this site here yet."""
        return not self._global and not any(self._stores.values())

    def create(self, kind: str, id: str, fields: dict[str, Any]) -> Any:
        if kind == "global":
            self._global[id] = Global(self.domain)
            return self._global[id]
        told = {**_told(kind, fields), "fields": {FIELD: self.domain}}
        try:
            _registry(kind).create(id, **told).result()
        except HostError as error:
            if error.code != "exists":
                raise
            if kind == "connection":
                _registry(kind).update(id, user=told.get("user")).result()
        store = self._state.store(_NUMBERS[kind], _store_id(kind, id))
        if len(store):
            store.clear()
        self._stores[kind][id] = store
        self._touched[kind, id] = time.monotonic()
        if self.moving and kind == "page":
            _registry(kind).touch(id)  # its client has come long ago; nobody waits for it
        return store

    def changed(self, kind: str, id: str, fields: dict[str, Any]) -> None:
        own = self._stores["connection"].get(id)
        user = _store_id("user", fields["user"]) if kind == "connection" else ""
        if kind != "connection" or (own is not None and own.owner.name == user):
            return
        _registry(kind).update(id, user=fields["user"]).result()
        # The host has given the stores of the connection and its pages to that user.
        owner = self._state.store(USER, user).owner
        self._state.exchange().generations.setdefault(owner.name, owner.generation)
        pages = [i.id for i in guado.registry.pages.list(connection=id).result()]
        for store in (own, *map(self._stores["page"].get, pages)):
            if store is not None:
                store.owner = owner

    def drop(self, kind: str, id: str) -> None:
        if kind == "global":
            if self._global.pop(id, None) is not None:
                global_store().delete((FIELD, self.domain)).result()
            return
        self._touched.pop((kind, id), None)
        store = self._stores[kind].pop(id, _nothing)
        if store is _nothing:
            return
        _registry(kind).drop(id).result()
        # What this request has of it rests on nothing any more; who has its name next is
        # somebody else.
        exchange = self._state.exchange()
        if store is not None:
            exchange.touched.discard(store)
        owner = _store_id(kind, id)
        if kind == "user" and not any(s.owner.name == owner for s in exchange.touched):
            exchange.generations.pop(owner, None)

    def find(self, kind: str, id: str) -> Any:
        if kind == "global":
            return self._global.get(id)
        stores = self._stores[kind]
        if id not in stores:
            return None
        try:
            store = stores[id]
            if store is None:
                store = stores[id] = self._state.store(_NUMBERS[kind], _store_id(kind, id))
            if "register" not in store:
                raise StoreGone(f"{kind} {id} is no item of a register any more")
        except LookupError:
            stores.pop(id, None)
            self._touched.pop((kind, id), None)
            return None
        self._touch(kind, id)
        return store

    def _touch(self, kind: str, id: str) -> None:
        now = time.monotonic()
        if now - self._touched.get((kind, id), 0) > TOUCH[kind]:
            self._touched[kind, id] = now
            _registry(kind).touch(id)  # nobody waits for it

    def ids(self, kind: str) -> list[str]:
        return list(self._global if kind == "global" else self._stores[kind])

    def late(self) -> bool:
        return self._state.exchange().read_only

    def settle(self) -> None:
        """What was written goes with the answer of the request that runs."""


class Global:
    """The one global item, of a site, in the store that all workers have: as much of a Store
    as an item asks for. Each write is known to all when it returns."""

    def __init__(self, domain: str) -> None:
        self._at = (FIELD, domain)
        self._store = global_store()
        self._mark = object()
        self.root = {"register": self._mark}  # by which an item knows that it is the same

    def _path(self, path: Any) -> tuple[str, ...]:
        return (*self._at, *((path,) if isinstance(path, str) else path))

    def get(self, path: Any, default: Any = None) -> Any:
        return self._store.get(self._path(path), default)

    def __getitem__(self, path: Any) -> Any:
        if path == "register":
            return self._mark
        return Changes(self) if path == "changes" else self._store[self._path(path)]

    def __contains__(self, path: Any) -> bool:
        return self._path(path) in self._store

    def set(self, path: Any, value: Any) -> None:
        self._store.set(self._path(path), value).result()

    def update(self, values: dict[str, Any]) -> None:
        for path, value in values.items():
            self.set(path, value)

    def __delitem__(self, path: Any) -> None:
        del self._store[self._path(path)]

    def pop(self, path: Any, default: Any = None) -> Any:
        found = self.get(path, _nothing)
        if found is _nothing:
            return default
        self._store.delete(self._path(path)).result()
        return found

    def kept(self) -> dict[str, Any]:
        found: dict[str, Any] = self._store[self._at]
        return found


class Changes(list[Any]):
    """The changes of the global item, written whole."""

    def __init__(self, store: Global) -> None:
        super().__init__(store.get("changes"))
        self._store = store

    def extend(self, values: Any) -> None:
        super().extend(values)
        self._store.set("changes", list(self))

    def __setitem__(self, at: Any, value: Any) -> None:
        super().__setitem__(at, value)
        self._store.set("changes", list(self))


def _registry(kind: str) -> Any:
    return getattr(guado.registry, f"{kind}s")


def _store_id(kind: str, id: str) -> str:
    return f"u:{id}" if kind == "user" else id


def _told(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What the host is told of an item, so that operators see it."""
    if kind == "user":
        return {}
    told = {"user_agent": fields.get("user_agent") or None}
    with contextlib.suppress(ValueError):
        told["address"] = str(ipaddress.ip_address(fields.get("user_ip") or ""))
    if kind == "connection":
        told["user"] = fields["user"]
    else:
        told["connection"] = fields["connection_id"]
        told["path"] = fields.get("relative_url") or ""
    return {name: value for name, value in told.items() if value}


_lock = threading.Lock()  # guards _registers and _backings
_registers: dict[str, SiteRegister] = {}
_backings: dict[str, Hosted] = {}


def register(domain: str, before: Callable[[], Port | None] | None = None) -> SiteRegister:
    """The one of a site, or of a domain of it. PhaseError below phase 4. `before` finds the
    register that was in charge: the first time, its items are taken over."""
    with _lock:
        if domain not in _registers:
            backing = Hosted(domain)
            theirs = before() if before is not None and backing.fresh() else None
            made = SiteRegister(backing, domain)
            if theirs is not None:
                _say(domain, "from", _move(theirs, made, backing))
            _registers[domain], _backings[domain] = made, backing
        return _registers[domain]


def give_back(domain: str, theirs: Port) -> _transfer.Done:
    """Copies all items into the register that is to be in charge again. Whoever calls ours
    meanwhile waits."""
    ours = register(domain)
    with ours.held():
        done = _transfer.transfer(ours, theirs)
    _say(domain, "to", done)
    return done


def take_over(domain: str, theirs: Port) -> _transfer.Done:
    """Copies all items out of the register that was in charge until now, in the place of
    what ours has: it may have begun with them a while ago."""
    ours = register(domain)
    with ours.held():
        done = _move(theirs, ours, _backings[domain])
    _say(domain, "from", done)
    return done


def _move(theirs: Port, ours: SiteRegister, backing: Hosted) -> _transfer.Done:
    backing.moving = True
    try:
        return _transfer.transfer(theirs, ours)
    finally:
        backing.moving = False


def _say(domain: str, way: str, done: _transfer.Done) -> None:
    print(f"the register of {domain}: {done.copied} items {way} the daemon", file=sys.stderr)
    for item, error in done.refused:
        _log.error("%s was not taken %s the daemon: %s", item, way, error)
    for difference in done.differences:
        _log.error("the register of %s and the daemon's differ: %s", domain, difference)
