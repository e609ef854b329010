"""The stores of this process, and what ties them to the requests and turns that run.

Before: push and pages (`page.store` and its like). After: _ledger, which says what a commit
carries; guado._core, which sends it with the answer. Not here: what a store does (store),
what the host does with a commit (protocol/link.md, section 14).

An exchange that touches no store never comes here. The first touch makes its Exchange and
hangs a hook on its answer: guado._core calls that before the head leaves, and at its end.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import guado
from guado import _host, _json, _ledger, _remote, _request, _unused
from guado._ledger import Exchange, Ledger, Owner
from guado._native import RunningBase
from guado.errors import HostError, NoPage, PhaseError
from guado.store import CONNECTION, PAGE, USER, Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from guado import _core

_log = logging.getLogger("guado")

PHASE = 4

RESTORE, RELEASE, APPLY = 0x11, 0x12, 0x15
_RESTORE = struct.Struct("<QQBBHHH")
_RELEASE = struct.Struct("<BBH")
_EFFECT = struct.Struct("<II")

# What the hook is told: see GD_HOOK_… in module.h.
HEAD, END, MESSAGE, ACCEPT = range(4)

_NO_EFFECTS = bytes(4)


class State:
    """The stores of a process: a worker's here, of tests in guado.testing. A subclass gives
    `store` and `exchange`."""

    ledger: Ledger

    def exchange(self) -> Exchange:
        """Of the request, turn or message that runs, made when it first asks; outside of
        any, that of all such code together."""
        raise NotImplementedError

    def store(self, kind: int, id: str) -> Store:
        """NoPage and its like: there is no such item."""
        raise NotImplementedError

    def commit(self) -> None:
        """Commits now what the running code has written, and waits until it has left."""
        raise NotImplementedError

    def running(self, current: _request.Current) -> Running | None:
        """What `current` has touched until now; None: it is over, or was no request."""
        raise NotImplementedError


class Running(RunningBase):
    """A request, turn or message that has touched a store, until it is over. It is the hook of
    its answer: called before the head leaves and at the end.

    `effects`: calls that go with the next commit. `answered`: its head has been committed;
    `headed`: and nothing can be written without a turn. `left`: nothing that it has sealed may
    still wait for somebody to send it. `turns`: of pages that it has, each as often as it was
    entered."""

    __slots__ = ()

    def _hook(self, what: int) -> None:
        """The hook, where there is more to do than csrc/store_run.c does."""
        exchange = self.exchange
        if what in (HEAD, ACCEPT):
            self._commit(self._with_head)
            self.answered = True
            self.headed = what == HEAD
            exchange.read_only = self.headed and not self.turns
        elif what == MESSAGE:
            self._commit(self._alone)
        else:
            self.over = True
            exchange.over = True
            try:
                self._commit(self._alone, end=True)
                if not self.left:
                    self.link.push()
            finally:
                self._give_turns()

    def _give_turns(self) -> None:
        """Nobody would ever leave those that its code has entered and not left."""
        while self.turns:
            page, entered = self.turns.popitem()
            for one in entered:
                if one.give_up():
                    _log.warning(
                        "%s has ended in the turn of page %s, which it had entered and not left: "
                        "it is given back. Write `with page.turn():`",
                        self.exchange,
                        page,
                    )

    def flush(self) -> None:
        """Commits now, and waits until that has left."""
        self._commit(self._alone)
        self.link.push(True)

    def _commit(self, commit: Callable[[], bool], end: bool = False) -> None:
        """Commits what there is. Calls that wait for it go with it, also where no store was
        touched: they are done with the answer, or not at all."""
        self.ledger.take_by(self.exchange, commit, end, even=bool(self.effects))

    def later(self, number: int, payload: bytes) -> None:
        """A call of a turn waits for its commit."""
        if self.over:
            self.link.call(number, payload)
        else:
            self.effects.append((number, payload))

    def _with_head(self) -> bool:
        return self._seal(True)

    def _alone(self) -> bool:
        self.left = False
        return self._seal(False)

    def _seal(self, head: bool) -> bool:
        """With the head that is about to leave, or alone."""
        effects = self.effects
        more = _NO_EFFECTS
        if even := bool(effects):
            calls = []
            while effects:
                number, payload = effects.pop(0)
                calls.append(_EFFECT.pack(number, len(payload)) + payload)
            more = b"".join([len(calls).to_bytes(4, "little"), *calls])
        taken: bool = self.state.core.commit(
            self.ledger, self.exchange, self.handle, head, self.link, more, even
        )
        return taken


class WorkerState(State):
    """Of a worker: the host sends stores ahead of the requests that may want them."""

    def __init__(self, link: _core.Link, limit: int = 1 << 30) -> None:
        from guado import _core

        self.core = _core
        self.link = link
        self.ledger = Ledger(limit, loose=self._write_loose, enter=self.exchange)
        self._lock = threading.Lock()  # guards the dicts
        self._restored: dict[tuple[int, str], bytes] = {}  # that nobody has asked for
        self._stores: dict[tuple[int, str], Store] = {}
        self._numbers: dict[tuple[int, str], int] = {}  # of the RESTORE that brought each
        self._came = 0  # RESTORE frames
        self._owners: dict[str, Owner] = {}
        self._begin_lock = threading.Lock()
        self._loose = False
        self._elsewhere = False  # the stores are those of another group's worker
        self._applier: _remote.Applier | None = None
        threading.Thread(target=self._tend, name="guado-stores", daemon=True).start()

    # Exchanges.

    def exchange(self) -> Exchange:
        current = _request.current()
        if current is None or current.handle is None:
            return self.ledger.outside
        running = current.stores or self._begin(current)
        if running is None or running.over:
            return self.ledger.outside
        exchange: Exchange = running.exchange
        _ledger.enter(exchange)
        return exchange

    def _begin(self, current: _request.Current) -> Running | None:
        with self._begin_lock:
            if current.stores is None:
                running = self.run(current.handle, current.name())
                try:
                    attached = self.core.attach(current.handle, running)
                except TypeError:  # no request of ours: lifespan
                    attached = 0
                if not attached:
                    return None
                running.headed = running.answered = running.exchange.read_only = attached == 2
                current.stores = running
            made: Running = current.stores
            return made

    def run(self, handle: Any, name: str | dict[str, Any]) -> Running:
        return Running(self, self.ledger, self.link, handle, Exchange(name))

    def commit(self) -> None:
        current = _request.current()
        running = None if current is None else current.stores
        if running is not None and not running.over:
            running.flush()
        else:
            self.flush_outside()

    def running(self, current: _request.Current) -> Running | None:
        """What `current` has touched, from now on with a hook on its answer."""
        running: Running | None = current.stores or self._begin(current)
        return None if running is None or running.over else running

    # Stores.

    def store(self, kind: int, id: str) -> Store:
        if self._elsewhere:
            return cast("Store", _remote.RemoteStore(kind, id, _name(kind, id)))
        entered = _ledger.current()
        if entered is None or entered.over:
            self.exchange()
        store = self._find(kind, id)
        if store is None:
            try:
                _host.ask_now("store.open", b'{"kind":%d,"id":%s}' % (kind, _json.encode(id)))
            except HostError as error:
                if error.code != "elsewhere":
                    raise
                self._elsewhere = True
                return self.store(kind, id)
            store = self._find(kind, id)
        if store is None:
            raise StoreError(f"the host has not sent the store of {_name(kind, id)}")
        return store

    def _find(self, kind: int, id: str) -> Store | None:
        key = (kind, id)
        with self._lock:
            if come := self.link.restores():
                self._absorb(come)
            store = self._stores.get(key)
            if store is None and (payload := self._restored.pop(key, None)) is not None:
                store = self._stores[key] = self._make(kind, id, payload)
            return store

    def opened(self) -> list[Store]:
        """Those that somebody has asked for."""
        with self._lock:
            return list(self._stores.values())

    def _absorb(self, come: list[tuple[int, bytes]]) -> None:
        """Takes what the host has sent. The lock is held."""
        for frame, payload in come:
            if frame == RESTORE:
                _, _, kind, _, owner, id, _ = _RESTORE.unpack_from(payload)
                at = _RESTORE.size + owner
                key = (kind, payload[at : at + id].decode())
                self._restored[key] = payload
                self._came += 1
                self._numbers[key] = self._came
                if (store := self._stores.get(key)) is not None:
                    self._renew(store, self._restored.pop(key))
            elif frame == APPLY:
                if self._applier is None:
                    self._applier = _remote.Applier(self)
                self._applier.put(payload)
            else:
                kind, _, length = _RELEASE.unpack_from(payload)
                key = (kind, payload[_RELEASE.size : _RELEASE.size + length].decode())
                self._restored.pop(key, None)
                self._numbers.pop(key, None)
                if (store := self._stores.pop(key, None)) is not None:
                    store._end()

    def rest(self, kind: int, id: str) -> None:
        """Forgets a store that nobody here has in hand, and tells the host: it is sent anew
        when it is wanted. What it had is with the host, or on the way there."""
        key = (kind, id)
        with self._lock:
            self._absorb(self.link.restores())
            if self._restored.pop(key, None) is None:
                store = self._stores.pop(key, None)
                if store is None:
                    return
                holder = [store]
                del store
                if not _unused.unused(holder):
                    self._stores[key] = holder[0]
                    return
                holder[0]._rest()
            body = b'{"kind":%d,"id":%s,"number":%d}' % (
                kind,
                _json.encode(id),
                self._numbers.pop(key),
            )
            # Under the lock: who wants the store now asks for it behind this.
            _host.ask("store.rested", body, _host.Reply(), _host.nothing)

    def _parts(self, payload: bytes) -> tuple[Owner, int, bytes]:
        generation, limit, _, _, owner, id, _ = _RESTORE.unpack_from(payload)
        at = _RESTORE.size
        name = payload[at : at + owner].decode()
        known = self._owners.get(name)
        if known is None or known.generation != generation:
            known = self._owners[name] = Owner(name, generation)
        return known, limit, payload[at + owner + id :]

    def _make(self, kind: int, id: str, payload: bytes) -> Store:
        owner, limit, records = self._parts(payload)
        store = Store(self.ledger, owner, _name(kind, id), limit, kind=kind, id=id)
        if records:
            store.restore(records)
        return store

    def _renew(self, store: Store, payload: bytes) -> None:
        owner, _, records = self._parts(payload)
        store._renew(owner, records)

    # Code outside of requests.

    def _write_loose(self) -> None:
        if not self._loose:
            self._loose = True
            self.link.restore_poke()

    def _tend(self) -> None:
        """The thread that commits what code outside of requests has written, and that takes
        stores which nobody has asked for yet before they are too many."""
        with contextlib.suppress(OSError):  # the link has ended
            while True:
                self.link.restore_wait()
                with self._lock:
                    self._absorb(self.link.restores())
                if self._loose:
                    self._loose = False
                    self.flush_outside()

    def flush_outside(self) -> None:
        """Commits what code outside of requests has written."""
        outside = self.ledger.outside
        self.ledger.take(outside, lambda taken: self.link.seal(taken.encode() + _NO_EFFECTS), True)
        self.link.push(True)


def _name(kind: int, id: str) -> str:
    if kind == PAGE:
        return f"page {id}"
    if kind == CONNECTION:
        return f"connection {id}"
    return f"user {id[2:]}" if id.startswith("u:") else f"the guest of connection {id[2:]}"


_lock = threading.Lock()  # guards _current
_current: State | None = None


def install(state: State | None) -> State | None:
    """Makes these the stores of the process; gives those of before. For guado.testing."""
    global _current
    with _lock:
        before, _current = _current, state
    return before


def current() -> State:
    """The stores of this process. PhaseError: the server keeps none."""
    if _current is not None:
        return _current
    worker = guado._worker
    if worker is None:
        raise HostError("stores are there in workers of a guado server only", "no_host")
    if worker.phase < PHASE:
        raise PhaseError(
            f"stores need phase {PHASE}: write phase = {PHASE} under [server] in guado.toml"
        )
    with _lock:
        return _made(worker)


def _made(worker: guado._Worker) -> State:
    global _current
    if _current is None:
        _current = WorkerState(worker.link, worker.state_bytes)
    return _current


def turn() -> Running | None:
    """The turn of a page that runs here, or the request behind its login: what they push and
    publish waits for their commit."""
    here = _request.current()
    if here is None or not here.waits or here.handle is None:
        return None
    state = current()
    running = state.running(here) if isinstance(state, WorkerState) else None
    return None if running is None or (here.source and running.answered) else running


def rest(page: str) -> None:
    """Forgets the store of a page that is not used now."""
    state = _current
    if isinstance(state, WorkerState):
        state.rest(PAGE, page.partition("|")[0])


# What push and pages give their stores by.


def page_store(id: str) -> Store:
    base = id.partition("|")[0]
    if not base:
        raise NoPage("a page without an id has no store", "no_page")
    return (_current or current()).store(PAGE, base)


def connection_store(id: str) -> Store:
    return current().store(CONNECTION, id)


def user_store(name: str | None, connection: str = "") -> Store:
    """Of a user; without a name that of a guest, who is known by the connection."""
    return current().store(USER, f"u:{name}" if name else f"g:{connection}")
