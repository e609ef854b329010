"""The global store: one dictionary that all workers, executors and programs share.

Before: any code of an application. After: _replica, this worker's copy, for reads; the host
for writes, whose copy is the one that counts. Not here: stores of pages, connections and users
(store).

    store = guado.global_store()
    store["rates", "EUR"] = Decimal("1.0834")       # done, and known to all, when it returns
    store["rates.EUR"]                              # out of this worker's memory
    await store.add("hits.home")                    # or .result(), or neither
    await store.set("token.7", "anna", ttl=300)     # gone after five minutes

All workers see all writes in one order. Who has written reads it; and what a worker is asked
or told *after* a write, it is asked or told with that write in its copy.
"""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import guado
from guado import _calls, _host, _json, _records, _replica, _values
from guado._ledger import StoreFull
from guado._replica import Changed
from guado._values import MISSING
from guado.errors import HostError, PhaseError, of_code

T = TypeVar("T")
Path = str | Sequence[str]


PHASE = 4


class GlobalFull(HostError, StoreFull):
    """The write would take the global store, or one value of it, above its limit
    (``[global]`` in guado.toml). Nothing of it was done."""


def _error(code: str, message: str) -> HostError:
    if code in ("global_full", "global_too_big"):
        return GlobalFull(message, code)
    if code == "unknown_call":
        return _too_early()
    return of_code(code, message)


def _too_early() -> PhaseError:
    return PhaseError(
        "the global store needs phase 4: write phase = 4 under [server] in guado.toml"
    )


class GlobalStore:
    """The global store. Made by :func:`global_store`; all of a process are the same.

    What a read gives is the caller's own: changing it changes nothing. Writes go to the host
    in the order in which a thread makes them; each gives a reply that can be awaited, has
    ``result()``, or is left. A read waits for what its thread has written before.
    """

    def __init__(self, replica: _replica.Replica | None) -> None:
        self._replica = replica
        self._mine = threading.local()

    def __repr__(self) -> str:
        return "guado.global_store()"

    # -- reads

    def __getitem__(self, path: Path) -> Any:
        return self._get(_records.path_of(path))

    def get(self, path: Path, default: Any = None) -> Any:
        """The value at a path; of one with others below it, all of them as a dict."""
        try:
            return self._get(_records.path_of(path))
        except KeyError:
            return default

    def __contains__(self, path: Path) -> bool:
        try:
            self._get(_records.path_of(path))
        except KeyError:
            return False
        return True

    def keys(self, path: Path | None = None) -> list[str]:
        """The keys of the dict at a path; without one, the first keys of all paths."""
        return list(self._dict(path))

    def items(self, path: Path | None = None) -> list[tuple[str, Any]]:
        """As keys, with what is there."""
        return list(self._dict(path).items())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def read(self, path: Path, default: Any = None, *, fresh: bool = False) -> _host.Reply[Any]:
        """As get. `fresh` asks the host: what others wrote a moment ago is in it."""
        keys = _records.path_of(path)
        if fresh or self._replica is None:
            return self._ask(
                "global.get",
                keys,
                b"",
                lambda found: _plain(found["value"]) if found["found"] else default,
            )
        reply: _host.Reply[Any] = _host.Reply()
        try:
            reply.set_result(self._get(keys))
        except KeyError:
            reply.set_result(default)
        return reply

    def _get(self, keys: tuple[str, ...]) -> Any:
        if self._replica is not None:
            self._settle()
            try:
                return self._replica.get(keys)
            except OSError as error:
                raise HostError(str(error), "link_closed") from None
        found = self._ask("global.get", keys, b"", dict).result()
        if not found["found"]:
            raise KeyError(keys)
        return _plain(found["value"])

    def _dict(self, path: Path | None) -> dict[str, Any]:
        keys = () if path is None else _records.path_of(path)
        found = self._get(keys)
        if type(found) is not dict:
            raise TypeError(f"{'.'.join(keys)} of the global store is no dict")
        return found

    def _settle(self) -> None:
        """Waits for what this thread has written and not waited for."""
        mine: list[_host.Reply[Any]] | None = getattr(self._mine, "replies", None)
        if mine and threading.current_thread().name == _calls.THREAD:
            mine.clear()  # a callback of a reply: nobody else would read the next one
        while mine:
            mine[-1]._wait(None)
            mine.pop()

    # -- writes

    def __setitem__(self, path: Path, value: Any) -> None:
        self.set(path, value).result()

    def __delitem__(self, path: Path) -> None:
        if not self.delete(path).result():
            raise KeyError(path)

    def set(self, path: Path, value: Any, ttl: float | None = None) -> _host.Reply[int]:
        """Puts a value there, in place of whatever is; a dict's values get paths of their own.
        With `ttl` it is gone after so many seconds. The result is the number of the update.
        """
        more = b',"value":' + _values.encode(value) + _ttl(ttl)
        return self._write("global.set", path, more, lambda done: int(done["number"]))

    def delete(self, path: Path) -> _host.Reply[bool]:
        """Takes a path away, with all below it. False: nothing was there."""
        return self._write("global.delete", path, b"", lambda done: bool(done["deleted"]))

    def compare_and_set(
        self, path: Path, old: Any, new: Any, ttl: float | None = None
    ) -> _host.Reply[bool]:
        """Puts `new` there if `old` is what is there; whoever comes second gets False.
        :data:`guado.MISSING` as `old`: nothing may be there; as `new`: nothing is left."""
        more = _ttl(ttl)
        if old is not MISSING:
            more += b',"old":' + _values.encode(old)
        if new is not MISSING:
            more += b',"new":' + _values.encode(new)
        return self._write("global.compare", path, more, lambda done: bool(done["swapped"]))

    def add(self, path: Path, n: int = 1, ttl: float | None = None) -> _host.Reply[int]:
        """Adds to the whole number there, 0 where there is none, and gives the sum. With `ttl`
        a counter that this call begins is gone after so many seconds."""
        if type(n) is not int:
            raise TypeError(f"a counter counts in whole numbers, not {n!r}")
        more = b',"by":"%d"' % n + _ttl(ttl)
        return self._write("global.add", path, more, lambda done: int(_plain(done["value"])))

    def setdefault(
        self, path: Path, default: Any = None, ttl: float | None = None
    ) -> _host.Reply[Any]:
        """Puts a value there if nothing is, and gives the one that is there then."""
        more = b',"value":' + _values.encode(default) + _ttl(ttl)
        return self._write("global.default", path, more, lambda done: _plain(done["value"]))

    def clear(self) -> None:
        """Takes everything away."""
        self._ask("global.delete", (), b"", _host.nothing).result()

    def _write(
        self, verb: str, path: Path, more: bytes, convert: Callable[[Any], T]
    ) -> _host.Reply[T]:
        reply = self._ask(verb, _records.path_of(path), more, convert)
        if self._replica is not None:
            mine = getattr(self._mine, "replies", None)
            if mine is None:
                mine = self._mine.replies = []
            if len(mine) >= 64:
                mine[:] = [one for one in mine if not one.done()]
            mine.append(reply)
        return reply

    def _ask(
        self, verb: str, keys: tuple[str, ...], more: bytes, convert: Callable[[Any], T]
    ) -> _host.Reply[T]:
        for key in keys:
            _records.key_bytes(key)  # says what is wrong with it
        reply: _host.Reply[T] = _host.Reply()
        body = b'{"path":%s%s}' % (_json.encode(list(keys), "path"), more)
        _host.ask(verb, body, reply, convert, error_of=_error)
        return reply

    # -- subscriptions

    def on_change(
        self, path: Path | None, function: Callable[[Changed], Any]
    ) -> Callable[[], None]:
        """Calls ``function(change)`` behind every write at, below or above a path (None: any),
        whoever made it, on a thread of its own: a :class:`Changed` has path, value and gone.
        What is returned ends it. For workers and executors."""
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                "on_change calls a plain function, on a thread: let it call "
                "asyncio.run_coroutine_threadsafe(..., loop)"
            )
        if self._replica is None:
            raise HostError("only workers and executors hear of changes", "no_replica")
        keys = () if path is None else _records.path_of(path)
        return self._replica.listen(keys, function)


def _ttl(ttl: float | None) -> bytes:
    if ttl is None:
        return b""
    if not ttl > 0:
        raise ValueError(f"a ttl must be more than 0 seconds, not {ttl!r}")
    return b',"ttl_ms":%d' % max(1, round(ttl * 1000))


def _plain(found: Any) -> Any:
    """A value of an answer, whose JSON has been read."""
    return _values.decode(json.dumps(found, ensure_ascii=False).encode())


_lock = threading.Lock()  # guards _shared
_shared: GlobalStore | None = None
# What guado.testing puts in its place.
_instead: GlobalStore | None = None


def global_store() -> GlobalStore:
    """The global store. PhaseError: the server is not so far."""
    global _shared
    if _instead is not None:
        return _instead
    worker = guado._worker
    if worker is not None:
        if worker.phase < PHASE:
            raise _too_early()
        if worker.pid != os.getpid():
            raise HostError(str(_calls.Forked()), "forked")
    replica = None if worker is None else _replica.of(worker.link)
    with _lock:
        if _shared is None or _shared._replica is not replica:
            _shared = GlobalStore(replica)
        return _shared
