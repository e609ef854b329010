"""Which callables are taken for WSGI and which for ASGI."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from guado.worker.errors import BootFailed
from guado.worker.handshake import App
from guado.worker.kinds import kind_of


def app(**what: Any) -> App:
    return App(index=0, name="shop", target="shop:app", **what)


def wsgi_function(environ: Any, start_response: Any) -> Any: ...


async def asgi_function(scope: Any, receive: Any, send: Any) -> None: ...


def asgi_plain(scope: Any, receive: Any, send: Any) -> Any:
    return asgi_function(scope, receive, send)


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...

    def method(self, environ: Any, start_response: Any) -> Any: ...

    async def coroutine(self, scope: Any, receive: Any, send: Any) -> None: ...


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiClass:
    """The form that PEP 3333 shows."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Any: ...


class AsgiClass:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Any: ...


class Asgi2Class:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


def asgi2_function(scope: Any) -> Any: ...


def anything(*arguments: Any) -> Any: ...


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **names: Any) -> Any:
        return function(*arguments, **names)

    return wrapper


def marked(*arguments: Any) -> Any: ...


if sys.version_info >= (3, 12):
    inspect.markcoroutinefunction(marked)
else:
    import asyncio.coroutines

    marked._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (wsgi_function, "wsgi"),
        (WsgiObject(), "wsgi"),
        (WsgiObject().method, "wsgi"),
        (WsgiClass, "wsgi"),
        (functools.partial(wsgi_function), "wsgi"),
        (functools.partial(lambda setting, environ, start: None, 1), "wsgi"),
        (decorated(wsgi_function), "wsgi"),
        (lambda environ, start_response, exc_info=None: None, "wsgi"),
        (asgi_function, "asgi"),
        (asgi_plain, "asgi"),
        (AsgiObject(), "asgi"),
        (AsgiClass, "asgi"),
        (WsgiObject().coroutine, "asgi"),
        (functools.partial(asgi_function), "asgi"),
        (functools.partial(AsgiObject()), "asgi"),
        (decorated(asgi_function), "asgi"),
        (marked, "asgi"),
    ],
)
def test_the_kind_shows_in_the_callable(target: Any, kind: str) -> None:
    assert kind_of(app(), target) == kind


def test_django_s_handlers_are_told_apart() -> None:
    wsgi = pytest.importorskip("django.core.handlers.wsgi")
    asgi = pytest.importorskip("django.core.handlers.asgi")
    assert kind_of(app(), object.__new__(wsgi.WSGIHandler)) == "wsgi"
    assert kind_of(app(), object.__new__(asgi.ASGIHandler)) == "asgi"


def test_flask_is_wsgi() -> None:
    flask = pytest.importorskip("flask")
    assert kind_of(app(), flask.Flask("shop")) == "wsgi"


@pytest.mark.parametrize("module", ["starlette.applications:Starlette", "fastapi:FastAPI"])
def test_starlette_and_fastapi_are_asgi(module: str) -> None:
    name, _, attribute = module.partition(":")
    assert kind_of(app(), getattr(pytest.importorskip(name), attribute)()) == "asgi"


@pytest.mark.parametrize("target", [asgi2_function, Asgi2Class])
@pytest.mark.parametrize("kind", ["auto", "asgi"])
def test_an_asgi_2_application_is_refused_with_the_way_out(target: Any, kind: str) -> None:
    with pytest.raises(BootFailed) as failure:
        kind_of(app(kind=kind), target)
    assert failure.value.stage == "kind"
    assert "ASGI 2" in failure.value.message
    assert "guarantee_single_callable" in failure.value.hint


@functools.wraps(wsgi_function)
def bridged(scope: Any, receive: Any, send: Any) -> Any:
    return asgi_function(scope, receive, send)


@pytest.mark.parametrize(
    ("kind", "target", "other"),
    [
        ("asgi", wsgi_function, "--kind wsgi"),
        ("asgi", functools.partial(wsgi_function), "--kind wsgi"),
        ("wsgi", asgi_function, "--kind asgi"),
        ("wsgi", AsgiObject(), "--kind asgi"),
        ("wsgi", asgi_plain, "--kind asgi"),
    ],
)
def test_a_kind_that_cannot_be_right_is_refused(kind: str, target: Any, other: str) -> None:
    with pytest.raises(BootFailed) as failure:
        kind_of(app(kind=kind), target)
    assert "cannot be called as" in failure.value.message
    assert other in failure.value.hint


@pytest.mark.parametrize("target", [anything, bridged, asgi_plain])
def test_a_kind_that_may_be_right_is_believed(target: Any) -> None:
    assert kind_of(app(kind="asgi"), target) == "asgi"


@pytest.mark.parametrize("target", [None, 5, "text", sys])
def test_what_cannot_be_called_is_refused_by_name(target: Any) -> None:
    with pytest.raises(BootFailed) as failure:
        kind_of(app(), target)
    assert "cannot be called" in failure.value.message
    assert "shop:app" in failure.value.message


def test_a_function_without_arguments_looks_like_a_factory() -> None:
    with pytest.raises(BootFailed) as failure:
        kind_of(app(), lambda: None)
    assert "--factory" in failure.value.hint


def test_a_class_that_must_be_instantiated_is_refused_with_its_name() -> None:
    with pytest.raises(BootFailed) as failure:
        kind_of(app(), AsgiObject)
    assert "AsgiObject()" in failure.value.hint


def test_a_plain_function_of_any_arguments_is_wsgi() -> None:
    """As wsgiref.validate's and older decorators are; ASGI would show a coroutine."""
    assert kind_of(app(), anything) == "wsgi"


def test_the_user_s_word_overrules_what_shows() -> None:
    assert kind_of(app(kind="asgi"), anything) == "asgi"
    assert kind_of(app(kind="wsgi"), decorated(asgi_function)) == "wsgi"
