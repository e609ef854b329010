"""guado.testing: the API without a server."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import guado
from guado import register, registry, testing
from guado.store import StoreError

pytest_plugins = ["guado._pytest"]

HEARD: list[Any] = []


class Room(guado.Page, name="testing.Room"):
    def on_open(self, *, reopened: bool = False) -> None:
        self.said = [f"open {reopened}"]
        if self.args.get("full"):
            raise guado.PageError("full", "no more")
        self.subscribe(f"room.{self.args.get('room', 0)}")

    def on_message(self, data: Any) -> Any:
        self.said.append(data)
        match data:
            case {"tell": text}:
                guado.publish(f"room.{self.args['room']}", text)
                return [text, len(guado.page().push("between").result())]
            case "who":
                return [self.user, self.connection == guado.connection().id]
            case "break":
                raise LookupError("inside")
            case "tuple":
                return (1, 2)
            case "set":
                return {1}
        return self.said

    def on_snapshot(self) -> Any:
        return self.said

    def on_event(self, topic: str, data: Any) -> None:
        if data == "break":
            raise LookupError("heard")
        self.push([topic, data])

    def on_close(self, why: str) -> None:
        HEARD.append(why)


class Later(guado.Page, name="testing.Later"):
    """Coroutines, and events as they come."""

    async def on_open(self, *, reopened: bool = False) -> None:
        await self.subscribe("later.>")

    async def on_message(self, data: Any) -> Any:
        await asyncio.sleep(0)
        delivered = await self.push(data)
        await guado.publish("later.x", delivered.connected)
        return threading.current_thread().name


@guado.on("testing.*")
def hears(topic: str, data: Any) -> None:
    HEARD.append((topic, data))
    if data == "break":
        raise LookupError("in a function")


@pytest.fixture(autouse=True)
def silence() -> None:
    HEARD.clear()


def test_a_page_class_is_opened_asked_and_closed(guado_worker: testing.Worker) -> None:
    page = guado_worker.open(Room, {"room": 1})
    assert page.message("a") == ["open False", "a"]
    assert page.snapshot() == ["open False", "a"]
    assert page.pushed == [["open False", "a"]]
    assert page.message("tuple") == [1, 2]
    with pytest.raises(TypeError, match="set"):
        page.message("set")
    with pytest.raises(LookupError, match="inside"):
        page.message("break")
    page.close()
    assert (HEARD, page.ended, page.object) == (["ended"], "ended", None)
    with pytest.raises(guado.NoPage):
        guado.page(page.id).push(1).result()
    with pytest.raises(LookupError, match="has ended: ended"):
        page.message("b")


def test_a_refused_page_is_none(guado_worker: testing.Worker) -> None:
    with pytest.raises(guado.PageError) as refusal:
        guado_worker.open(Room, {"full": True})
    assert refusal.value.code == "full"
    assert guado_worker.connection.pages == []


def test_what_a_handler_publishes_is_heard_behind_its_turn(guado_worker: testing.Worker) -> None:
    one, other, third = (guado_worker.open(Room, {"room": n}) for n in (1, 1, 2))
    assert one.message({"tell": "x"}) == ["x", 3]
    assert one.take() == ["between", ["room.1", "x"]]
    assert one.pushed == []
    assert guado_worker.pushed(other.id) == [["room.1", "x"]]
    assert third.pushed == []
    assert guado_worker.published == [("room.1", "x")]


def fail_twice() -> None:
    with testing.worker() as w:
        w.open(Room, {"room": 4})
        guado.publish("testing.b", "break")
        guado.publish("room.4", "break")


def test_functions_hear_events_and_their_failures_are_not_lost() -> None:
    with testing.worker() as w:
        assert guado.publish("testing.a", 1).result() == (0, 1)
        assert guado.publish("testing.a.b", 1).result() == (0, 0)
        assert HEARD == [("testing.a", 1)]
        guado.publish("testing.b", "break")
        assert len(w.failures) == 1
        w.failures.clear()
    with pytest.raises(ExceptionGroup) as failed:
        fail_twice()
    assert {str(error) for error in failed.value.exceptions} == {"in a function", "heard"}


def test_events_go_to_the_client_of_a_page_without_a_class(guado_worker: testing.Worker) -> None:
    page = guado_worker.open()
    guado.page(page.id).subscribe("room.>")
    guado.publish("room.9", "x")
    assert page.pushed == [{"topic": "room.9", "data": "x"}]
    page.close()
    guado.publish("room.9", "y")


def test_coroutines_run_on_a_loop(guado_worker: testing.Worker) -> None:
    page = guado_worker.open(Later)
    assert page.message({"n": 1}) == "guado-testing"
    assert page.pushed == [{"n": 1}, {"topic": "later.x", "data": 1}]
    page.disconnect()
    guado.publish("later.y", 2)
    assert guado.page(page.id).push(3, ack=True, timeout=1).result() == (1, 0, 0)
    assert page.take()[-2:] == [{"topic": "later.y", "data": 2}, 3]


def test_the_block_is_a_request_of_its_user() -> None:
    with testing.worker(user="ada", page=Room, args={"room": 7}) as w:
        assert guado.connection().user == "ada"
        assert guado.connection().id == w.connection.id
        assert w.page is not None
        assert guado.page().id == w.page.id
        assert guado.page().user == "ada"
        assert w.page.message("who") == ["ada", True]
        guado.page().push("hi")
        assert w.page.pushed == ["hi"]
        assert [guado.user("ada").push(1).result().pages for _ in range(2)] == [1, 1]
        assert guado.user("eve").push(1).result() == (0, 0, None)
    with pytest.raises(guado.HostError):
        guado.broadcast(1)


def test_pages_of_a_guest_become_the_users_and_end_at_the_logout() -> None:
    with testing.worker(page=Room) as w:
        page = w.page
        assert page is not None
        before = w.connection.cookies
        guado.connection().login("ada", flag="bl")
        assert (page.user, w.connection.user) == ("ada", "ada")
        assert w.connection.cookies != before
        assert page.message("who") == ["ada", True]
        guado.connection().logout()
        assert (page.ended, HEARD) == ("identity", ["identity"])
        with pytest.raises(guado.HostError) as refused:
            guado.connection().login("a\nb")
        assert refused.value.code == "bad_user"


def test_another_browser_is_another_connection(guado_worker: testing.Worker) -> None:
    eve = guado_worker.client("eve")
    page = eve.open(Room)
    assert page.message("who") == ["eve", True]
    with guado_worker.request(page=page):
        assert guado.connection().user == "eve"
        assert guado.page().id == page.id
    with guado_worker.request():
        assert guado.connection().user is None
        with pytest.raises(guado.NoPage):
            guado.page()
        made = guado.new_page(Room, room=3)
    assert guado_worker.page_of(made).object is None
    assert guado_worker.page_of(made).connect().message("a") == ["open False", "a"]
    assert guado.connection().user is None
    assert guado_worker.open(Room, user="bob").user == "bob"
    assert guado.broadcast(0).result() == (3, 3, None)


def test_after_the_death_of_the_worker_objects_are_made_anew(guado_worker: testing.Worker) -> None:
    page, away = guado_worker.open(Room), guado_worker.open(Room)
    page.message("a")
    away.disconnect()
    guado_worker.kill()
    assert away.object is None
    assert page.message("b") == ["open True", "b"]
    assert away.message("b") == ["open True", "b"]


def test_phases_are_those_of_the_server() -> None:
    with testing.worker(phase=0), pytest.raises(guado.PhaseError):
        guado.broadcast(1)
    with (
        testing.worker(),
        pytest.raises(RuntimeError, match="already"),
        testing.worker(),
    ):
        pass


class Cart(guado.Page, name="testing.Cart"):
    """What it has is in its store."""

    def on_restore(self) -> None:
        HEARD.append(("restored", len(self.store["items"])))

    def on_message(self, data: Any) -> Any:
        items = self.store.setdefault("items", [])
        items.append(data)
        return len(items)

    def on_close(self, why: str) -> None:
        HEARD.append([*self.store["items"]])


def test_stores_survive_the_worker_and_end_with_their_items() -> None:
    with testing.worker(user="ada") as w:
        page, other = w.open(Cart), w.open(Cart)
        assert [page.message({"sku": n}) for n in range(3)] == [1, 2, 3]
        assert other.message({}) == 1
        guado.connection().store["seen", "a.b"] = Decimal("9.90")
        w.kill()
        assert HEARD == [("restored", 3), ("restored", 1)]
        HEARD.clear()
        assert page.message({"sku": 3}) == 4
        assert guado.page(page.id).store["items"][0] == {"sku": 0}
        assert guado.connection().store["seen"] == {"a.b": Decimal("9.90")}
        with pytest.raises(TypeError):
            guado.connection().store["seen"] = object()
        with guado.connection().store.transaction():
            guado.connection().store["n"] = 1
        used = w._state.ledger.bytes if w._state else 0
        page.close()
        (heard,) = HEARD
        assert heard == [{"sku": n} for n in range(4)]
        assert w._state is not None
        assert w._state.ledger.bytes < used
        with pytest.raises(guado.NoPage):
            guado.page(page.id).store["items"]


def test_what_was_the_guests_is_the_users() -> None:
    with testing.worker(page=Cart) as w:
        assert w.page is not None
        w.page.message("book")
        guado.connection().store["theme"] = "dark"
        guado.connection().login("ada")
        assert guado.connection().store["theme"] == "dark"
        assert w.page.message("pen") == 2
        assert guado.page().store.owner.name == "u:ada"


def test_the_turn_of_a_page_is_one_requests_at_a_time() -> None:
    with testing.worker(page=Cart) as w:
        assert w.page is not None
        page, order = w.page, list[Any]()
        waits = threading.Event()

        def other() -> None:
            waits.set()
            order.append(page.message("other"))

        with guado.page().turn():
            with guado.page().turn():
                guado.page().store["items"] = ["mine"]
            thread = threading.Thread(target=other)
            thread.start()
            waits.wait(30)
            order.append("left")
        thread.join()
        assert order == ["left", 2]


def test_with_its_turn_a_streaming_answer_writes(guado_worker: testing.Worker) -> None:
    page = guado_worker.open(Cart)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"x"
        with guado.page().turn():
            guado.page().store["items"] = ["late"]
        try:
            guado.page().store["items"] = ["too late"]
        except StoreError:
            yield str([*guado.page().store["items"]]).encode()

    site = guado_worker.wsgi(app, guado_worker.connection)
    assert call(site, "/", HTTP_GUADO_PAGE=page.id)[1] == "x['late']"


def test_stores_need_phase_4() -> None:
    with testing.worker(phase=3, page=True), pytest.raises(guado.HostError):
        guado.page().store["n"]


def test_a_write_behind_the_head_is_refused(guado_worker: testing.Worker) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        guado.connection().store["n"] = guado.connection().store.get("n", 0) + 1
        start_response("200 OK", [])
        yield b"x"
        try:
            guado.connection().store["n"] = 7
        except StoreError:
            yield str(guado.connection().store["n"]).encode()

    assert call(guado_worker.wsgi(app, guado_worker.connection), "/")[1] == "x1"


def test_the_registry_is_in_memory(guado_worker: testing.Worker) -> None:
    pages, users, browsers = registry.pages, registry.users, registry.connections
    me = guado.connection().id
    mine = guado_worker.open(Room)
    assert [item.id for item in pages.list(connection=me, connected=True).result()] == [mine.id]
    other = browsers.create(user="eve", address="10.0.0.1", fields={"kind": "api"}).result()
    assert (other.user, other.pages) == ("eve", 0)
    page = pages.create("A" * 22, connection=other.id, fields={"root": "adm/x"}).result()
    assert pages.get(page.id).result() == page
    assert pages.count(root__prefix="adm/", user__in=["eve"]).result() == 1
    assert pages.count(root__prefix="adm/", user=None).result() == 0
    with pytest.raises(guado.HostError) as refused:
        pages.create("A" * 22, connection=me).result()
    assert refused.value.code == "exists"
    assert pages.update(page.id, fields={"root": None, "n": 1}).result().fields == {"n": 1}
    assert pages.touch(page.id).result()
    assert pages.count(last_seen__min=page.last_seen, n__max=1).result() == 1
    browsers.update(other.id, user="ada").result()
    assert guado.page(page.id).user == "ada"
    with pytest.raises(guado.HostError) as refused:
        browsers.update(me, user="ada").result()
    assert refused.value.code == "has_cookie"
    assert [u.id for u in users.list().result()] == ["eve", "ada"]
    assert pages.drop(page.id, cascade=True).result() == 2
    assert not browsers.exists(other.id).result()
    assert users.drop("ada").result() == 1
    assert browsers.drop(me).result() == 2
    assert mine.ended == "above"


def test_the_global_store_is_in_memory(guado_worker: testing.Worker) -> None:
    store = guado.global_store()
    heard: list[Any] = []
    end = store.on_change("rates", heard.append)
    store["rates", "EUR"] = Decimal("1.08")
    store["rates.all"] = {"a": [1, (2,)], "b": {}}
    assert heard[0] == (("rates", "EUR"), Decimal("1.08"), False)
    assert store["rates"] == {"EUR": Decimal("1.08"), "all": {"a": [1, (2,)], "b": {}}}
    assert store.get("rates.none", 7) == 7
    assert [store.add("hits.home", n).result() for n in (1, 5)] == [1, 6]
    assert store.compare_and_set("hits.home", 6, 10**20).result()
    assert store["hits.home"] == 10**20
    assert not store.compare_and_set("hits.home", 6, 0).result()
    assert store.compare_and_set("new", guado.MISSING, 1).result()
    assert not store.compare_and_set("new", guado.MISSING, 2).result()
    assert store.setdefault("new", 3).result() == 1
    with pytest.raises(guado.HostError) as refused:
        store["new.below"] = 1
    assert refused.value.code == "no_dict"
    end()
    del store["rates"]
    assert len(heard) == 2
    assert store.keys() == ["hits", "new"]
    store.set("short", {"a": {"$x": 1}}, ttl=0.001).result()
    deadline = time.monotonic() + 30
    while "short" in store and time.monotonic() < deadline:
        pass
    assert "short" not in store
    store["tagged"] = {"$x": {"y": b"1"}}
    assert store["tagged"] == {"$x": {"y": b"1"}}
    store.clear()
    assert len(store) == 0


def wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    user = environ["QUERY_STRING"]
    if environ["PATH_INFO"] == "/login":
        guado.connection().login(user)
    fields = [("Content-Type", "text/plain"), ("Guado-Own", "x")]
    if environ["PATH_INFO"] == "/say":
        fields.append(("Guado-User", user))
    start_response("200 OK", fields)
    yield b""
    yield str(environ.get("HTTP_GUADO_USER", "guest")).encode()
    try:
        yield b" " + str(guado.connection().id).encode()
    except guado.TooLate:
        yield b" late"


def call(app: Any, path: str, **more: str) -> tuple[dict[str, str], str]:
    head: dict[str, str] = {}
    environ = {"PATH_INFO": path, "QUERY_STRING": "", "HTTP_GUADO_USER": "forged", **more}
    body = app(environ, lambda status, fields: head.update(fields))
    try:
        return head, b"".join(body).decode()
    finally:
        body.close()


def test_a_wsgi_application_knows_browsers_by_their_cookies(guado_worker: testing.Worker) -> None:
    app = guado_worker.wsgi(wsgi_app)
    head, body = call(app, "/")
    assert (head, body) == ({"Content-Type": "text/plain"}, "guest late")
    head, body = call(app, "/login", QUERY_STRING="ada")
    cookie = head["Set-Cookie"].partition(";")[0]
    assert cookie.startswith("guado=")
    known = body.split()[-1]
    head, body = call(app, "/", HTTP_COOKIE=cookie)
    assert body == f"ada {known}"
    assert "Set-Cookie" not in head
    assert guado_worker._host.visits.keys() == {1}
    ada = guado_worker.client("ada")
    head, body = call(guado_worker.wsgi(wsgi_app, ada, identity=True), "/say", QUERY_STRING="eve")
    assert ada.user == "eve"
    assert body == f"ada {ada.id}"
    assert head["Set-Cookie"].startswith(f"guado={ada.cookies['guado']};")


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    names = [name for name, _ in scope["headers"]]
    page = guado.page().id if b"guado-page" in names else "none"
    user = guado.connection().user
    await send({"type": "http.response.start", "status": 200, "headers": [(b"guado-own", b"x")]})
    await send({"type": "http.response.body", "body": f"{user} {page}".encode()})


def test_an_asgi_application_is_told_the_page(guado_worker: testing.Worker) -> None:
    ada = guado_worker.client("ada")
    page, foreign = ada.open(Room), guado_worker.open(Room)
    app = guado_worker.asgi(asgi_app)
    cookie = (b"cookie", f"guado={ada.cookies['guado']}".encode())

    def ask(query: str, *fields: tuple[bytes, bytes]) -> tuple[Any, str]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "headers": list(fields), "query_string": query.encode()}
        asyncio.run(app(scope, None, send))
        return sent[0]["headers"], sent[1]["body"].decode()

    assert ask("", (b"Guado-Page", page.id.encode()), cookie) == ([], f"ada {page.id}")
    assert ask(f"page_id={page.id}", cookie) == ([], f"ada {page.id}")
    assert ask(f"page_id={foreign.id}", cookie) == ([], "ada none")
    assert ask(f"page_id={page.id}", (b"guado-user", b"ada")) == ([], "None none")


def test_an_application_between_phases_is_told_the_phase_of_the_block() -> None:
    for phase in (3, 6):
        with testing.worker(phase=phase):
            assert register.phase() == phase
    assert register.phase() == 0


class Asked(guado.Page, name="testing.Asked"):
    """Answers HTTP as well as messages."""

    calls = 0

    def on_request(self, request: guado.PageRequest) -> Any:
        """As its path says."""
        if request.path == "refuse":
            raise guado.PageError("not_now", "later")
        if request.path == "broken":
            raise RuntimeError("broken")
        self.calls += 1
        self.store["calls"] = self.calls
        return [*request, self.calls]

    def on_message(self, data: Any) -> Any:
        """The same object."""
        return [self.calls, self.store.get("calls")]


class Polled(guado.Page, name="testing.Polled"):
    """Is polled while it does something long."""

    def on_open(self, *, reopened: bool = False) -> None:
        """Nothing has begun."""
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def on_message(self, data: Any) -> bool:
        """Until it is told to go on."""
        self.begun.set()
        return self.goes_on.wait(60)

    @guado.concurrent
    async def on_request(self, request: guado.PageRequest) -> Any:
        """Needs no turn."""
        return self.begun.is_set()


def test_a_page_is_asked_over_http(guado_worker: testing.Worker) -> None:
    page = guado_worker.open(Asked)
    assert page.fetch() == ["GET", "", "", None, 1]
    assert page.fetch("/items/7?a=1&b", {"x": (1,)}) == ["POST", "items/7", "a=1&b", {"x": [1]}, 2]
    assert page.fetch("items", method="delete") == ["DELETE", "items", "", None, 3]
    assert page.message() == [3, 3]
    with pytest.raises(guado.PageError, match="not_now"):
        page.fetch("refuse")
    with pytest.raises(RuntimeError, match="broken"):
        page.fetch("broken")
    with pytest.raises(guado.PageError, match="no_handler"):
        guado_worker.open(Cart).fetch()
    page.close()
    with pytest.raises(LookupError, match="ended"):
        page.fetch()


def test_a_concurrent_request_does_not_wait_for_the_pages_turn(
    guado_worker: testing.Worker,
) -> None:
    page = guado_worker.open(Polled)
    said: list[Any] = []
    thread = threading.Thread(target=lambda: said.append(page.message()), daemon=True)
    thread.start()
    polled = page.object
    assert isinstance(polled, Polled)
    assert polled.begun.wait(60)
    assert [page.fetch() for _ in range(20)] == [True] * 20
    polled.goes_on.set()
    thread.join(60)
    assert said == [True]


def test_requests_to_pages_need_phase_5() -> None:
    with testing.worker(phase=4) as w, pytest.raises(guado.PhaseError, match="phase 5"):
        w.open(Asked).fetch()


def test_all_that_a_worker_asks_of_its_host_is_in_memory(guado_worker: testing.Worker) -> None:
    """But for what is between a real worker and its host: stores that are sent, and steps
    between phases."""
    text = (Path(__file__).parents[2] / "protocol" / "link.md").read_text()
    asking = text[text.index("## 12. ") : text.index("## 13. ")]
    verbs = {line.split("`")[1] for line in asking.splitlines() if line.startswith("| `")}
    known = guado_worker._host.verbs.keys() | {"turn.take"}
    assert {v for v in verbs - known if not v.startswith(("store.", "phase."))} == set()
    assert len(verbs & known) > 20
