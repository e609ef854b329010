"""Sessions in the store of the browser's connection.

Before: ``SESSION_ENGINE = "guado.adapters.django.sessions"``. After: guado.connection().store.
Not here: their cookie, which Django sets.

A session is with its connection: the cookie of Django alone opens nothing, and where the
connection ends (its time is over, see `identity.ttl`), so does the session. It has no table,
nothing to clear, and no query for each request.
"""

from __future__ import annotations

import time
from typing import Any

from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError

import guado
from guado.adapters import _here

SESSION = ("django", "session")


class SessionStore(SessionBase):
    """A connection has one session at a time: a new one takes the old one's place."""

    def _kept(self, key: str | None) -> dict[str, Any] | None:
        """What is kept under this key."""
        store = _here.kept()
        kept = store.get(SESSION) if store is not None else None
        if kept is None or key is None or kept["key"] != key or kept["until"] < time.time():
            return None
        return kept

    def load(self) -> dict[str, Any]:
        kept = self._kept(self.session_key)
        if kept is None:
            self._session_key = None
            return {}
        return self.serializer().loads(kept["data"])

    def exists(self, session_key: str) -> bool:
        return self._kept(session_key) is not None

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)
        there = self.exists(self.session_key)
        if must_create and there:
            raise CreateError
        if not must_create and not there:
            raise UpdateError
        if _here.connection() is None:
            raise guado.NoRequest(
                "sessions of Guado are kept for requests to a Guado server, and this is none; "
                "where runserver, tests or commands need sessions, give them another "
                'SESSION_ENGINE: "GUADO_INSTANCE" is in os.environ under Guado alone',
                "no_request",
            )
        store = _here.kept(make=True)
        if store is None:  # the browser has logged in meanwhile: Django answers 400
            raise UpdateError
        store[SESSION] = {
            "key": self.session_key,
            "until": int(time.time()) + self.get_expiry_age(),
            "data": self.serializer().dumps(data),
        }

    def delete(self, session_key: str | None = None) -> None:
        store = _here.kept()
        if store is not None and self._kept(session_key or self.session_key) is not None:
            store.pop(SESSION, None)

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing: they end with their connections."""
