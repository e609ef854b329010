"""Stores that another group's worker has: read from the host's copy, written by that worker.

Before: _state gives them out in workers that have no stores of their own, and executors.
After: the host (verbs store.read and store.write); in the worker that has the store, `Applier`
does the writes. Not here: stores of this worker (store).
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from guado import _calls, _host, _json, _ledger, _records, _values
from guado._locks import LockTimeout
from guado._values import MISSING
from guado.errors import HostError, of_code
from guado.store import PATIENCE, Store, StoreError, StoreFull, StoreGone

if TYPE_CHECKING:
    from guado._state import WorkerState

Path = str | Sequence[str]
_nothing: Any = object()


class _Refused(HostError, StoreError):
    """The worker that has the store did not write; nothing of it was done."""


class _Full(_Refused, StoreFull):
    pass


class _Gone(_Refused, StoreGone):
    pass


class _Late(_Refused, LockTimeout):
    pass


class _Missing(_Refused, KeyError):
    pass


class _Wrong(_Refused, TypeError, ValueError):
    pass


_KINDS: dict[str, type[_Refused]] = {
    "store_full": _Full,
    "store_gone": _Gone,
    "store_locked": _Late,
    "missing": _Missing,
    "wrong": _Wrong,
    "store_failed": _Refused,
    "moved": _Refused,
}


def _error(code: str, message: str) -> HostError:
    kind = _KINDS.get(code)
    return of_code(code, message) if kind is None else kind(message, code)


def _plain(found: Any) -> Any:
    return _values.decode(json.dumps(found, ensure_ascii=False).encode())


class RemoteStore:
    """A store whose worker is another one's. What is read is a copy: changing it changes
    nothing. Each write is real when it returns, and no part of this request's commit."""

    def __init__(self, kind: int, id: str, name: str, patience: float = PATIENCE) -> None:
        self.kind, self.id, self.name, self.patience = kind, id, name, patience

    def __repr__(self) -> str:
        return f"<store of {self.name}, of another group>"

    # Reads.

    def __getitem__(self, path: Path) -> Any:
        return self._read(_records.path_of(path))

    def get(self, path: Path, default: Any = None) -> Any:
        try:
            return self[path]
        except KeyError:
            return default

    def __contains__(self, path: Path) -> bool:
        return self.get(path, _nothing) is not _nothing

    @property
    def root(self) -> dict[str, Any]:
        """All of it: a copy."""
        found: dict[str, Any] = self._read(())
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.root)

    def __len__(self) -> int:
        return len(self.root)

    def keys(self) -> Any:
        return self.root.keys()

    def items(self) -> Any:
        return self.root.items()

    def values(self) -> Any:
        return self.root.values()

    def _read(self, keys: tuple[str, ...]) -> Any:
        answer: _host.Reply[dict[str, Any]] = _host.Reply()
        body = self._body(b'"path":' + _json.encode(list(keys), "path"))
        _host.ask("store.read", body, answer, dict, error_of=_error)
        found = answer.result()
        if not found["found"]:
            raise KeyError(keys)
        return _plain(found["value"])

    # Writes.

    def __setitem__(self, path: Path, value: Any) -> None:
        self.set(path, value)

    def set(
        self,
        path: Path,
        value: Any,
        reason: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """`store[path] = value`, as of the worker that has it."""
        more = b"" if reason is None else b',"reason":' + _json.encode(reason)
        if attributes is not None:
            more += b',"attributes":' + _values.encode(attributes)
        self._write([self._op("set", path, value) + more])

    def __delitem__(self, path: Path) -> None:
        self._write([self._op("delete", path)])

    def pop(self, path: Path, default: Any = _nothing) -> Any:
        try:
            return self._write([self._op("pop", path)])[0]
        except KeyError:
            if default is _nothing:
                raise
            return default

    def setdefault(self, path: Path, default: Any = None) -> Any:
        return self._write([self._op("setdefault", path, default)])[0]

    def add(self, path: Path, n: int = 1) -> int:
        """Adds to the whole number there, 0 where there is none, and gives the sum."""
        if type(n) is not int:
            raise TypeError(f"a counter counts in whole numbers, not {n!r}")
        return int(self._write([self._op("add", path, n)])[0])

    def compare_and_set(self, path: Path, old: Any, new: Any) -> bool:
        """Puts `new` there if `old` is what is there; whoever comes second gets False.
        ``guado.MISSING`` as `old`: nothing may be there; as `new`: nothing is left."""
        more = b""
        if old is not MISSING:
            more += b',"old":' + _values.encode(old)
        if new is not MISSING:
            more += b',"new":' + _values.encode(new)
        return bool(self._write([self._op("compare", path) + more])[0])

    def append(self, path: Path, value: Any) -> None:
        """Puts a value behind the last one of the list at a path."""
        self._write([self._op("append", path, value)])

    def update(self, *args: Any, **named: Any) -> None:
        """Sets each path of a dict to its value, all at once."""
        pairs = dict(*args, **named)
        if pairs:
            self._write([self._op("set", path, value) for path, value in pairs.items()])

    def clear(self) -> None:
        self._write([b'"op":"clear","path":[]'])

    def _op(self, op: str, path: Path, value: Any = _nothing) -> bytes:
        keys = _records.path_of(path)
        _records.path_bytes(keys)  # says what is wrong with it
        text = b'"op":"%s","path":%s' % (op.encode(), _json.encode(list(keys), "path"))
        return text if value is _nothing else text + b',"value":' + _values.encode(value)

    def _write(self, ops: list[bytes]) -> list[Any]:
        more = b'"ops":[{%s}],"timeout_ms":%d' % (b"},{".join(ops), round(self.patience * 1000))
        reply: _host.Reply[list[Any]] = _host.Reply()
        _host.ask("store.write", self._body(more), reply, _results, error_of=_error)
        return reply.result()

    def _body(self, more: bytes) -> bytes:
        return b'{"kind":%d,"id":%s,%s}' % (self.kind, _json.encode(self.id), more)

    # What only the worker that has the store can do.

    def __getattr__(self, name: str) -> Any:
        instead = _INSTEAD.get(name)
        if instead is not None:
            raise StoreError(
                f"{name} of {self.name} is for the group with the state = true, whose worker has "
                f"the store; here {instead}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


_INSTEAD = dict.fromkeys(
    ("lock", "transaction"),
    "add(), compare_and_set(), setdefault() and update() are one step each, between which nobody "
    "writes",
) | {
    "on_change": "whoever writes can publish an event (guado.publish), which anybody can hear",
    "changes": "a page hears of what was written by page.push()",
}


def _results(answer: dict[str, Any]) -> list[Any]:
    return [_plain(one) for one in answer["results"]]


class Applier:
    """Does the writes of other groups, in their order, on a thread of its own: it waits for
    locks, and nothing waits for it."""

    def __init__(self, state: WorkerState) -> None:
        self.state = state
        self.waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self.run, name="guado-apply", daemon=True).start()

    def put(self, payload: bytes) -> None:
        self.waiting.put(payload)

    def run(self) -> None:
        while True:
            payload = self.waiting.get()
            try:
                self.apply(json.loads(payload))
            except OSError:  # the link is closed
                return

    def apply(self, one: dict[str, Any]) -> None:
        from guado import _state

        running = self.state.run(None, "a write of another group")
        _ledger.enter(running.exchange)
        answer = b'"number":%d,' % one["number"] + self._done(one)
        reply: _host.Reply[None] = _host.Reply()

        def settle(future: Any, status: int, code: str, text: bytes) -> None:
            future.set_result(None)
            if code == "moved":  # the user has, and the host has refused the commit
                said = b'{"number":%d,"code":"moved","text":"the user has moved"}' % one["number"]
                _calls.shared().start(_calls.HOST, "store.applied", said, _host.Reply(), _ignore)

        # It goes with the commit: the host hears it when its copy has what was written.
        body = b"{" + answer + b"}"
        _calls.shared().start(_calls.HOST, "store.applied", body, reply, settle, 0, running.later)
        running(_state.END)

    def _done(self, one: dict[str, Any]) -> bytes:
        """The results of the operations, or why there are none."""
        try:
            store = self._store(one["kind"], one["id"])
            with store.transaction(timeout=one["patience_ms"] / 1000):
                results = _all_or_none(store, one["ops"])
            return b'"results":[%s]' % b",".join(results)
        except Exception as error:
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            text = str(error.args[0]) if type(error) is KeyError and error.args else str(error)
            return b'"code":%s,"text":%s' % (_json.encode(code), _json.encode(text))

    def _store(self, kind: int, id: str) -> Store:
        """The host has sent it ahead; this worker may have let it go again since."""
        store = self.state._find(kind, id)
        try:
            return self.state.store(kind, id) if store is None else store
        except (LookupError, HostError) as error:
            raise StoreGone("the item has ended, and its store with it") from error


def _ignore(future: Any, status: int, code: str, text: bytes) -> None:
    future.set_result(None)


_CODES: tuple[tuple[type[Exception], str], ...] = (
    (StoreFull, "store_full"),
    (StoreGone, "store_gone"),
    (LockTimeout, "store_locked"),
    (KeyError, "missing"),
    (TypeError, "wrong"),
    (ValueError, "wrong"),
    (Exception, "store_failed"),
)


def _all_or_none(store: Store, ops: list[dict[str, Any]]) -> list[bytes]:
    results: list[bytes] = []
    before = store.snapshot() if len(ops) > 1 else b""
    try:
        for op in ops:
            results.append(_values.encode(_OPS[op["op"]](store, tuple(op["path"]), op)))
    except Exception:
        if results:  # what was done is taken back, as further writes of the same commit
            _take_back(store, before)
        raise
    return results


def _take_back(store: Store, before: bytes) -> None:
    store.clear()
    for record in _records.read(before):
        if record.op == _records.SET:
            store[record.path] = _values.decode(record.items[0], store.pickles)
        elif record.op == _records.CLEAR and record.path:
            store[record.path] = {}
        elif record.op == _records.LIST:
            store[record.path] = [_values.decode(item) for item in record.items]


def _set(store: Store, path: tuple[str, ...], op: dict[str, Any]) -> None:
    attributes = op.get("attributes")
    said = None if attributes is None else _plain(attributes)
    store.set(path, _plain(op["value"]), op.get("reason"), said)


def _delete(store: Store, path: tuple[str, ...], op: dict[str, Any]) -> None:
    del store[path]


def _append(store: Store, path: tuple[str, ...], op: dict[str, Any]) -> None:
    found = store[path]
    if not isinstance(found, list):
        raise TypeError(f"{'.'.join(path)} of {store.name} is no list")
    found.append(_plain(op["value"]))


def _compare(store: Store, path: tuple[str, ...], op: dict[str, Any]) -> bool:
    old = _plain(op["old"]) if "old" in op else MISSING
    return store.compare_and_set(path, old, _plain(op["new"]) if "new" in op else MISSING)


_OPS: dict[str, Callable[[Store, tuple[str, ...], dict[str, Any]], Any]] = {
    "set": _set,
    "delete": _delete,
    "pop": lambda store, path, op: store.pop(path),
    "setdefault": lambda store, path, op: store.setdefault(path, _plain(op["value"])),
    "append": _append,
    "add": lambda store, path, op: store.add(path, op["value"]),
    "compare": _compare,
    "clear": lambda store, path, op: store.clear(),
}
