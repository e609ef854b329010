"""The adapters under guado.testing: the same story for each framework, and then what only
one of them has."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "test" / "apps"))

import guado
from guado import testing

pytestmark = pytest.mark.frameworks

SITES = ["adapter_flask:app", "adapter_fastapi:app", "adapter_django:application"]
SITES.append("adapter_django:asgi")


def load(target: str) -> Any:
    os.environ.setdefault("ADAPTER_DATA", tempfile.mkdtemp())
    module, _, name = target.partition(":")
    pytest.importorskip(module.removeprefix("adapter_"))
    made = getattr(importlib.import_module(module), name)
    return type(made)() if module == "adapter_django" else made  # by the settings of now


def browser(w: testing.Worker | None, target: str) -> Any:
    """A client of HTTP, with its own cookies, before the application; without a worker, as
    on another server."""
    import httpx
    from starlette.testclient import TestClient

    app = load(target)
    if target in ("adapter_fastapi:app", "adapter_django:asgi"):
        client: httpx.Client = TestClient(w.asgi(app) if w else app, follow_redirects=False)
    else:
        transport = httpx.WSGITransport(w.wsgi(app) if w else app)
        client = httpx.Client(transport=transport, base_url="http://site")
    return contextlib.closing(client)


@pytest.fixture
def w() -> Iterator[testing.Worker]:
    with testing.worker() as worker:
        yield worker


@pytest.mark.parametrize("target", SITES)
def test_pages_and_users_of_requests(w: testing.Worker, target: str) -> None:
    with browser(w, target) as site:
        assert site.get("/who").json() == {"user": None, "page": None, "template": "nobody"}
        assert dict(site.cookies) == {}
        assert site.post("/private").status_code in (302, 401)
        assert site.post("/page").status_code == 400
        page = w.page_of(site.get("/open").text).connect()
        assert set(site.cookies) == {"guado"}
        mine = {"Guado-Page": page.id}
        assert site.get("/who", headers=mine).json()["page"] == page.id
        assert site.post("/page", headers=mine).json() == {"told": 1, "times": 1}
        assert site.post("/login", data={"user": "ada"}).status_code < 400
        assert site.post("/private", headers=mine).json() == {"told": 1}
        assert page.pushed == ["for the page", "for you"]
        known = {"user": "ada", "page": page.id, "template": "ada"}
        assert site.get("/who", headers=mine).json() == known
        assert page.user == "ada"
        w.kill()
        assert site.post("/page", headers=mine).json()["times"] == 2
        site.post("/logout")
        assert page.ended == "identity"
        assert site.get("/who").json() == {"user": None, "page": None, "template": "nobody"}
        assert site.post("/private").status_code in (302, 401)


@pytest.mark.parametrize("target", SITES)
def test_sessions_are_in_the_store_of_the_browser(w: testing.Worker, target: str) -> None:
    with browser(w, target) as site, browser(w, target) as other:
        site.get("/who")
        assert dict(site.cookies) == {}
        assert [site.post("/count").json()["visits"] for _ in range(3)] == [1, 2, 3]
        assert other.post("/count").json() == {"visits": 1}
        w.kill()
        assert site.post("/count").json() == {"visits": 4}
        site.post("/login", data={"user": "ada"})
        assert site.post("/count").json() == {"visits": 5}
        assert site.get("/who").json()["user"] == "ada"
        if target == "adapter_django:asgi":
            assert site.post("/count-later").json() == {"visits": 6}
            assert site.post("/count").json() == {"visits": 7}
        assert site.post("/forget").json() == {"visits": 0}
        assert site.post("/count").json() == {"visits": 1}
        assert other.post("/count").json() == {"visits": 2}


@pytest.mark.parametrize("target", SITES)
def test_outside_of_guado_an_application_runs_on(target: str) -> None:
    with browser(None, target) as site:
        assert site.get("/who").json() == {"user": None, "page": None, "template": "nobody"}
        assert site.post("/page").status_code == 400


def test_sessions_without_guado_say_what_to_do() -> None:
    flask, _ = load("adapter_flask:app"), load("adapter_django:application")
    from flask import session
    from guado.adapters.django.sessions import SessionStore

    with flask.test_request_context("/"):
        assert session.get("n") is None
        with pytest.raises(RuntimeError, match="sessions of Guado need Guado"):
            session["n"] = 1
    assert SessionStore("x").get("n") is None
    with pytest.raises(guado.NoRequest, match="GUADO_INSTANCE"):
        SessionStore().save()


def test_a_cache_without_guado_says_what_to_do() -> None:
    load("adapter_django:application")
    from django.core.cache import cache
    from django.core.exceptions import ImproperlyConfigured

    for use in (lambda: cache.get("x"), lambda: cache.set("x", 1), lambda: cache.incr("x")):
        with pytest.raises(ImproperlyConfigured, match="GUADO_INSTANCE"):
            use()


def test_sockets_of_fastapi_have_their_user_page_and_session(w: testing.Worker) -> None:
    with browser(w, "adapter_fastapi:app") as site:
        site.post("/login", data={"user": "ada"})
        site.post("/count")
        page = w.page_of(site.get("/open").text)
        with site.websocket_connect(f"/socket?page_id={page.id}") as socket:
            assert socket.receive_json() == {"user": "ada", "page": page.id, "visits": 1}


def test_clients_of_the_frameworks_are_the_browser_of_the_block() -> None:
    flask, fastapi = load("adapter_flask:app"), load("adapter_fastapi:app")
    from starlette.testclient import TestClient

    with testing.worker(user="ada", page=True) as w:
        assert w.page is not None
        known = {"user": "ada", "page": w.page.id, "template": "ada"}
        assert flask.test_client().get("/who").json == known
        assert TestClient(fastapi).get("/who").json() == known
        for post in (flask.test_client().post, TestClient(fastapi).post):
            assert post("/page").status_code == 200
        assert w.page.pushed == ["for the page"] * 2


def test_the_client_of_django_logs_in_to_both(w: testing.Worker) -> None:
    load("adapter_django:application")
    from django.contrib.auth import get_user_model
    from django.test import Client

    ada, _ = get_user_model().objects.get_or_create(username="ada")
    client = Client()
    assert client.get("/who").json() == {"user": None, "page": None, "template": "nobody"}
    client.force_login(ada)
    assert w.connection.user == "ada"
    page = w.open()
    assert client.get("/who").json() == {"user": "ada", "page": None, "template": "ada"}
    assert client.post("/private").json() == {"told": 1}
    with page.request():
        assert client.post("/page").json() == {"told": 1, "times": 1}
    assert page.pushed == ["for you", "for the page"]
    client.logout()
    assert (w.connection.user, page.ended) == (None, "identity")


def test_flask_sends_guests_to_the_login_with_the_way_back(w: testing.Worker) -> None:
    app = load("adapter_flask:app")
    app.config["GUADO_LOGIN_VIEW"] = "login_form"
    try:
        with browser(w, "adapter_flask:app") as site:
            answer = site.post("/private?a=1")
            assert answer.headers["location"] == "/?next=/private?a%3D1"
    finally:
        app.config["GUADO_LOGIN_VIEW"] = None


DJANGO = ["adapter_django:application", "adapter_django:asgi"]


@pytest.mark.parametrize("target", DJANGO)
def test_a_cookie_of_a_django_session_opens_nothing_alone(w: testing.Worker, target: str) -> None:
    with browser(w, target) as site, browser(w, target) as thief:
        site.post("/login", data={"user": "ada"})
        before = site.cookies["sessionid"]
        thief.cookies.set("sessionid", before)
        assert thief.get("/who").json()["template"] == "nobody"
        site.post("/login", data={"user": "eve"})
        assert site.cookies["sessionid"] != before
        assert site.get("/who").json() == {"user": "eve", "page": None, "template": "eve"}


@pytest.mark.parametrize("target", DJANGO)
def test_who_django_knows_is_known_though_the_connection_was_lost(
    w: testing.Worker, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(target)
    from django.conf import settings

    monkeypatch.setattr(settings, "SESSION_ENGINE", "django.contrib.sessions.backends.db")
    with browser(w, target) as site:
        site.post("/login", data={"user": "ada"})
        del site.cookies["guado"]
        for path in ("/who", "/later") if target == "adapter_django:asgi" else ("/who",):
            assert site.get(path).json() == {"user": "ada", "page": None, "template": "ada"}
            del site.cookies["guado"]
        site.get("/who")
        cookie = site.cookies["guado"]
        site.post("/leave")
        assert site.get("/who").json()["template"] == "nobody"  # and Guado hears of it
        assert site.cookies["guado"] != cookie
        assert site.get("/who").json()["user"] is None


def test_the_cache_of_django_is_the_global_store(w: testing.Worker) -> None:
    load("adapter_django:application")
    from django.core.cache import caches

    cache, other = caches["default"], caches["other"]
    value = {"a": (1, {2}), "b": Path("x")}
    cache.set("k", value)
    assert cache.get("k") == value
    assert cache.get("k", version=2) is None
    assert other.get("k", "no") == "no"
    assert cache.add("n", 5)
    assert not cache.add("n", 6)
    assert [cache.incr("n"), cache.decr("n", 3)] == [6, 3]
    assert guado.global_store()["django", ":1:n"] == 3
    with pytest.raises(ValueError, match="none"):
        cache.incr("none")
    cache.set("f", 1.5)
    assert cache.incr("f") == 2.5
    assert cache.touch("n", 60)
    assert not cache.touch("none")
    assert cache.get_or_set("made", lambda: "x") == "x"
    cache.set_many({"x": None, "y": 2})
    assert cache.get_many(["x", "y", "z"]) == {"x": None, "y": 2}
    assert cache.has_key("x")
    cache.delete_many(["x", "y"])
    assert not cache.has_key("x")
    assert cache.delete("k")
    assert not cache.delete("k")
    cache.set("gone", 1, timeout=0)
    assert not cache.has_key("gone")
    cache.set("short", 1, timeout=0.001)
    deadline = time.monotonic() + 30
    while cache.has_key("short") and time.monotonic() < deadline:
        pass
    assert not cache.has_key("short")
    other.set("k", 1)
    cache.clear()
    assert not cache.has_key("n")
    assert other.get("k") == 1
    assert asyncio.run(cache.aget("n", "none")) == "none"


def test_a_full_cache_forgets(w: testing.Worker) -> None:
    load("adapter_django:application")
    from django.core.cache import caches

    cache = caches["default"]
    for n in range(9):
        cache.set(f"k{n}", n)
    verbs = w._host.verbs
    really, writes = verbs["global.set"], 0

    def full_once(data: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 1:
            raise testing._memory.Refused(507, "global_full", "full")
        return really(data)

    verbs["global.set"] = full_once
    cache.set("k9", 9)
    assert cache.get("k9") == 9
    kept = [n for n in range(9) if cache.has_key(f"k{n}")]
    assert kept == [4, 5, 6, 7, 8]


def test_the_test_that_the_documentation_shows_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "adapters.md").read_text()
    shop = types.ModuleType("shop")
    exec(re.findall(r"cat > shop.py <<'END'\n(.*?)\nEND", text, re.S)[0], shop.__dict__)
    monkeypatch.setitem(sys.modules, "shop", shop)
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n# test_shop.py\n(.*?)```", text, re.S)[0], names)
    names["test_the_cart_is_pushed_to_the_page"]()


@pytest.mark.parametrize("target", DJANGO)
def test_what_a_transaction_has_saved_is_told_when_it_has_committed(
    w: testing.Worker, target: str
) -> None:
    with browser(w, target) as site:
        from django.contrib.auth.models import Group

        Group.objects.all().delete()
        page = w.page_of(site.get("/open").text).connect()
        mine = {"Guado-Page": page.id}
        site.post("/watch", headers=mine)
        made = site.post("/group", data={"name": "a"}, headers=mine).json()["made"]
        assert changes(page) == [
            {"action": "insert", "key": made, "row": {"name": "a"}, "page": page.id},
            {"action": "insert", "key": made + 1, "row": {"name": "a-inner"}, "page": page.id},
        ]
        assert site.post("/group", data={"name": "b", "fail": "all"}).json() == {"made": None}
        assert changes(page) == []
        made = site.post("/group", data={"name": "c", "fail": "inner"}).json()["made"]
        assert changes(page) == [{"action": "insert", "key": made, "row": {"name": "c"}}]
        group = Group.objects.get(pk=made)
        group.name = "d"
        group.save()
        group.delete()
        told = changes(page)
        assert [(one["action"], one["key"]) for one in told] == [("update", made), ("delete", made)]
        assert [one.get("row") for one in told] == [{"name": "d"}, None]
    Group.objects.create(name="no request").delete()
    assert len(changes(page)) == 2


def changes(page: testing.OpenPage) -> list[dict[str, Any]]:
    return [one for event in page.take() for one in event["data"]["changes"]]


def test_without_a_server_changes_are_nobodys() -> None:
    load("adapter_django:application")
    from django.contrib.auth.models import Group

    Group.objects.create(name="no server").delete()
