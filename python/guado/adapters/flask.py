"""Flask: the page and the browser of a request on ``g``, logins, sessions.

    from guado.adapters.flask import Guado, login, login_required

    app = Flask(__name__)
    Guado(app, sessions=True)

    @app.post("/pay")
    @login_required
    def pay():
        g.guado_page.push({"paid": True})

Before: the application. After: guado.page, guado.connection, their stores. Not here:
passwords and forms, which are the application's, Flask-Login's, …
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from flask import Flask, Request, Response, abort, current_app, g, redirect, request, url_for
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SecureCookieSession, SessionInterface, SessionMixin

from guado.adapters import _here

__all__ = ["Guado", "Sessions", "login", "login_required", "logout"]

F = TypeVar("F", bound=Callable[..., Any])

SESSION = ("flask", "session")


class Guado:
    """The extension. ``g.guado_page``, ``g.guado_connection`` and ``g.guado_user`` are those
    of the request, each None where there is none; templates have them, too.

    `sessions`: Flask's ``session`` is kept in the store of the connection instead of a
    cookie: it can be large, and no client has it to read or to copy.
    """

    def __init__(self, app: Flask | None = None, *, sessions: bool = False) -> None:
        self.sessions = sessions
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        app.extensions["guado"] = self
        app.config.setdefault("GUADO_LOGIN_VIEW", None)
        app.before_request(_enter)
        app.context_processor(_template)
        if self.sessions:
            app.session_interface = Sessions()


def _enter() -> None:
    g.guado_page = _here.page()
    g.guado_connection = _here.connection()
    g.guado_user = _here.user()


def _template() -> dict[str, Any]:
    names = ("guado_page", "guado_connection", "guado_user")
    return {name: g.get(name) for name in names}


def login(user: str, flag: str | None = None) -> None:
    """From now on this browser is `user`'s, for Guado: pushes to the user reach its pages.
    On another server nothing happens."""
    connection = _here.connection()
    if connection is not None:
        connection.login(user, flag)
        g.guado_user = connection.user


def logout() -> None:
    """From now on this browser is a guest's; its pages end."""
    connection = _here.connection()
    if connection is not None:
        connection.logout()
        g.guado_user = None


def login_required(view: F) -> F:
    """Decorates a view that guests do not get: they are sent to the view that
    ``GUADO_LOGIN_VIEW`` names, with ``?next=…``, or answered 401."""

    @functools.wraps(view)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _here.user() is None:
            name = current_app.config["GUADO_LOGIN_VIEW"]
            if name is None:
                abort(401)
            here = request.full_path if request.query_string else request.path
            return redirect(url_for(name, next=here))
        return current_app.ensure_sync(view)(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


class _NoSession(SecureCookieSession):
    """Of a request that is not Guado's: it can be read, and is empty."""

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("sessions of Guado need Guado: this request has no connection")

    __setitem__ = __delitem__ = clear = pop = popitem = update = setdefault = _fail
    del _fail


class Sessions(SessionInterface):
    """Sessions in the store of the connection. One that was never written makes none; on
    another server there is none, and writing to it is an error that says so."""

    null_session_class = _NoSession  # type: ignore[assignment]
    serializer = TaggedJSONSerializer()  # Flask's own, so that what it keeps is kept here

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if _here.connection() is None:
            return None
        store = _here.kept()
        kept = store.get(SESSION) if store is not None else None
        return SecureCookieSession(self.serializer.loads(kept) if kept is not None else None)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session.accessed:
            response.vary.add("Cookie")
        if not session.modified:
            return
        store = _here.kept(make=bool(session))
        if store is None:
            return
        if session:
            store[SESSION] = self.serializer.dumps(dict(session))
        else:
            store.pop(SESSION, None)
