"""A cache in the global store: one for all workers, read out of this one's memory.

    CACHES = {"default": {"BACKEND": "guado.adapters.django.cache.GuadoCache"}}

Before: Django's cache API. After: guado.global_store(). Not here: its limit (``[global]`` in
guado.toml); what is full makes room by forgetting some of its keys.

LOCATION is the path below which it is kept, ``django`` when there is none: two caches have
two. Whole numbers are kept as such, so that incr() is one step for all; all else is pickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured

import guado
from guado.adapters import _here
from guado.globalstore import GlobalFull

_missing: Any = object()


class GuadoCache(BaseCache):
    """The backend."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._root = location or "django"

    @staticmethod
    def _store() -> guado.GlobalStore:
        if not _here.hosted():
            raise ImproperlyConfigured(
                "GuadoCache is kept by a Guado server, and this process has none; where "
                "runserver, tests or commands need a cache, give them another BACKEND: "
                '"GUADO_INSTANCE" is in os.environ under Guado alone'
            )
        return guado.global_store()

    def _path(self, key: str, version: int | None) -> tuple[str, str]:
        return self._root, self.make_and_validate_key(key, version=version)

    def _ttl(self, timeout: Any) -> float | None:
        """Seconds; None: for good; 0 and less: it has ended."""
        return self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        kept = self._store().get(self._path(key, version), _missing)
        return default if kept is _missing else _load(kept)

    def has_key(self, key: str, version: int | None = None) -> bool:
        return self._path(key, version) in self._store()

    def set(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        path, ttl, data = self._path(key, version), self._ttl(timeout), _dump(value)
        store = self._store()
        if ttl is not None and ttl <= 0:
            store.delete(path).result()
        else:
            self._roomy(lambda: store.set(path, data, ttl=ttl).result())

    def add(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        path, ttl, data = self._path(key, version), self._ttl(timeout), _dump(value)
        store = self._store()
        if ttl is not None and ttl <= 0:
            return path not in store
        return bool(
            self._roomy(lambda: store.compare_and_set(path, guado.MISSING, data, ttl=ttl).result())
        )

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        path, ttl, store = self._path(key, version), self._ttl(timeout), self._store()
        if ttl is not None and ttl <= 0:
            return store.delete(path).result()
        while True:  # until nobody writes between
            kept = store.read(path, _missing, fresh=True).result()
            if kept is _missing:
                return False
            if store.compare_and_set(path, kept, kept, ttl=ttl).result():
                return True

    def delete(self, key: str, version: int | None = None) -> bool:
        return self._store().delete(self._path(key, version)).result()

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        store = self._store()
        for reply in [store.delete(self._path(key, version)) for key in keys]:
            reply.result()

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        path, store = self._path(key, version), self._store()
        kept = store.get(path, _missing)
        if type(kept) is not int:  # there is none, or no counter: Django's own way
            return super().incr(key, delta, version)
        return store.add(path, delta).result()

    def clear(self) -> None:
        self._store().delete((self._root,)).result()

    def _roomy(self, write: Any) -> Any:
        """Does it; where the store is full, once more with room. A cache may forget."""
        try:
            return write()
        except GlobalFull as error:
            if error.code == "global_too_big":
                return False
        self._forget_some()
        try:
            return write()
        except GlobalFull:
            return False

    def _forget_some(self) -> None:
        """The oldest part of the keys."""
        store = self._store()
        keys = store.keys((self._root,)) if (self._root,) in store else []
        part = max(self._cull_frequency, 1)
        for reply in [store.delete((self._root, key)) for key in keys[: len(keys) // part + 1]]:
            reply.result()


def _dump(value: Any) -> Any:
    return value if type(value) is int else pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _load(kept: Any) -> Any:
    return pickle.loads(kept) if type(kept) is bytes else kept
