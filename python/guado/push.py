"""Pushes to pages, users and everybody; who the client of a request is.

Before: any code of an application: a thread, a coroutine, an executor's function, a
program. After: _host, which asks the host. Not here: page classes (pages), events (events).

A push goes to the *client* of a page: its browser gets it exactly once, in order, also
after a cut of its connection. What is pushed from one process arrives in that order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from guado import _dbevents, _host, _json, _request, events
from guado.errors import NoPage, NoRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from guado._turns import PageTurn
    from guado.store import Changes, Store


class Delivered(NamedTuple):
    """What became of a push."""

    pages: int  # pages that it was queued for
    connected: int  # of these, pages whose client was connected at that moment
    acknowledged: int | None = None  # pages whose client has it; None: not asked for


class Delivery(_host.Reply[Delivered]):
    """A push on its way: ``await`` it, call ``result()``, or leave it.

    Its result is a :class:`Delivered`; its errors are HostError and the classes under it.
    NoPage: the page has ended. A user without pages, or a broadcast to nobody, is no error.
    """


def _delivered(answer: dict[str, Any]) -> Delivered:
    return Delivered(answer["pages"], answer["connected"], answer.get("acknowledged"))


def _push(
    to: bytes, data: Any, ack: bool, timeout: float | None, snapshot: bool = False
) -> Delivery:
    more = b',"snapshot":true' if snapshot else b""
    milliseconds = 0
    if timeout is not None:
        if not ack:
            raise ValueError("a timeout is for ack=True: without, nothing is waited for")
        if timeout <= 0:
            raise ValueError(f"a timeout must be more than 0 seconds, not {timeout!r}")
        milliseconds = max(1, round(timeout * 1000))
        more += b',"timeout_ms":%d' % milliseconds
    body = b'{"to":{%s},"data":%s%s}' % (to, _json.encode(data), more)
    delivery = Delivery()
    _host.ask("push.wait" if ack else "push", body, delivery, _delivered, 0, ack)
    return delivery


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{what} is text, not {value!r}")
    return value


_page_store: Callable[[str], Store] | None = None


def _stores() -> Callable[[str], Store]:
    """Stores are imported where there are any."""
    global _page_store
    from guado import _state

    _page_store = _state.page_store
    return _page_store


class PageHandle:
    """A page: one tab of a browser. Made by :func:`page`; keep it or make it anew."""

    __slots__ = ("id",)

    def __init__(self, id: str) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"guado.page({self.id!r})"

    def push(self, data: Any, *, ack: bool = False, timeout: float | None = None) -> Delivery:
        """Sends `data`, anything that JSON has, to the page's client.

        The result says that it was queued; with `ack`, that the client has it, or has not
        within `timeout` seconds (None: the host's own; it goes on trying after that).
        """
        return _push(self._to(), data, ack, timeout)

    def snapshot(self, data: Any) -> Delivery:
        """Sends the whole state of the page: a client that gets it forgets what it missed."""
        return _push(self._to(), data, False, None, snapshot=True)

    def turn(self, timeout: float = 30.0) -> PageTurn:
        """``with page.turn():`` or ``async with``: the running request has the page for itself;
        none of its handlers runs meanwhile, but for concurrent ones. Behind the head of an
        answer this is how stores are written. What is written is committed at the end.
        LockTimeout: it was not free in time; Deadlock: it never would be."""
        from guado._turns import PageTurn

        return PageTurn(self.id, timeout)

    def flush(self) -> None:
        """Commits now what the running request or handler has written to stores, and what a
        handler has pushed: from here on it lasts. Otherwise that happens when the answer
        leaves."""
        from guado import _state

        _state.current().commit()

    def subscribe(self, topic: str) -> _host.Reply[None]:
        """From now on the page hears events of `topic` (see :func:`guado.publish`)."""
        if isinstance(topic, str):
            events.check_pattern(topic)
        return self._ask("page.subscribe", topic)

    def subscribe_table(self, table: str) -> _host.Reply[None]:
        """From now on the page hears of changes of a database table (:func:`guado.dbevent`)."""
        return self.subscribe(_dbevents.topic_of(table))

    def unsubscribe_table(self, table: str) -> _host.Reply[None]:
        """Takes that back."""
        return self.unsubscribe(_dbevents.topic_of(table))

    def unsubscribe(self, topic: str) -> _host.Reply[None]:
        """Takes back a subscription; the topic is spelt as it was then."""
        return self._ask("page.unsubscribe", topic)

    def end(self) -> _host.Reply[None]:
        """Ends the page: its client is told not to come back."""
        return self._ask("page.end")

    @property
    def store(self) -> Store:
        """What the application keeps of the page; it survives the worker. From phase 4 on."""
        return (_page_store or _stores())(self.id)

    @property
    def changes(self) -> Changes:
        """A list of changes that the application itself hands out to the page's client."""
        return self.store.changes

    def share(
        self,
        path: str | Sequence[str],
        *,
        store: Store | None = None,
        write: bool = False,
        over: str = "session",
    ) -> None:
        """From now on the page's client has what is at `path` of the page's store, or of its
        user's or connection's: it gets the value, and every change with the commit that made
        it. `over`: ``"session"``, by push, or ``"requests"``, when it asks at
        ``/_guado/changes``. `write`: the client may change it. That lasts as long as the page;
        asked again it changes nothing."""
        from guado import _shared

        _shared.share(self.id, path, store, write, over)

    def unshare(self, path: str | Sequence[str], *, store: Store | None = None) -> None:
        """Takes that back: the client forgets what it has of it."""
        from guado import _shared

        _shared.unshare(self.id, path, store)

    @property
    def user(self) -> str | None:
        """Whose the page is; None: nobody has logged in. Asks the host; NoPage."""
        return self._get()["user"] or None

    @property
    def connection(self) -> str:
        """The id of its browser's connection. Asks the host; NoPage."""
        return str(self._get()["connection"])

    @property
    def connected(self) -> bool:
        """Whether its client is connected now. Asks the host; NoPage."""
        return bool(self._get()["connected"])

    def _to(self) -> bytes:
        return b'"page":' + _json.encode(self.id)

    def _get(self) -> dict[str, Any]:
        return _host.ask_now("page.get", b"{%s}" % self._to())

    def _ask(self, verb: str, topic: str | None = None) -> _host.Reply[None]:
        more = b""
        if topic is not None:
            more = b',"topic":' + _json.encode(_text(topic, "a topic"))
        reply: _host.Reply[None] = _host.Reply()
        _host.ask(verb, b"{%s%s}" % (self._to(), more), reply, _host.nothing)
        return reply


def page(id: str | None = None) -> PageHandle:
    """The page with this id; without, the page of the request (or page handler) that runs.

    NoPage: the request has none. Whether an id is one is found out by what is asked of it.
    """
    if id is not None:
        return PageHandle(_text(id, "the id of a page"))
    current = _request.current()
    if current is None:
        _host.check()
        raise NoRequest("no request runs here: name the page, guado.page(id)", "no_request")
    if not current.page:
        raise NoPage(
            "this request belongs to no page: its client sent no page id, or that of another",
            "no_page",
        )
    return PageHandle(current.page)


class User:
    """All pages of a user, in every browser. Made by :func:`user`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"guado.user({self.name!r})"

    def push(self, data: Any, *, ack: bool = False, timeout: float | None = None) -> Delivery:
        """Sends `data` to all open pages of the user, as :meth:`PageHandle.push` to one."""
        return _push(b'"user":' + _json.encode(self.name), data, ack, timeout)

    @property
    def store(self) -> Store:
        """What the application keeps of the user; it survives the worker. From phase 4 on."""
        from guado import _state

        return _state.user_store(self.name)


class _Guest(User):
    """Who has not logged in: known by the browser's connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        super().__init__("")
        self._connection = connection

    def __repr__(self) -> str:
        return "guado.user()"

    def push(self, data: Any, *, ack: bool = False, timeout: float | None = None) -> Delivery:
        return self._connection.push(data, ack=ack, timeout=timeout)

    @property
    def store(self) -> Store:
        """It ends with the guest: at login the application copies what is to be kept."""
        from guado import _state

        return _state.user_store(None, self._connection.id)


def user(name: str | None = None) -> User:
    """The user with the name that login was given; without, that of the request (or page
    handler) that runs, who may be a guest: then its name is empty."""
    if name is not None:
        return User(_text(name, "the name of a user"))
    mine = connection()
    return User(mine.user) if mine.user else _Guest(mine)


class Connection:
    """The browser of the request that runs. Made by :func:`connection`."""

    __slots__ = ("_current",)

    def __init__(self, current: _request.Current) -> None:
        self._current = current

    def __repr__(self) -> str:
        return f"<guado.connection of user {self._current.user!r}>"

    @property
    def id(self) -> str:
        """Its id: internal and stable, never the cookie. Makes the connection when there is
        none yet (the answer sets the cookie): TooLate once the answer's head has been sent.
        """
        if not self._current.connection:
            self._keep(self._ask("touch"))
        return str(self._current.connection)

    @property
    def store(self) -> Store:
        """What the application keeps of this browser; it survives the worker. From phase 4
        on."""
        from guado import _state

        return _state.connection_store(self.id)

    @property
    def user(self) -> str | None:
        """Who has logged in; None: nobody."""
        return self._current.user or None

    def push(self, data: Any, *, ack: bool = False, timeout: float | None = None) -> Delivery:
        """Sends `data` to all open pages of this browser."""
        return _push(b'"connection":' + _json.encode(self.id), data, ack, timeout)

    def login(self, user: str, flag: str | None = None) -> _host.Reply[None]:
        """From now on this browser is `user`'s. The answer sets a new cookie; pages of the
        guest that it was stay, those of another user end. TooLate: the head has been sent.

        Is done when it returns, so that the answer cannot overtake it; ``await`` may be
        written before it, and changes nothing.
        """
        more = b',"user":' + _json.encode(_text(user, "a user's name"))
        if flag is not None:
            more += b',"flag":' + _json.encode(_text(flag, "a flag"))
        answer = self._ask("login", more)
        self._keep(answer)
        self._current.waits = bool(answer.get("waits"))
        return _done()

    def logout(self) -> _host.Reply[None]:
        """From now on this browser is a guest's; its pages end. As login in all else."""
        self._ask("logout")
        self._current.user = None
        return _done()

    def _keep(self, answer: dict[str, Any]) -> None:
        self._current.connection = answer["connection"]
        self._current.user = answer.get("user") or None

    def _ask(self, verb: str, more: bytes = b"") -> dict[str, Any]:
        exchange = self._current.exchange
        if exchange is None:
            raise NoRequest(
                f"{verb} needs a request, whose answer sets the cookie: this is none; a page asks "
                'a route for it, in the browser: page.request(data, {to: "/path"})',
                "no_request",
            )
        return _host.ask_now(verb, b'{"exchange":%d%s}' % (exchange, more))


def _done() -> _host.Reply[None]:
    reply: _host.Reply[None] = _host.Reply()
    reply.set_result(None)
    return reply


def connection() -> Connection:
    """The connection of the request that runs. NoRequest: none does."""
    current = _request.current()
    if current is None:
        # Where there is no phase 3 there is no request to be found: say that instead.
        _host.check()
        raise NoRequest("no request runs here, so there is no connection", "no_request")
    return Connection(current)


def broadcast(data: Any, *, ack: bool = False, timeout: float | None = None) -> Delivery:
    """Sends `data` to all open pages."""
    return _push(b'"all":true', data, ack, timeout)
