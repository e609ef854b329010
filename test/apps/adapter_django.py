"""A Django site in one file with the application, the middleware and the sessions.

ADAPTER_DATA: the folder of its database.
"""

from __future__ import annotations

import os
from typing import Any

import django
import guado
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for tests",
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "guado.adapters.django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "guado.adapters.django.middleware.GuadoMiddleware",
    ],
    SESSION_ENGINE=os.environ.get("ADAPTER_SESSIONS", "guado.adapters.django.sessions"),
    CACHES={
        "default": {"BACKEND": "guado.adapters.django.cache.GuadoCache"},
        "other": {"BACKEND": "guado.adapters.django.cache.GuadoCache", "LOCATION": "other"},
    },
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(os.environ.get("ADAPTER_DATA", "."), "db.sqlite"),
        }
    },
    GUADO_DBEVENTS={"auth.group": ["name"]},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.contrib import auth  # noqa: E402
from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.models import Group  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402


def log_in(request: Any) -> HttpResponse:
    user, _ = auth.get_user_model().objects.get_or_create(username=request.POST["user"])
    auth.login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse(status=204)


def log_out(request: Any) -> HttpResponse:
    auth.logout(request)
    return HttpResponse(status=204)


def leave(request: Any) -> HttpResponse:
    """Django forgets the user and tells nobody."""
    request.session.flush()
    request.session["user"] = "gone"
    return HttpResponse(status=204)


def who(request: Any) -> JsonResponse:
    return JsonResponse(
        {
            "user": request.guado_connection and request.guado_connection.user,
            "page": request.guado_page and request.guado_page.id,
            "template": request.user.get_username() or "nobody",
        }
    )


async def who_later(request: Any) -> JsonResponse:
    user = await request.auser()
    page = request.guado_page
    name = request.guado_connection.user
    return JsonResponse({"user": name, "page": page and page.id, "template": user.username})


def open_page(request: Any) -> HttpResponse:
    return HttpResponse(guado.new_page())


@login_required
def private(request: Any) -> JsonResponse:
    told = guado.user(request.user.get_username()).push("for you").result(30)
    return JsonResponse({"told": told.pages})


async def page(request: Any) -> JsonResponse:
    if request.guado_page is None:
        return JsonResponse({"error": "no page"}, status=400)
    kept = request.guado_page.store
    kept["times"] = kept.get("times", 0) + 1
    told = await request.guado_page.push("for the page")
    return JsonResponse({"told": told.pages, "times": kept["times"]})


def count(request: Any) -> JsonResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


async def count_later(request: Any) -> JsonResponse:
    visits = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", visits)
    return JsonResponse({"visits": visits})


def forget(request: Any) -> JsonResponse:
    request.session.flush()
    return JsonResponse({"visits": 0})


def hits(request: Any) -> JsonResponse:
    cache.add("hits", 0)
    return JsonResponse({"hits": cache.incr("hits")})


def group(request: Any) -> JsonResponse:
    """Makes a group, and where `fail` is said takes it back, to a savepoint or all."""
    name, fail = request.POST["name"], request.POST.get("fail")
    try:
        with transaction.atomic():
            made = Group.objects.create(name=name)
            try:
                with transaction.atomic():
                    Group.objects.create(name=f"{name}-inner")
                    if fail == "inner":
                        raise LookupError
            except LookupError:
                pass
            if fail == "all":
                raise LookupError
    except LookupError:
        return JsonResponse({"made": None})
    return JsonResponse({"made": made.pk})


HEARD: list[Any] = []


@guado.on("dbevent.auth.group")
def hear(topic: str, data: Any) -> None:
    HEARD.extend([one["action"], one["row"]["name"]] for one in data["changes"] if "row" in one)


def heard(request: Any) -> JsonResponse:
    return JsonResponse({"heard": HEARD})


def watch(request: Any) -> JsonResponse:
    request.guado_page.subscribe_table("auth.group").result(30)
    return JsonResponse({})


urlpatterns = [
    path("login", log_in),
    path("logout", log_out),
    path("leave", leave),
    path("who", who),
    path("later", who_later),
    path("open", open_page),
    path("private", private),
    path("page", page),
    path("count", count),
    path("count-later", count_later),
    path("forget", forget),
    path("hits", hits),
    path("group", group),
    path("watch", watch),
    path("heard", heard),
]

call_command("migrate", verbosity=0)
application = get_wsgi_application()
asgi = get_asgi_application()
