"""Starlette and FastAPI: dependencies, sessions, and who the user is.

    from guado.adapters.starlette import need_page, need_user

    @app.post("/pay")
    async def pay(
        page: Annotated[guado.PageHandle, Depends(need_page)],
        user: Annotated[str, Depends(need_user)],
    ):
        await page.push({"paid": user})

Before: the application. After: guado.page, guado.connection, their stores. Not here:
passwords and tokens, which are the application's.

Everything here is plain functions and ASGI, so it fits Starlette alone as well:
``page = await guado_page()`` in an endpoint.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
)
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guado.adapters import _here
from guado.push import Connection, PageHandle

__all__ = [
    "GuadoAuthentication",
    "GuadoSessionMiddleware",
    "guado_connection",
    "guado_page",
    "guado_user",
    "need_page",
    "need_user",
]

SESSION = ("starlette", "session")


async def guado_page() -> PageHandle | None:
    """``Depends(guado_page)``: the page of the request; None: it has none."""
    return _here.page()


async def need_page() -> PageHandle:
    """``Depends(need_page)``: the page of the request, or 400."""
    page = _here.page()
    if page is None:
        raise HTTPException(400, "this needs an open page: send its id as Guado-Page")
    return page


async def guado_connection() -> Connection | None:
    """``Depends(guado_connection)``: the browser of the request; None on another server."""
    return _here.connection()


async def guado_user() -> str | None:
    """``Depends(guado_user)``: who has logged in; None: nobody."""
    return _here.user()


async def need_user() -> str:
    """``Depends(need_user)``: who has logged in, or 401."""
    user = _here.user()
    if user is None:
        raise HTTPException(401, "nobody has logged in")
    return user


class GuadoAuthentication(AuthenticationBackend):
    """For Starlette's AuthenticationMiddleware: ``request.user`` is who has logged in."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        user = _here.user()
        if user is None:
            return None
        return AuthCredentials(["authenticated"]), SimpleUser(user)


class GuadoSessionMiddleware:
    """``request.session`` in the store of the connection, instead of a cookie: it can be
    large, and no client has it to read or to copy. What Starlette's own middleware keeps
    (JSON) is kept here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        store = _here.kept()
        before = store.get(SESSION, "{}") if store is not None else "{}"
        scope["session"] = json.loads(before)

        async def sending(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                self.save(scope["session"], before)
            await send(message)

        await self.app(scope, receive, sending)

    @staticmethod
    def save(session: dict[str, Any], before: str) -> None:
        """Before the head leaves, so that the answer can set a cookie."""
        after = json.dumps(session)
        if after == before:
            return
        if _here.connection() is None:
            raise RuntimeError("sessions of Guado need Guado: this request has no connection")
        store = _here.kept(make=bool(session))
        if store is None:
            return
        if session:
            store[SESSION] = after
        else:
            store.pop(SESSION, None)
