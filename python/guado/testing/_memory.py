"""The host in memory: users, connections, pages and events without a server.

Before: the API (push, pages, events), by guado._host.ask. After: _turns, which calls the
handlers of pages. Not here: what a test sees of it (the package itself), requests.

It answers the verbs of protocol/link.md, section 12, with the results and codes of the
real one. What differs: clients are always as quick as their pushes.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import re
import secrets
import string
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from guado import _declared, _json, events

if TYPE_CHECKING:
    from guado._calls import Settle
    from guado._futures import Future

_CONTROL = re.compile(r"[\x00-\x1f\x7f]").search
_LETTERS = string.ascii_letters + string.digits + "_"


def new_id() -> str:
    """An id as the host makes them."""
    return "".join(secrets.choice(_LETTERS) for _ in range(22))


class Refused(Exception):
    """What a verb is answered with instead of a result."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


class Pushed(NamedTuple):
    """What a page's client was sent."""

    data: Any
    snapshot: bool


def checked_user(name: str) -> str:
    """The name of a user, or a refusal."""
    if not name or len(name.encode()) > 255 or name != name.strip() or _CONTROL(name):
        raise Refused(400, "bad_user", f"{name!r} is no name of a user")
    return name


@dataclass(eq=False)
class Meta:
    """What an item says of itself beside whose it is."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seen: datetime = field(default_factory=lambda: datetime.now(UTC))
    address: str = ""
    user_agent: str = ""
    app: str = ""
    path: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Browser:
    """A connection. `token` is what its cookie has; one that an application has made by the
    registry has none."""

    id: str = field(default_factory=new_id)
    token: str = field(default_factory=new_id)
    user: str = ""
    flag: str = ""
    cookie: bool = True
    meta: Meta = field(default_factory=Meta)

    @property
    def owner(self) -> str:
        """Whose its stores are."""
        return f"u:{self.user}" if self.user else f"g:{self.id}"


class TurnLock:
    """The turn of a page: of one thread or task at a time, and for that one again."""

    def __init__(self) -> None:
        self.changed = threading.Condition()  # guards all below
        self.owner: object = None
        self.depth = 0

    def acquire(self, who: object, timeout: float) -> bool:
        with self.changed:
            if not self.changed.wait_for(lambda: self.owner in (None, who), timeout):
                return False
            self.owner, self.depth = who, self.depth + 1
            return True

    def release(self) -> None:
        with self.changed:
            self.depth -= 1
            if self.depth == 0:
                self.owner = None
                self.changed.notify_all()

    def __enter__(self) -> None:
        """As a handler, which the host lets wait as long as it takes."""
        self.acquire(threading.current_thread(), threading.TIMEOUT_MAX)

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(eq=False)
class Tab:
    """A page, as the host knows it."""

    browser: Browser
    cls: str
    args: dict[str, Any]
    id: str = field(default_factory=new_id)
    opened: bool = False  # on_open has succeeded
    connected: bool = False
    why: str = ""  # it has ended
    topics: set[str] = field(default_factory=set)
    pushed: list[Pushed] = field(default_factory=list)
    meta: Meta = field(default_factory=Meta)
    turn: TurnLock = field(default_factory=TurnLock)


@dataclass(eq=False)
class Visit:
    """A request under way."""

    number: int
    browser: Browser | None
    address: str = ""
    user_agent: str = ""
    path: str = ""
    sent: bool = False  # its answer's head
    cookie: bool = False  # the answer is to set it


class Host:
    """Answers what applications ask. `deliver` is for pages and functions; `changed` is told
    who had a browser before a login or logout, `gone` of items that are over."""

    def __init__(self, phase: int, deliver: Callable[[dict[str, Any]], None]) -> None:
        self.phase = phase
        self.deliver = deliver
        self.changed: Callable[[Browser, str], None] = lambda browser, before: None
        self.written: Callable[[], None] = lambda: None  # behind each verb
        self.gone: Callable[[str, str], None] = lambda kind, id: None
        self.lock = threading.RLock()  # guards all below; no handler runs under it
        self.due: collections.deque[dict[str, Any]] = collections.deque()  # for deliver
        self.numbers = itertools.count(1)
        self.users: dict[str, Meta] = {}
        self.browsers: dict[str, Browser] = {}
        self.tabs: dict[str, Tab] = {}
        self.closing: dict[str, Tab] = {}  # whose on_close is to come, or runs
        self.visits: dict[int, Visit] = {}
        self.taken: dict[int, Tab] = {}  # pages whose turn a request has
        self.published: list[tuple[str, Any]] = []
        self.verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "touch": self.touch,
            "login": self.login,
            "logout": self.logout,
            "page.open": self.page_open,
            "page.get": self.page_get,
            "page.end": self.page_end,
            "page.subscribe": self.page_subscribe,
            "page.unsubscribe": self.page_unsubscribe,
            "push": lambda data: self.push(data, ack=False),
            "push.wait": self.push,
            "publish": self.publish,
            "dbevent": self.dbevent,
            "turn.give": self.turn_give,
            "worker.declares": lambda _: {},
        }

    def start(
        self, verb: str, data: bytes, future: Future[Any], settle: Settle, milliseconds: int = 0
    ) -> None:
        if verb == "turn.take" and asyncio._get_running_loop() is not None:
            # Others of the loop go on, and may have to before the turn is free.
            task = asyncio.current_task()
            more = (_json.decode(data), future, settle, milliseconds / 1000, task)
            threading.Thread(target=self.turn_take_later, args=more, daemon=True).start()
            return
        answer = self.verbs.get(verb)
        try:
            if verb == "turn.take":
                who = threading.current_thread()
                result = self.turn_take(_json.decode(data), milliseconds / 1000, who)
            elif answer is None:
                raise Refused(404, "unknown_call", f"guado.testing has no {verb}")
            else:
                with self.lock:
                    result = answer(_json.decode(data))
        except Refused as error:
            settle(future, error.status, error.code, error.text.encode())
        else:
            settle(future, 200, "", json.dumps(result).encode())
        self.flush()

    def flush(self) -> None:
        """Delivers what is due, without the lock."""
        self.written()
        while self.due:
            self.deliver(self.due.popleft())

    # Visits and browsers.

    def enter(self, browser: Browser | None) -> Visit:
        with self.lock:
            visit = Visit(next(self.numbers), browser)
            self.visits[visit.number] = visit
            return visit

    def leave(self, visit: Visit) -> None:
        with self.lock:
            self.visits.pop(visit.number, None)

    def browser(self, user: str = "", id: str = "", cookie: bool = True) -> Browser:
        with self.lock:
            made = Browser(id or new_id(), user=user, cookie=cookie)
            self.browsers[made.id] = made
            if user:
                self.user(user)
            return made

    def user(self, name: str) -> Meta:
        return self.users.setdefault(name, Meta())

    def by_token(self, token: str | None) -> Browser | None:
        with self.lock:
            browsers = self.browsers.values()
            return next((b for b in browsers if b.token == token and b.cookie), None)

    def drop(self, browser: Browser) -> int:
        """Ends a connection and its pages; tells how many items."""
        tabs = [t for t in self.tabs.values() if t.browser is browser]
        for tab in tabs:
            self.end(tab, "above")
        del self.browsers[browser.id]
        self.gone("connection", browser.id)
        return len(tabs) + 1

    def forget(self, user: str) -> int:
        """Ends a user without connections."""
        del self.users[user]
        self.gone("user", user)
        return 1

    def _visit(self, data: dict[str, Any], touch: bool = True) -> tuple[Visit, Browser]:
        visit = self.visits.get(data["exchange"])
        if visit is None:
            raise Refused(404, "no_exchange", "the request is over")
        if touch and visit.browser is None:
            self._settable(visit)
            visit.browser = self.browser()
            visit.browser.meta.address = visit.address
            visit.browser.meta.user_agent = visit.user_agent
        return visit, visit.browser or Browser()

    @staticmethod
    def _settable(visit: Visit) -> None:
        if visit.sent:
            raise Refused(409, "head_sent", "the head of the answer has left without a cookie")
        visit.cookie = True

    def touch(self, data: dict[str, Any]) -> dict[str, Any]:
        _, browser = self._visit(data)
        return {"connection": browser.id, "user": browser.user}

    def login(self, data: dict[str, Any]) -> dict[str, Any]:
        user = checked_user(data["user"])
        visit, browser = self._visit(data)
        if user != browser.user:
            self._settable(visit)
            self.change(browser, user)
        browser.flag = data.get("flag", browser.flag)
        return {"connection": browser.id, "user": browser.user}

    def logout(self, data: dict[str, Any]) -> dict[str, Any]:
        visit, browser = self._visit(data, touch=False)
        if browser.user:
            self._settable(visit)
            self.change(browser, "")
        return {}

    def change(self, browser: Browser, user: str, ends: bool = True) -> None:
        """Pages of a guest become the user's; those of another one end."""
        before, owner = browser.user, browser.owner
        if user:
            self.user(user)
        if before and ends:
            for tab in [t for t in self.tabs.values() if t.browser is browser]:
                self.end(tab, "identity")
        browser.user, browser.token = user, new_id()
        self.changed(browser, owner)

    # Pages.

    def _tab(self, data: dict[str, Any]) -> Tab:
        tab = self.tabs.get(data["page"])
        if tab is None:
            raise Refused(404, "no_page", f"there is no page {data['page']}")
        return tab

    def page_open(self, data: dict[str, Any]) -> dict[str, Any]:
        cls = data.get("class", "")
        if cls and cls not in _declared.classes:
            raise Refused(404, "no_class", f"no application has the page class {cls!r}")
        visit, browser = self._visit(data)
        tab = self.open(browser, cls, data.get("args") or {})
        tab.meta.path = visit.path
        return {"page": tab.id}

    def open(self, browser: Browser, cls: str, args: dict[str, Any], id: str = "") -> Tab:
        with self.lock:
            tab = Tab(browser, cls, args, id or new_id())
            self.tabs[tab.id] = tab
            return tab

    def page_get(self, data: dict[str, Any]) -> dict[str, Any]:
        tab = self._tab(data)
        return {
            "page": tab.id,
            "user": tab.browser.user,
            "connection": tab.browser.id,
            "class": tab.cls,
            "connected": tab.connected,
        }

    def page_end(self, data: dict[str, Any]) -> dict[str, Any]:
        self.end(self._tab(data), "ended")
        return {}

    def end(self, tab: Tab, why: str) -> None:
        with self.lock:
            if tab.why:
                return
            tab.why, tab.connected = why, False
            self.closing[tab.id] = self.tabs.pop(tab.id)
            if tab.opened:
                self.due.append({"do": "close", "tab": tab, "why": why})
            else:
                self.over(tab)

    def over(self, tab: Tab) -> None:
        """Nothing of the page runs any more."""
        with self.lock:
            self.closing.pop(tab.id, None)
        self.gone("page", tab.id)

    def page_subscribe(self, data: dict[str, Any]) -> dict[str, Any]:
        tab = self._tab(data)
        try:
            events.check_pattern(data["topic"])
        except ValueError as error:
            raise Refused(400, "bad_topic", str(error)) from None
        tab.topics.add(data["topic"])
        return {}

    def page_unsubscribe(self, data: dict[str, Any]) -> dict[str, Any]:
        tab = self.tabs.get(data["page"])
        if tab is not None:
            tab.topics.discard(data["topic"])
        return {}

    def turn_take(self, data: dict[str, Any], timeout: float, who: object) -> dict[str, Any]:
        """Waits for the turn of a page, without the lock."""
        tab = self._tab(data)
        if not tab.turn.acquire(who, timeout):
            raise Refused(504, "deadline", "not within the time of the call")
        self.taken[data["turn"]] = tab
        return {}

    def turn_take_later(
        self,
        data: dict[str, Any],
        future: Future[Any],
        settle: Settle,
        timeout: float,
        who: object,
    ) -> None:
        try:
            self.turn_take(data, timeout, who)
        except Refused as error:
            settle(future, error.status, error.code, error.text.encode())
            return
        settle(future, 200, "", b"{}")
        if future.cancelled():
            self.turn_give(data)

    def turn_give(self, data: dict[str, Any]) -> dict[str, Any]:
        tab = self.taken.pop(data["turn"], None)
        if tab is not None:
            tab.turn.release()
        return {}

    # What goes to many.

    def push(self, data: dict[str, Any], ack: bool = True) -> dict[str, Any]:
        ((kind, whom),) = data["to"].items()
        match kind:
            case "page":
                tabs = [self._tab({"page": whom})]
            case "user":
                tabs = [t for t in self.tabs.values() if t.browser.user == whom]
            case "connection":
                tabs = [t for t in self.tabs.values() if t.browser.id == whom]
            case _:
                tabs = list(self.tabs.values())
        for tab in tabs:
            tab.pushed.append(Pushed(data["data"], data.get("snapshot", False)))
        connected = sum(t.connected for t in tabs)
        told = {"pages": len(tabs), "connected": connected}
        return told | {"acknowledged": connected} if ack else told

    def dbevent(self, data: dict[str, Any]) -> dict[str, Any]:
        """One event of each table at once: nothing is collected over time."""
        tables: dict[str, dict[str, Any]] = {}
        for one in data["changes"]:
            event = tables.setdefault(one["table"], {"table": one["table"], "changes": []})
            more = {name: one[name] for name in ("reason", "page") if name in one}
            if "keys" not in one:
                event["all"] = True
            for i, key in enumerate(one.get("keys", ())):
                row = {"row": one["rows"][i]} if "rows" in one else {}
                event["changes"].append({"action": one["action"], "key": key} | row | more)
        for table, event in tables.items():
            if "all" in event:
                event["changes"] = []
            self.publish({"topic": f"dbevent.{table}", "data": event})
        return {}

    def publish(self, data: dict[str, Any]) -> dict[str, Any]:
        topic = data["topic"]
        self.published.append((topic, data["data"]))
        apps = {o.app for o in _declared.listeners if events.matches(o.topic, topic)}
        tabs = [t for t in self.tabs.values() if any(events.matches(p, topic) for p in t.topics)]
        for app in sorted(apps):
            self.due.append({"do": "on", "app": app, **data})
        for tab in tabs:
            self.due.append({"do": "event", "tab": tab, **data})
        return {"pages": len(tabs), "workers": len(apps)}
