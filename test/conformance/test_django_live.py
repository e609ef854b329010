"""Django's own form and admin test patterns against a live bin/guado.

The class below has the shape of Django's LiveServerTestCase, with Guado in the place
of its development server: a file database, real sockets, django.test.Client's
patterns by way of a cookie jar and forms.
"""

from __future__ import annotations

import http.cookiejar
import os
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "examples" / "tour" / "shop"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are answers to look at."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


class GuadoLiveServerTestCase(unittest.TestCase):
    """Starts bin/guado for the site once per class."""

    target = "site_wsgi:application"
    url: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.data = tempfile.TemporaryDirectory()
        cls.env = {
            **os.environ,
            "TOUR_DATA": cls.data.name,
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "DJANGO_SUPERUSER_PASSWORD": "secret",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        cls.manage("migrate", "-v", "0")
        cls.manage("createsuperuser", "--noinput", "--username=super", "--email=s@example.com")
        command = [str(ROOT / "bin/guado"), "serve", "--listen", "127.0.0.1:0"]
        command += ["--python", sys.executable, cls.target]
        cls.server = subprocess.Popen(
            command,
            cwd=SITE,
            env=cls.env,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert cls.server.stderr is not None
        for line in cls.server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                cls.url = found.group()
                break
        else:
            raise AssertionError("bin/guado ended before it listened")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.terminate()
        cls.server.communicate(timeout=30)
        cls.data.cleanup()

    @classmethod
    def manage(cls, *args: str) -> None:
        subprocess.run([sys.executable, "manage.py", *args], cwd=SITE, env=cls.env, check=True)

    def setUp(self) -> None:
        self.jar = http.cookiejar.CookieJar()
        cookies = urllib.request.HTTPCookieProcessor(self.jar)
        self.opener = urllib.request.build_opener(cookies, NoRedirect)

    def ask(self, path: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Status, Location and text."""
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        try:
            with self.opener.open(self.url + path, data, timeout=30) as answer:
                return answer.status, "", answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.headers.get("Location", ""), refused.read().decode()

    def submit(self, path: str, **form: str) -> tuple[int, str, str]:
        """Opens the page's form and sends it filled in."""
        text = self.ask(path)[2]
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', text)
        assert token, f"no form at {path}"
        return self.ask(path, {"csrfmiddlewaretoken": token.group(1), **form})

    def login(self) -> None:
        status, location, _ = self.submit(
            "/admin/login/?next=/admin/", username="super", password="secret"
        )
        self.assertEqual((status, location), (302, "/admin/"))


class AdminPatterns(GuadoLiveServerTestCase):
    """What Django's tests of the admin do, over a socket."""

    def test_anonymous_users_are_sent_to_the_login_page(self) -> None:
        self.assertEqual(self.ask("/admin/")[:2], (302, "/admin/login/?next=/admin/"))

    def test_login_rotates_the_csrf_token_and_sets_a_session(self) -> None:
        self.ask("/admin/login/")
        before = {c.name: c.value for c in self.jar}
        self.login()
        after = {c.name: c.value for c in self.jar}
        self.assertIn("sessionid", after)
        self.assertNotEqual(before["csrftoken"], after["csrftoken"])

    def test_a_post_without_token_is_forbidden(self) -> None:
        self.assertEqual(self.ask("/admin/login/", {"username": "super"})[0], 403)

    def test_add_change_history_and_delete(self) -> None:
        self.login()
        add = "/admin/guestbook/entry/add/"
        status, location, _ = self.submit(add, name="Grace", text="first", _continue="1")
        self.assertEqual(status, 302)
        change = urllib.parse.urlparse(location).path
        self.assertIn("first", self.ask(change)[2])
        self.assertEqual(self.submit(change, name="Grace", text="second")[0], 302)
        self.assertIn("second", self.ask("/admin/guestbook/entry/?q=Grace")[2])
        self.assertIn("Changed", self.ask(change.replace("change", "history"))[2])
        self.assertEqual(self.submit(change.replace("change", "delete"), post="yes")[0], 302)
        self.assertIn("was deleted successfully", self.ask("/admin/guestbook/entry/")[2])  # once
        self.assertNotIn("Grace", self.ask("/admin/guestbook/entry/")[2])

    def test_an_invalid_form_names_its_fields(self) -> None:
        self.login()
        status, _, text = self.submit("/admin/guestbook/entry/add/", name="", text="")
        self.assertEqual((status, text.count("This field is required.")), (200, 2))

    def test_bulk_action_with_repeated_fields(self) -> None:
        self.login()
        for name in ("one", "two"):
            self.submit("/admin/guestbook/entry/add/", name=name, text="bulk")
        listing = self.ask("/admin/guestbook/entry/?q=bulk")[2]
        chosen = re.findall(r'name="_selected_action" value="(\d+)"', listing)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', listing)
        assert token and len(chosen) == 2
        form = [
            ("csrfmiddlewaretoken", token.group(1)),
            ("action", "delete_selected"),
            ("post", "yes"),
        ]
        form += [("_selected_action", pk) for pk in chosen]
        with self.opener.open(
            urllib.request.Request(self.url + "/admin/guestbook/entry/?q=none"), timeout=30
        ):
            pass
        try:
            self.opener.open(
                self.url + "/admin/guestbook/entry/",
                urllib.parse.urlencode(form).encode(),
                timeout=30,
            )
        except urllib.error.HTTPError as moved:
            self.assertEqual(moved.code, 302)
            moved.close()
        self.assertNotIn("bulk", self.ask("/admin/guestbook/entry/")[2].replace('value="bulk"', ""))

    def test_logout_ends_the_session(self) -> None:
        self.login()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.ask("/admin/")[2])
        assert token
        status, _, text = self.ask("/admin/logout/", {"csrfmiddlewaretoken": token.group(1)})
        self.assertEqual(status, 200)
        self.assertIn("Logged out", text)
        self.assertEqual(self.ask("/admin/")[0], 302)


class AdminPatternsOverASGI(AdminPatterns):
    """The same through Django's ASGI callable."""

    target = "site_asgi:application"


class FormPatterns(GuadoLiveServerTestCase):
    """What Django's tests of forms do, over a socket."""

    def test_values_of_every_kind_survive(self) -> None:
        text = "citt\u00e0 & <b> \u4f60\u597d \U0001f600 = % + \r\nsecond line"
        self.assertEqual(self.submit("/", name="Ada", text=text)[0], 302)
        page = self.ask("/")[2]
        for piece in ("citt\u00e0", "&lt;b&gt;", "\u4f60\u597d", "\U0001f600", "second line"):
            self.assertIn(piece, page)

    def test_a_long_value_is_refused_by_the_form(self) -> None:
        self.assertEqual(self.submit("/", name="x" * 81, text="t")[0], 400)

    def test_the_csrf_cookie_is_required(self) -> None:
        self.assertEqual(self.ask("/", {"name": "x", "text": "y"})[0], 403)
