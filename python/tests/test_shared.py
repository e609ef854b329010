"""What pages share with their clients: what may be said, and in memory what comes of it."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import guado
from guado import testing


class Form(guado.Page):
    """Its client writes some of it."""

    def on_open(self, *, reopened: bool = False) -> None:
        self.store.setdefault("form", {"name": "", "size": 1})
        self.share("form", write=True)
        self.share("seen", store=guado.user().store)

    def on_write(self, changes: list[guado.ClientWrite]) -> None:
        if any(one.value == "refused" for one in changes):
            raise guado.PageError("not_that", "as the test wants it")

    def on_message(self, data: Any) -> Any:
        for path, value in data.items():
            kept = Decimal(value) if path == "form.size" else value
            self.store.set(path, kept, "why" if path == "form.size" else None)
        return None


def test_a_client_has_what_is_shared_and_hears_of_changes() -> None:
    with testing.worker(user="ada") as w:
        page, other = w.open(Form), w.open(Form)
        assert page.get("form") == {"name": "", "size": 1}
        page.message({"form.size": "2.5", "other": 1, "form.a.b": 1, "form.a.c": 2})
        assert page.told == [
            testing.Told(("form", "size"), Decimal("2.5"), False, "why"),
            testing.Told(("form", "a"), {"b": 1, "c": 2}, False),
        ]
        w.kill()
        with w.request(page=page):
            guado.user().store["seen"] = {"n": 1}
            del guado.page().store["form"]["a"]
        assert page.told[2:] == [
            testing.Told(("seen",), {"n": 1}, False, store="user"),
            testing.Told(("form", "a"), None, True),
        ] or page.told[2:] == [
            testing.Told(("form", "a"), None, True),
            testing.Told(("seen",), {"n": 1}, False, store="user"),
        ]
        assert other.get("seen", store="user") == {"n": 1}
        with w.request(page=page):
            guado.page().unshare("form")
        with pytest.raises(KeyError):
            page.get("form")


def test_a_client_writes_all_of_it_or_nothing() -> None:
    with testing.worker() as w:
        page = w.open(Form)
        page.set("form.name", "ada")
        page.write([{"path": "form.size", "value": 3}, {"path": ["form", "x"], "delete": True}])
        assert page.get("form") == {"name": "ada", "size": 3}
        assert page.told == []
        for path, value, code in (
            ("other", 1, "not_shared"),
            ("form.name", "refused", "not_that"),
            ("form.size.a", 1, "bad_change"),
            ("form.b", "x" * 2**20, "store_full"),
        ):
            with pytest.raises(guado.PageError) as failed:
                page.write([{"path": "form.size", "value": 4}, {"path": path, "value": value}])
            assert failed.value.code == code
            assert page.get("form") == {"name": "ada", "size": 3}
        with pytest.raises(guado.PageError) as failed:
            page.set("seen", 4, store="user")
        assert failed.value.code == "not_shared"


class Sized(guado.Page):
    """Its client may write the form, and never a size that there is not."""

    def on_open(self, *, reopened: bool = False) -> None:
        self.store.setdefault("form", {"size": 42, "name": ""})
        self.share("form", write=True)
        self.share("sizes", write=True, store=guado.user().store)

    def on_write(self, changes: guado.ClientWrites) -> None:
        size = changes.after("form.size")
        if type(size) is not int or not 0 < size < 60:
            raise guado.PageError("no_size")
        if changes.after("sizes.most", 60, store=guado.user().store) != 60:
            raise guado.PageError("no_most")
        if changes.after("form.name.first", "").startswith("x"):
            raise guado.PageError("no_name")


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("no_size", [{"path": "form", "value": {"size": 1000}}]),
        ("no_size", [{"path": "form", "value": "all of it"}]),
        ("no_size", [{"path": "form", "delete": True}]),
        ("no_size", [{"path": "form.size", "delete": True}]),
        ("no_size", [{"path": "form.size", "value": "abc"}]),
        ("no_size", [{"path": "form.name", "value": "ada"}, {"path": "form", "value": {}}]),
        (
            "no_size",
            [{"path": "form.size", "delete": True}, {"path": "form.size.a", "value": 1}],
        ),
        ("bad_change", [{"path": "form.size.a", "value": 1}]),
        ("no_most", [{"path": "sizes", "value": {"most": 99}, "store": "user"}]),
        (
            "no_name",
            [{"path": "form.name", "delete": True}, {"path": "form.name.first", "value": "x"}],
        ),
    ],
)
def test_what_would_be_there_is_refused_in_whichever_way_it_comes(code: str, changes: Any) -> None:
    with testing.worker(user="ada") as w:
        page = w.open(Sized)
        with pytest.raises(guado.PageError) as failed:
            page.write(changes)
        assert failed.value.code == code
        page.write([{"path": "form", "value": {"size": 3}}, {"path": "form.size", "value": 4}])
        page.write([{"path": "form.name.first", "value": "ada"}])
        page.write([{"path": "form.name.last", "delete": True}])
        assert page.get("form") == {"size": 4, "name": {"first": "ada"}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "form.name"}, 'either a "value" or "delete": true'),
        ({"path": "form.name", "value": 1, "delete": True}, "either"),
        ({"path": "form.name", "value": 1, "store": "pigeon"}, '"connection" or "user"'),
    ],
)
def test_a_change_that_cannot_be_read_is_told_what_it_lacks(change: Any, says: str) -> None:
    with testing.worker(user="ada") as w:
        page = w.open(Sized)
        with pytest.raises(guado.PageError, match=says) as failed:
            page.write([change])
        assert failed.value.code == "bad_change"


def test_a_client_that_asks_gets_changes_until_it_acknowledges_them() -> None:
    with testing.worker(page=True) as w:
        page = w.page
        assert page is not None
        guado.page().store["cart"] = {"n": 1}
        guado.page().share("cart", over="requests", write=True)
        guado.page().flush()
        (told,), number = page.changes(0)
        assert told == testing.Told(("cart",), {"n": 1}, False)
        guado.page().store["cart.n"] = 2
        guado.page().flush()
        assert page.changes(number)[0] == [testing.Told(("cart", "n"), 2, False)]
        again, number = page.changes(number)
        assert again == [testing.Told(("cart", "n"), 2, False)]
        assert page.changes(number)[0] == []
        page.set("cart.n", 3)
        # It cannot know what has become of a request whose answer never came.
        assert page.changes()[0] == [testing.Told(("cart", "n"), 3, False)]
        assert guado.page().store["cart.n"] == 3
        with pytest.raises(ValueError, match="was ever handed out"):
            page.changes(number + 9)


def test_of_paths_below_each_other_changes_come_once() -> None:
    with testing.worker(page=True) as w:
        page = w.page
        assert page is not None
        store = guado.page().store
        store["a"] = guado.user().store["a"] = {"b": {"n": 1}}
        for over, user in (("session", None), ("requests", guado.user().store)):
            guado.page().share("a", store=user, over=over)
            guado.page().share("a.b", store=user, over=over)
        guado.page().flush()
        page.changes()
        store["a.b.n"] = guado.user().store["a.b.n"] = 2
        guado.page().flush()
        assert page.told == [testing.Told(("a", "b", "n"), 2, False)]
        assert page.get("a") == {"b": page.get("a.b")} == {"b": {"n": 2}}
        assert page.changes()[0] == [testing.Told(("a", "b", "n"), 2, False, store="user")]
        guado.page().unshare("a", store=guado.user().store)
        guado.page().flush()
        assert page.changes()[0] == [testing.Told(("a", "b"), {"n": 2}, False, store="user")]


def test_what_cannot_be_shared_is_said_at_once() -> None:
    with testing.worker(page=True) as w:
        other = w.client("eve")
        with w.request(other):
            stranger = guado.user().store
        with pytest.raises(ValueError, match="not that of user"):
            guado.page().share("a", store=stranger)
        with pytest.raises(ValueError, match="session"):
            guado.page().share("a", over="pigeon")
        with pytest.raises(ValueError, match="empty key"):
            guado.page().share("a..b")
        with pytest.raises(ValueError, match="bytes of"):
            guado.page().store.set("a", 1, reason="x" * 5000)
        before = guado.page().store.bytes
        guado.page().share("a")
        cost = guado.page().store.bytes
        guado.page().share("a")
        assert guado.page().store.bytes == cost > before
        guado.page().unshare("a")
        guado.page().unshare("a")
        assert guado.page().store.bytes == before
        assert len(guado.page().changes) == 0
