"""The application: it connects Django's signals with the host.

Before: INSTALLED_APPS. After: guado.connection (logins), dbevents. Not here: requests
(middleware).
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_logged_out

from guado.adapters import _here
from guado.adapters.django import dbevents


class GuadoConfig(AppConfig):
    """``guado.adapters.django`` of INSTALLED_APPS."""

    name = "guado.adapters.django"
    label = "guado"
    verbose_name = "Guado"

    def ready(self) -> None:
        user_logged_in.connect(log_in, dispatch_uid="guado")
        user_logged_out.connect(log_out, dispatch_uid="guado")
        dbevents.connect()


def log_in(sender: Any, request: Any, user: Any, **_: Any) -> None:
    """Who has logged in to Django is the user of the browser, for pushes and stores."""
    connection = _here.connection()
    if connection is not None:
        connection.login(user.get_username())
        request._guado_said = True


def log_out(sender: Any, request: Any, **_: Any) -> None:
    """The browser is a guest's again, and its pages end."""
    connection = _here.connection()
    if connection is not None:
        connection.logout()
        request._guado_said = True
