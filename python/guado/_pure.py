"""What csrc/store_*.c does, in Python: for the wheel that has no extension.

Before: _native takes one or the other. After: nothing. Not here: anything that only one of
them does; what the tests hold true of the one they hold true of the other.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    from guado._ledger import Batch, Exchange, Ledger, Owner, Taken
    from guado._locks import Lock, Locks
    from guado._records import Record
    from guado._tracked import TrackedDict
    from guado._writes import Writes as Store

Mutex = threading.Lock

store_encode: Callable[[Any], bytes] | None = None
store_read: Callable[[bytes], list[Record]] | None = None
_known: dict[str, Any] = {}
store_setup = _known.update
_nothing: Any = object()
Data = bytes


class ExchangeBase:
    __slots__ = (
        "closed",
        "extra",
        "generations",
        "held",
        "name",
        "open",
        "over",
        "pickles",
        "read_only",
        "touched",
    )

    def __init__(
        self, name: str | dict[str, Any], generations: Mapping[str, int] | None = None
    ) -> None:
        self.name = name
        self.generations: dict[str, int] = dict(generations or {})
        self.touched: set[Store] = set()
        self.read_only = False  # its answer has left
        self.over = False  # its code is gone
        self.open: dict[Store, int] = {}  # blocks of transactions that its code is in
        self.closed: set[Store] = set()  # their transactions are over, and wait for the commit
        self.pickles: dict[tuple[int, str], tuple[Store, tuple[str, ...], Any]] = {}
        self.held: set[Lock] = set()
        self.extra: Any = None


class RunningBase:
    state: Any
    ledger: Ledger
    link: Any
    handle: Any
    exchange: Exchange
    effects: list[tuple[int, bytes]]
    turns: dict[str, list[Any]]
    over: bool
    answered: bool
    headed: bool
    left: bool

    def __init__(
        self, state: Any, ledger: Ledger, link: Any, handle: Any, exchange: Exchange
    ) -> None:
        self.state, self.ledger, self.link = state, ledger, link
        self.handle, self.exchange = handle, exchange
        self.effects, self.turns = [], {}
        self.over = self.answered = self.headed = False
        self.left = True

    def __call__(self, what: int) -> None:
        self._hook(what)

    def _hook(self, what: int) -> None:
        raise NotImplementedError


class LedgerBase:
    lock: Any
    outside: Exchange
    limit: int
    bytes: int
    sequence: int  # of the last commit

    def _commit(
        self, exchange: Exchange, seal: Callable[[Taken], None], even: bool = False
    ) -> bool:
        """The half of `take` that seals."""
        with self.lock:
            stores = list(exchange.touched)
            if not (stores or even):
                return False
            taken = [(s, t) for s in stores if (t := s._take_records(exchange)) is not None]
            names = {s.owner.name for s in stores}
            for s in stores:  # one may have become somebody else's since it was touched
                exchange.generations.setdefault(s.owner.name, s.owner.generation)
            generations = {n: g for n, g in exchange.generations.items() if n in names}
            batches = [_known["batch"](store, *parts) for store, parts in taken]
            seal(_known["taken"](self.sequence + 1, generations, batches))
            self.sequence += 1
            for store, _ in taken:
                store._taken_records(exchange)
            exchange.touched = set()
            if exchange is self.outside:  # of its next commit are those of then
                exchange.generations = {}
            return True


def store_encode_state(
    sequence: int, generations: Mapping[str, int], batches: list[Batch]
) -> bytes:
    users = {name: index for index, name in enumerate(generations)}
    parts = [b"\x01" + bytes(7), struct.pack("<QH", sequence, len(users))]
    for name, generation in generations.items():
        parts += [_name(name), generation.to_bytes(8, "little")]
    parts.append(len(batches).to_bytes(4, "little"))
    for store, token, count, data in batches:
        parts.append(struct.pack("<HB", users[store.owner.name], store.kind))
        parts += [_name(store.id), struct.pack("<QII", token, count, len(data)), data]
    return b"".join(parts)


def _name(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "little") + data


class LocksBase:
    token = 0
    _mutex: Any
    waiting: dict[Exchange, list[Any]]


class LockBase:
    __slots__ = ("depth", "locks", "loop", "name", "owner", "queue", "token")
    locks: Locks
    name: str
    token: int
    owner: Exchange | None
    depth: int
    loop: Any
    queue: list[object] | None

    def _take(self, exchange: Exchange) -> bool:
        """False: that is not for here."""
        return False

    def _give_back(self, exchange: Exchange) -> bool:
        return False


class HeldBase:
    __slots__ = ("_exchange", "_store", "_timeout")

    def __init__(self, store: Store, timeout: float | None) -> None:
        self._store: Any = store
        self._timeout = timeout
        self._exchange: Any = None

    def _enter(self) -> None:
        raise NotImplementedError

    def _exit(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> None:
        self._enter()

    def __exit__(self, *exc: object) -> None:
        self._exit()


class Slot:
    __slots__ = ("key", "node", "store", "value")

    def __init__(self, store: Store, node: Any, key: str | None = None) -> None:
        self.store: Store | None = store
        self.node = node
        self.key: Any = key  # of a leaf
        self.value: Any = None


class _Base:
    """Where a container is: `_up` is the dict above it (None: it is the root), or a Slot."""

    __slots__ = ()
    _store: Store | None
    _up: TrackedDict | Slot | None
    _key: str

    def _where(self) -> Store | None:
        up = self._up
        return up.store if type(up) is Slot else self._store

    def _read(self) -> None:
        store = self._where()
        if store is not None:
            store._enter()


class DictBase(dict[Any, Any], _Base):
    __slots__ = ("_key", "_store", "_up")

    def __init__(self) -> None:
        super().__init__()
        self._store = self._up = None

    def _opened(self, key: Any, value: Any) -> Any:
        raise NotImplementedError

    def _set(self, key: Any, value: Any) -> None:
        raise NotImplementedError

    def _del(self, key: Any) -> None:
        raise NotImplementedError

    def _pop(self, key: Any, default: Any = None) -> Any:
        raise NotImplementedError

    def _items(self) -> Any:
        raise NotImplementedError

    def _values(self) -> Any:
        raise NotImplementedError

    def __getitem__(self, key: Any) -> Any:
        self._read()
        return self._opened(key, super().__getitem__(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._set(key, value)

    def __delitem__(self, key: Any) -> None:
        self._del(key)

    def pop(self, key: Any, *default: Any) -> Any:
        return self._pop(key, *default)

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401

    def __contains__(self, key: object) -> bool:
        self._read()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[Any]:
        self._read()
        return super().__iter__()

    def __len__(self) -> int:
        self._read()
        return super().__len__()

    def keys(self) -> Any:
        self._read()
        return super().keys()

    def items(self) -> Any:
        self._read()
        return self._items() if self._store is not None and self._store.pickles else super().items()

    def values(self) -> Any:
        self._read()
        pickles = self._store is not None and self._store.pickles
        return self._values() if pickles else super().values()

    def __eq__(self, other: object) -> bool:
        self._read()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]


class ListBase(list[Any], _Base):
    __slots__ = ("_key", "_store", "_up")

    def __init__(self) -> None:
        super().__init__()
        self._store = self._up = None

    def __getitem__(self, at: Any) -> Any:
        self._read()
        return super().__getitem__(at)

    def __iter__(self) -> Iterator[Any]:
        self._read()
        return super().__iter__()

    def __len__(self) -> int:
        self._read()
        return super().__len__()

    def __contains__(self, value: object) -> bool:
        self._read()
        return super().__contains__(value)

    def __eq__(self, other: object) -> bool:
        self._read()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def append(self, value: Any) -> None:
        self.extend((value,))

    def _set(self, at: Any, value: Any) -> None:
        raise NotImplementedError

    def _del(self, at: Any) -> None:
        raise NotImplementedError

    def _pop(self, at: SupportsIndex = -1) -> Any:
        raise NotImplementedError

    def __setitem__(self, at: Any, value: Any) -> None:
        self._set(at, value)

    def __delitem__(self, at: Any) -> None:
        self._del(at)

    def pop(self, at: SupportsIndex = -1) -> Any:
        return self._pop(at)


class StoreBase:
    __slots__ = (
        "_gate",
        "_ledger",
        "_listeners",
        "_lock",
        "_pending",
        "_root",
        "bytes",
        "changes",
        "extra",
        "id",
        "kind",
        "limit",
        "name",
        "owner",
        "patience",
        "pickles",
        "version",
    )
    _gate: Exchange | None  # whose transaction keeps others out
    _ledger: Ledger
    _listeners: list[Any] | None
    _lock: Lock
    _root: TrackedDict
    bytes: int
    changes: Any
    extra: Any
    id: str
    kind: int
    limit: int
    name: str
    owner: Owner
    patience: float
    pickles: bool
    version: int

    def __init__(self) -> None:
        self._gate = self.extra = None
        # Records that wait: how many, bytes, of whose transaction, token.
        self._pending: list[tuple[int, bytes, Exchange | None, int]] = []
        self.version = 0  # grows with each record
        self.bytes = 0

    def _find(self, path: Any) -> Any:
        raise NotImplementedError

    def _set(self, path: Any, value: Any) -> None:
        raise NotImplementedError

    def _del(self, path: Any) -> None:
        raise NotImplementedError

    def __getitem__(self, path: Any) -> Any:
        return self._find(path)

    def get(self, path: Any, default: Any = None) -> Any:
        try:
            return self._find(path)
        except KeyError:
            return default

    def __contains__(self, path: Any) -> bool:
        return self.get(path, _nothing) is not _nothing

    def __setitem__(self, path: Any, value: Any) -> None:
        self._set(path, value)

    def __delitem__(self, path: Any) -> None:
        self._del(path)

    def _pop(self, path: Any, default: Any = None) -> Any:
        raise NotImplementedError

    def pop(self, path: Any, *default: Any) -> Any:
        return self._pop(path, *default)

    def lock(self, timeout: float | None = None) -> Any:
        """`with` or `async with`: no other exchange has the lock. It keeps nobody from
        reading and writing who does not ask for it."""
        return _known["held"](self, timeout)

    def _append_records(self, count: int, data: Data, owner: Exchange | None, token: int) -> None:
        self._pending.append((count, data, owner, token))
        self.version += 1

    def _reach(self, exchange: Exchange) -> int:
        """What a commit takes: up to the first of another exchange's open transaction."""
        for index, (_, _, owner, _) in enumerate(self._pending):
            if owner is not None and owner is not exchange:
                return index
        return len(self._pending)

    def _take_records(self, exchange: Exchange) -> tuple[int, int, Data] | None:
        taken = self._pending[: self._reach(exchange)]
        if not taken:
            return None
        data = b"".join(data for _, data, _, _ in taken)
        return max(token for *_, token in taken), sum(count for count, *_ in taken), data

    def _taken_records(self, exchange: Exchange) -> None:
        del self._pending[: self._reach(exchange)]

    def _forget_records(self) -> None:
        self._pending.clear()
