"""Page classes: an object in the worker for every open page of a browser.

    class Board(guado.Page):
        def on_open(self, *, reopened=False):
            self.subscribe("board.moves")

        def on_message(self, data):
            guado.publish("board.moves", data)
            return {"ok": True}     # the answer to the client's request()

Before: the application defines them; the browser opens a page by ``open("Board", {room: 1})``
or the application by :func:`new_page`. After:
worker/pages.py makes the objects and calls their handlers. Not here: the client's end.

The object is a **cache**: it lives as long as its page *and its worker*. After the death of
the worker it is made anew by ``on_open(reopened=True)``, and what it had is gone: keep what
must last in your database.

Handlers of one page run one at a time, in order, each in its own time limit (that of the
application's requests); those marked :func:`concurrent` run beside. ``async def`` handlers
run on the loop of an ASGI application, plain ones in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from guado import _declared, _host, _json, _request
from guado.errors import NoRequest, PageError
from guado.push import Delivery, PageHandle

if TYPE_CHECKING:
    from guado.store import Changes, Store

F = TypeVar("F", bound=Callable[..., Any])

# Handlers beside which nothing can run: those that begin and end the object, and the one that
# stands before a write.
_ALONE = ("on_open", "on_restore", "on_close", "on_write")


class PageRequest(NamedTuple):
    """A request to a page itself: of any method, to ``/_guado/page/ID/PATH?QUERY``."""

    method: str
    path: str  # behind the id, without a slash before it
    query: str  # as it came
    data: Any  # the JSON of its body; None: it has none


class Page:
    """The base of page classes.

    Clients name a class when they open a page: by the name of the class, or by the one
    given as ``class Board(guado.Page, name="board")``. A class whose name begins with an
    underscore is a base for others, and cannot be opened. A subclass may have an
    ``__init__`` without arguments; the attributes below are set before it.
    """

    id: str  # of the page, 22 characters
    user: str | None  # who has logged in, as of this turn; None: nobody
    connection: str  # the browser's connection
    args: dict[str, Any]  # given when the page was opened: from the client, so not trusted

    def __init_subclass__(cls, *, name: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        for handler in _ALONE:
            if is_concurrent(getattr(cls, handler, None)):
                raise TypeError(f"{cls.__qualname__}.{handler} cannot be @guado.concurrent")
        cls._guado_name = name or cls.__name__
        if not cls._guado_name.startswith("_"):
            _declared.add_class(cls._guado_name, cls)

    _guado_name = ""

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {getattr(self, 'id', '')}>"

    # -- handlers, for subclasses; each may be async def in an ASGI application

    def on_open(self, *, reopened: bool = False) -> Any:
        """The page's client is there for the first time. `reopened`: the page was open, and
        this object takes the place of one that its worker has taken with it."""

    def on_message(self, data: Any) -> Any:
        """The client has sent `data`. What is returned answers its ``request()``; PageError
        refuses it. A ``send()`` has no answer."""
        raise PageError("no_handler", "this page takes no messages")

    def on_snapshot(self) -> Any:
        """The client has missed too much: what is returned is pushed to it as the whole
        state. None: it is told that there is none, by a null."""
        return None

    def on_close(self, why: str) -> Any:
        """The page has ended: its tab was closed ("ended"), its client has not come back
        ("evicted"), its user has logged out ("identity"), …"""

    # on_restore(self) takes the place of on_open(reopened=True) where a class has it: this
    # object is made anew, and `self.store` has what the one before it has written.
    #
    # on_request(self, request) answers HTTP requests to the page itself, from phase 5 on: what
    # it returns is the JSON of the answer, PageError gives 400 with its code.
    #
    # on_write(self, changes) is called before the page's client writes what is shared with it
    # (`share`), with `guado.ClientWrites`, a list: PageError refuses all of them.
    #
    # on_event(self, topic, data) is called for events that the page has subscribed to. In a
    # class without it they are pushed to the client, as {"topic": …, "data": …}.

    # -- for handlers

    @property
    def store(self) -> Store:
        """What survives of the page, unlike this object. From phase 4 on."""
        return PageHandle(self.id).store

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
        """From now on the page's client has what is at `path`; see
        :meth:`guado.PageHandle.share`."""
        PageHandle(self.id).share(path, store=store, write=write, over=over)

    def unshare(self, path: str | Sequence[str], *, store: Store | None = None) -> None:
        """Takes that back."""
        PageHandle(self.id).unshare(path, store=store)

    def flush(self) -> None:
        """Commits now what this handler has written and pushed. Otherwise that happens when
        it returns."""
        PageHandle(self.id).flush()

    def push(self, data: Any, *, ack: bool = False, timeout: float | None = None) -> Delivery:
        """Sends `data` to the page's client; see :meth:`guado.PageHandle.push`."""
        return PageHandle(self.id).push(data, ack=ack, timeout=timeout)

    def snapshot(self, data: Any) -> Delivery:
        """Sends the client the page's whole state."""
        return PageHandle(self.id).snapshot(data)

    def subscribe(self, topic: str) -> _host.Reply[None]:
        """From now on the page hears events of `topic`."""
        return PageHandle(self.id).subscribe(topic)

    def subscribe_table(self, table: str) -> _host.Reply[None]:
        """From now on the page hears of changes of a database table (:func:`guado.dbevent`)."""
        return PageHandle(self.id).subscribe_table(table)

    def unsubscribe_table(self, table: str) -> _host.Reply[None]:
        """Takes that back."""
        return PageHandle(self.id).unsubscribe_table(table)

    def unsubscribe(self, topic: str) -> _host.Reply[None]:
        """Takes back a subscription; the topic is spelt as it was then."""
        return PageHandle(self.id).unsubscribe(topic)

    def end(self) -> _host.Reply[None]:
        """Ends the page: its client is told not to come back."""
        return PageHandle(self.id).end()


def concurrent(handler: F) -> F:
    """Marks a handler of a page class that may run beside the page's others. What they
    share is then yours to lock."""
    handler._guado_concurrent = True  # type: ignore[attr-defined]
    return handler


def is_concurrent(handler: Any) -> bool:
    """Whether a handler is marked so."""
    return getattr(handler, "_guado_concurrent", False) is True


def new_page(cls: type[Page] | str | None = None, /, **args: Any) -> str:
    """Opens a page for the client of this request and returns its id, to be written into
    the HTML that answers it: ``open(undefined, undefined, {page: "{{ id }}"})``.

    `cls` is a page class (or its name) and `args` what its object gets; without a class,
    the page's messages come to the application as requests. Makes the connection when there
    is none: TooLate once the answer's head has been sent. NoRequest outside a request.
    """
    current = _request.current()
    if current is None or current.exchange is None:
        _host.check()
        raise NoRequest("new_page is for the request whose answer is the page", "no_request")
    more = b""
    if cls is not None:
        name = cls if isinstance(cls, str) else cls._guado_name
        more = b',"class":' + _json.encode(name)
    if args:
        more += b',"args":' + _json.encode(args, "args")
    answer = _host.ask_now("page.open", b'{"exchange":%d%s}' % (current.exchange, more))
    page = str(answer["page"])
    if not current.page:
        current.page = page
    return page
