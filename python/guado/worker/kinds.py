"""Tells WSGI from ASGI by looking at the callable, without calling it.

Before: loader found it. After: the link learns the kind. Not here: importing.

The rules, first that fits: a coroutine function, or an object whose ``__call__`` is one,
is ASGI. A class is what its instances answer: awaitable is ASGI, iterable is WSGI (PEP
3333 allows both). Else the number of positional parameters decides: two or any is WSGI,
three ASGI; one is ASGI 2, which is refused. The user's ``kind`` overrules all of them,
unless the callable can evidently not be called that way: then every request would fail.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from guado.worker.errors import BootFailed
from guado.worker.handshake import App

WSGI, ASGI = "wsgi", "asgi"


def kind_of(app: App, target: Any) -> str:
    """The application's kind; raises BootFailed where it cannot be told or served."""
    if not callable(target):
        raise not_callable(app, target)
    if app.kind in (WSGI, ASGI):
        if app.kind == ASGI and is_asgi2(target):
            raise asgi2(app, target)
        if contradicts(app.kind, target):
            raise wrong_kind(app, target)
        return app.kind
    if is_asgi2(target):
        raise asgi2(app, target)
    kind = detect(target)
    if kind is None:
        raise unknown(app, target)
    return kind


def detect(target: Callable[..., Any]) -> str | None:
    """The kind, None when the callable does not show it."""
    plain = unwrap(target)
    if inspect.isclass(plain):
        return kind_of_class(plain)
    if is_async(plain) or is_async(call_of(plain)):
        return ASGI
    count = positional(target)
    if count is None:  # a decorator's *args, or written in C: ASGI would have shown a coroutine
        return WSGI
    return {2: WSGI, 3: ASGI}.get(count)


def contradicts(kind: str, target: Callable[..., Any]) -> bool:
    """Whether calling it as `kind` must fail, whatever it does. What a wrapper says of the
    function inside is no evidence: it may turn one interface into the other."""
    plain = unwrap(target)
    if kind == WSGI and not inspect.isclass(plain):
        called = plain if inspect.isroutine(plain) else call_of(plain)
        if inspect.iscoroutinefunction(called):
            return True
    try:
        signature = inspect.signature(target, follow_wrapped=False)
    except (TypeError, ValueError):  # written in C without a signature
        return False
    try:
        signature.bind(*[None] * (2 if kind == WSGI else 3))
    except TypeError:
        return True
    return False


def kind_of_class(cls: type) -> str | None:
    if hasattr(cls, "__await__"):
        return ASGI
    if hasattr(cls, "__iter__"):
        return WSGI
    return None


def unwrap(target: Any) -> Any:
    """What a functools.partial calls in the end; a bound method is left as it is."""
    while isinstance(target, functools.partial):
        target = target.func
    return target


def call_of(target: Any) -> Any:
    """Its ``__call__``, which an object may set for itself (Sentry's middleware does)."""
    return getattr(target, "__call__", None)  # noqa: B004


def is_async(function: Any) -> bool:
    """Also functions that were marked as such (asgiref, Starlette's decorators)."""
    if function is None:
        return False
    function = unwrap(function)
    if inspect.iscoroutinefunction(function):
        return True
    if getattr(function, "_is_coroutine", None) is not None:  # asyncio's mark before 3.12
        return True
    return inspect.iscoroutinefunction(inspect.unwrap(function))


def is_coroutine(value: Any) -> bool:
    return inspect.iscoroutine(value)


def positional(target: Callable[..., Any]) -> int | None:
    """How many positional arguments it must be given; None when it takes any number."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # written in C without a signature
        return None
    count = 0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            return None
        place = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if place and parameter.default is parameter.empty:
            count += 1
    return count


def is_asgi2(target: Any) -> bool:
    """Called with the scope, gives something that is called with receive and send."""
    plain = unwrap(target)
    if inspect.isclass(plain):
        if kind_of_class(plain) is not None or positional(target) != 1:
            return False
        return is_async(call_of(plain))
    if is_async(plain) or is_async(call_of(plain)):
        return False
    return positional(target) == 1


def describe(target: Any) -> str:
    if inspect.isclass(target):
        return f"the class {target.__qualname__}"
    if inspect.isroutine(target):
        return f"the function {target.__qualname__}"
    if inspect.ismodule(target):
        return f"the module {target.__name__}"
    return f"an object of type {type(target).__qualname__}"


def not_callable(app: App, target: Any) -> BootFailed:
    hint = "name the application itself: MODULE:ATTRIBUTE"
    if inspect.ismodule(target):
        hint = f"name the application in it: {target.__name__}:ATTRIBUTE"
    elif target is None:
        hint = "the factory returned nothing" if app.factory else "the attribute is None"
    return BootFailed(
        "kind", app.name, f"{app.target!r} is {describe(target)}, which cannot be called", hint=hint
    )


def asgi2(app: App, target: Any) -> BootFailed:
    return BootFailed(
        "kind",
        app.name,
        f"{app.target!r} ({describe(target)}) takes one argument: it looks like an ASGI 2 "
        "application, a callable that returns another",
        hint="guado speaks ASGI 3: wrap it with asgiref.compatibility.guarantee_single_callable, "
        f"or upgrade the framework; if it is a factory, add {app.spell('factory')}",
    )


def wrong_kind(app: App, target: Any) -> BootFailed:
    calls = {WSGI: "(environ, start_response)", ASGI: "(scope, receive, send)"}
    found = detect(target)
    hint = "leave the kind away: it is found out"
    if found not in (None, app.kind):
        hint = f"it looks like {found.upper()}: write {app.spell('kind', found)}, or nothing"
    return BootFailed(
        "kind",
        app.name,
        f"{app.target!r} is {describe(target)}, which cannot be called as "
        f"{app.kind.upper()} {calls[app.kind]}",
        hint=hint,
    )


def unknown(app: App, target: Any) -> BootFailed:
    count = positional(target)
    hint = f"say which with {app.spell('kind', WSGI)} or {app.spell('kind', ASGI)}"
    if inspect.isclass(target):
        hint = f"name an instance of it (app = {target.__name__}()), or add {app.spell('factory')}"
    elif count == 0:
        hint = f"if it is a factory, add {app.spell('factory')}"
    return BootFailed(
        "kind",
        app.name,
        f"{app.target!r} is {describe(target)} that takes {count} arguments: neither WSGI "
        "(environ, start_response) nor ASGI (scope, receive, send)",
        hint=hint,
    )
