"""The middleware: what a view finds on its request.

Before: MIDDLEWARE of the settings, behind AuthenticationMiddleware. After: the view, with
``request.guado_page``, ``request.guado_connection`` (None on another server). Not here:
logins by Django's own functions, which signals tell (apps).

Django and Guado each know who the user is, and each can forget it: sessions in a database
outlive the host's connections, and a session may end before its connection. Who is logged
in is what Django says; `GUADO_FOLLOW_USER = False` leaves that to others (`identity.user`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.utils.functional import LazyObject, empty

import guado
from guado.adapters import _here


class GuadoMiddleware:
    """For WSGI and ASGI, views plain or ``async``."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self.follows = getattr(settings, "GUADO_FOLLOW_USER", True)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        request.guado_page = _here.page()
        request.guado_connection = _here.connection()
        follows = self.follows and request.guado_connection is not None
        if iscoroutinefunction(self):
            return self.later(request, follows)
        if follows and _forgotten(request):
            _follow(request, request.user)
        response = self.get_response(request)
        if follows and not hasattr(request, "_guado_said"):
            _follow(request, _looked_at(request))
        return response

    async def later(self, request: Any, follows: bool) -> Any:
        if follows and _forgotten(request):
            await _follow_later(request, await request.auser())
        response = await self.get_response(request)
        if follows and not hasattr(request, "_guado_said"):
            await _follow_later(request, _looked_at(request))
        return response


def _forgotten(request: Any) -> bool:
    """The browser has a session, and may have a user that only Django knows. Others are
    not looked up: that would cost every request of a guest."""
    has_session: bool = settings.SESSION_COOKIE_NAME in request.COOKIES
    return has_session and hasattr(request, "user") and not request.guado_connection.user


def _looked_at(request: Any) -> Any:
    """The user of the request; None: nobody has asked for it."""
    user = request.__dict__.get("user")
    if isinstance(user, LazyObject) and user._wrapped is empty:
        user = None
    return user or request.__dict__.get("_acached_user")


def _differs(request: Any, user: Any) -> bool:
    if user is None:
        return False
    name = user.get_username() if user.is_authenticated else None
    return bool(name != request.guado_connection.user)


def _follow(request: Any, user: Any) -> None:
    if not _differs(request, user):
        return
    try:
        if user.is_authenticated:
            request.guado_connection.login(user.get_username())
        else:
            request.guado_connection.logout()
    except guado.LoginUnderWay:
        pass  # this was sent before it: the next one knows


async def _follow_later(request: Any, user: Any) -> None:
    if _differs(request, user):
        await sync_to_async(_follow)(request, user)
