"""Guado in memory, for the tests of applications: no server, no socket, no C.

    from guado import testing

    def test_a_move_reaches_the_others():
        with testing.worker(user="ada") as w:
            mine, other = w.open(Board, {"room": 1}), w.open(Board, {"room": 1})
            assert mine.message({"x": 3}) == {"ok": True}
            assert other.pushed == [{"moved": 3}]

Before: an application's tests. After: _memory, which stands in the server's place, and
_turns, which runs page classes. Not here: HTTP; frameworks' own test clients do that, with
the application as it is or wrapped by :meth:`Worker.wsgi` or :meth:`Worker.asgi`.

The code of the block is that of a request of its user's browser: ``guado.connection()``,
``guado.page()`` and all else are there, also in applications that it calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from guado import _host, _json, _records, _request, _state, _values, globalstore
from guado.errors import PhaseError
from guado.pages import Page
from guado.testing import _requests
from guado.testing._global import Store, Verbs
from guado.testing._memory import Browser, Host, Pushed, Tab
from guado.testing._registry import Registry
from guado.testing._shared import Sharing, Told
from guado.testing._stores import State
from guado.testing._turns import Turns
from guado.worker import pages

__all__ = ["Client", "OpenPage", "Told", "Worker", "worker"]


class Client:
    """A browser: a connection and its open pages. Made by :meth:`Worker.client`."""

    def __init__(self, worker: Worker, browser: Browser) -> None:
        self._worker = worker
        self._browser = browser

    def __repr__(self) -> str:
        return f"<browser of {self.user or 'a guest'}>"

    @property
    def id(self) -> str:
        """The id of the connection."""
        return self._browser.id

    @property
    def user(self) -> str | None:
        """Who has logged in; None: nobody."""
        return self._browser.user or None

    @property
    def cookies(self) -> dict[str, str]:
        """What the browser sends now, for the test client of a framework."""
        return {_requests.COOKIE: self._browser.token}

    @property
    def pages(self) -> list[OpenPage]:
        """Its open pages, the oldest first."""
        tabs = list(self._worker._host.tabs.values())
        return [OpenPage(self._worker, t) for t in tabs if t.browser is self._browser]

    def open(
        self, cls: type[Page] | str | None = None, args: dict[str, Any] | None = None
    ) -> OpenPage:
        """Opens a page in this browser, as ``open("Board", {room: 1})`` does in JavaScript.
        Raises what ``on_open`` raises."""
        name = cls._guado_name if isinstance(cls, type) else cls or ""
        wanted = _json.decode(_json.encode(args or {}, "args"))
        tab = self._worker._host.open(self._browser, name, wanted)
        return OpenPage(self._worker, tab).connect()


class OpenPage:
    """The client's end of a page. Made by :meth:`Worker.open`."""

    def __init__(self, worker: Worker, tab: Tab) -> None:
        self._worker = worker
        self._tab = tab

    def __repr__(self) -> str:
        return f"<client of page {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenPage) and other._tab is self._tab

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        return self._tab.id

    @property
    def user(self) -> str | None:
        return self._tab.browser.user or None

    @property
    def ended(self) -> str | None:
        """Why the page has ended: "ended", "identity", …; None: it is open."""
        return self._tab.why or None

    @property
    def object(self) -> Page | None:
        """The object of the page's class, as it is in the worker now."""
        entry = pages._objects.get(self.id)
        return entry.page if entry else None

    @property
    def pushed(self) -> list[Any]:
        """All that the client was sent, snapshots among it, since it opened."""
        return [one.data for one in self._tab.pushed]

    def take(self) -> list[Any]:
        """What the client was sent since this was last called."""
        taken, self._tab.pushed[:] = self.pushed, []
        return taken

    def connect(self) -> OpenPage:
        """The client comes, for the first time or again."""
        tab = self._tab
        tab.connected = not tab.why
        if tab.cls and not tab.opened and not tab.why:
            try:
                self._worker._turns.run(tab, "open")
            except BaseException:
                self._worker._host.end(tab, "refused")
                raise
            tab.opened = True
        return self

    def disconnect(self) -> None:
        """The client's network is gone; the page stays."""
        self._tab.connected = False

    def message(self, data: Any = None) -> Any:
        """The client sends `data`: what ``on_message`` returned, as the client gets it.

        PageError is what the client would see. Another exception is raised as it is,
        where the client would hear ``failed``.
        """
        sent = _json.decode(_json.encode(data))
        return self._worker._turns.run(self._here(), "request", data=sent)

    def get(self, path: str | Sequence[str], *, store: str = "page") -> Any:
        """What the client has at a path that is shared with it over its session. KeyError:
        nothing. `store`: "page", "user" or "connection"."""
        return self._sharing().get(self.id, _records.path_of(path), store)

    @property
    def told(self) -> list[Told]:
        """All changes of what is shared over the session that the client has heard of."""
        client = self._sharing().clients.get(self.id)
        return list(client.told) if client else []

    def changes(self, ack: int | None = None) -> tuple[list[Told], int]:
        """The client asks at ``/_guado/changes``: what it gets, and its number. `ack`: its
        field ``Guado-Ack``. ValueError: that was never handed out."""
        return self._sharing().hand_out(self.id, ack)

    def set(self, path: str | Sequence[str], value: Any, *, store: str = "page") -> None:
        """The client writes what is shared with it. PageError: it may not."""
        self._write({"path": _records.path_of(path), "store": store, "value": value})

    def delete(self, path: str | Sequence[str], *, store: str = "page") -> None:
        """The client takes away what is there."""
        self._write({"path": _records.path_of(path), "store": store, "delete": True})

    def write(self, changes: list[dict[str, Any]]) -> None:
        """The client writes all of it, or nothing: each as JavaScript's `page.write`."""
        self._write(*changes)

    def _write(self, *changes: dict[str, Any]) -> None:
        if self._tab.why:
            raise LookupError(f"the page has ended: {self._tab.why}")
        self.connect()
        plain = [{**one, "path": list(_records.path_of(one["path"]))} for one in changes]
        data = _values.encode({"changes": plain, "as": 1})
        self._worker._turns.run(self._tab, "write", data=data)

    def _sharing(self) -> Sharing:
        if self._worker._state is None:
            raise PhaseError("what is shared needs phase 4")
        return self._worker._state.sharing

    def fetch(self, path: str = "", data: Any = None, *, method: str | None = None) -> Any:
        """Somebody with the page's cookie asks the page itself by HTTP, for
        ``/_guado/page/ID/PATH?QUERY``: what ``on_request`` returned. `data` is the JSON of the
        body; without one it is a GET, and else a POST. Errors as of :meth:`message`."""
        phase = self._worker._host.phase
        if phase < 5:
            raise PhaseError(f"requests to pages need phase 5, and this block has {phase}")
        path, _, query = path.removeprefix("/").partition("?")
        body = None if data is None else _json.decode(_json.encode(data))
        asked = {
            "method": (method or ("GET" if data is None else "POST")).upper(),
            "path": path,
            "query": query,
            "data": body,
        }
        return self._worker._turns.run(self._here(), "http", data=asked)

    def snapshot(self) -> Any:
        """The client has missed too much: what ``on_snapshot`` gives it."""
        state = self._worker._turns.run(self._here(), "snapshot")
        self._tab.pushed.append(Pushed(state, True))
        return state

    def close(self) -> None:
        """The tab is closed."""
        self._worker._end(self._tab, "ended")

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around code that is a request's of this page."""
        worker = self._worker
        with _requests.request(worker._host, worker._state, self._tab.browser, self.id):
            yield

    def _here(self) -> Tab:
        if self._tab.why:
            raise LookupError(f"the page has ended: {self._tab.why}")
        if not self._tab.cls:
            raise TypeError(
                "the page has no class: its messages go to the application as requests, which "
                "the test client of its framework sends, with the field Guado-Page"
            )
        self.connect()
        return self._tab


class Worker:
    """A worker and its host. Made by :func:`worker`; of a process there is one at a time."""

    def __init__(self, phase: int, user: str = "") -> None:
        self._turns = Turns()
        self._host = Host(phase, self._turns.deliver)
        self._turns.over = self._host.over
        self._state: State | None = None
        if phase >= 4:
            self._state = self._turns.state = State(self._host)
            self._host.changed, self._host.gone = self._state.changed, self._state.gone
        bytes_of = self._state.bytes_of if self._state else lambda kind, id: 0
        self._host.verbs |= Registry(self._host, bytes_of).verbs
        self._global = Store()
        if phase >= globalstore.PHASE:
            self._host.verbs |= Verbs(self._global.note).verbs
            self._host.written = self._global.told
        self.connection = Client(self, self._host.browser(user))
        self.page: OpenPage | None = None  # of the request that the block is

    def client(self, user: str | None = None) -> Client:
        """Another browser, in which `user` has logged in."""
        return Client(self, self._host.browser(user or ""))

    def open(
        self,
        cls: type[Page] | str | None = None,
        args: dict[str, Any] | None = None,
        *,
        user: str | None = None,
    ) -> OpenPage:
        """Opens a page: in the browser of the block, or in a new one of `user`."""
        client = self.connection if user is None else self.client(user)
        return client.open(cls, args)

    def page_of(self, id: str) -> OpenPage:
        """The client's end of a page that the application opened (``guado.new_page``);
        ``connect()`` it. LookupError: there is none."""
        tab = self._host.tabs.get(id)
        if tab is None:
            raise LookupError(f"there is no page {id}")
        return OpenPage(self, tab)

    def pushed(self, page: OpenPage | str) -> list[Any]:
        """All that the client of a page was sent."""
        return (self.page_of(page) if isinstance(page, str) else page).pushed

    @property
    def published(self) -> list[tuple[str, Any]]:
        """All events, as topic and data."""
        return list(self._host.published)

    @property
    def failures(self) -> list[Exception]:
        """What handlers of events and of ends of pages have raised. What is left here is
        raised at the end of the block: a test that expects it clears the list."""
        return self._turns.failures

    @contextlib.contextmanager
    def request(self, client: Client | None = None, page: OpenPage | None = None) -> Iterator[None]:
        """Around code that is another request's: of `page`, or of a browser, or of one
        that nobody knows yet."""
        browser = page._tab.browser if page else client._browser if client else None
        with _requests.request(self._host, self._state, browser, page.id if page else None):
            yield

    def wsgi(
        self, app: Callable[..., Any], client: Client | None = None, identity: bool = False
    ) -> Callable[..., Any]:
        """A WSGI application as Guado calls it: each request is its own, known by its
        cookie and ``Guado-Page``. Requests without a cookie are of `client`. `identity`:
        as the mount's, ``Guado-User`` of an answer logs in."""
        browser = client._browser if client else None
        road = _requests.Road(self._host, self._state, browser, identity)
        made: Callable[..., Any] = _requests.wsgi(road, app)
        return made

    def asgi(
        self, app: Callable[..., Any], client: Client | None = None, identity: bool = False
    ) -> Callable[..., Any]:
        """The same for an ASGI application."""
        browser = client._browser if client else None
        road = _requests.Road(self._host, self._state, browser, identity)
        made: Callable[..., Any] = _requests.asgi(road, app)
        return made

    def kill(self) -> None:
        """The worker dies, and another takes its place. Stores are as they were; the objects
        of pages are gone, and those of connected clients are made anew by
        ``on_open(reopened=True)``."""
        if self._state is not None:
            self._state.reborn()
        for id in self._host.tabs:
            pages._objects.pop(id, None)
        for tab in [t for t in self._host.tabs.values() if t.opened and t.connected]:
            self._turns.run(tab, "open")

    def _end(self, tab: Tab, why: str) -> None:
        self._host.end(tab, why)
        self._host.flush()

    def _close(self) -> None:
        for id in self._host.tabs:
            pages._objects.pop(id, None)
        self._turns.close()


@contextlib.contextmanager
def worker(
    user: str | None = None,
    page: type[Page] | str | bool | None = None,
    args: dict[str, Any] | None = None,
    *,
    phase: int = 6,
) -> Iterator[Worker]:
    """A worker for the block, whose code is a request of `user`'s browser (None: a guest's).
    `page`: a page class that the browser has open, and the request is of that page; True:
    a page without a class. `phase`: as ``server.phase``."""
    if _host.instead is not None:
        raise RuntimeError("there is a worker of guado.testing already")
    made = Worker(phase, user or "")
    _host.instead = made._host
    before = _state.install(made._state)
    globalstore._instead = made._global
    try:
        with made.request(made.connection) as _:
            if page:
                made.page = made.open(None if page is True else page, args)
                current = _request.current()
                assert current is not None
                current.page = made.page.id
            yield made
        if made.failures:
            raise _failure(made.failures)
    finally:
        _host.instead = None
        _state.install(before)
        globalstore._instead = None
        made._close()


def _failure(failures: list[Exception]) -> Exception:
    if len(failures) == 1:
        return failures[0]
    return ExceptionGroup("handlers that nobody waited for have failed", failures)
