"""Imports the applications and finds out of which kind they are.

Before: handshake says which (``MODULE:ATTR``). After: boot tells the link their kinds.
Not here: calling an application, save for a factory.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import guado
from guado.worker import kinds
from guado.worker.errors import BootFailed, format_exception, last_line
from guado.worker.handshake import App

ATTRIBUTES = ("application", "app")
FACTORIES = ("create_app", "make_app")


def load(apps: Sequence[App]) -> None:
    """Sets `callable` and `kind` of each; raises BootFailed for the first that fails."""
    for app in apps:
        if app.pages:
            continue  # ours (worker/pages.py)
        guado._importing = app.name
        found = resolve(app)
        if app.factory:
            found = call_factory(app, found)
        guado._importing = ""
        app.kind = kinds.kind_of(app, found)
        app.callable = found


def resolve(app: App) -> Any:
    """The object that the target names."""
    module_name, separator, attribute = app.target.partition(":")
    check_target(app, module_name, separator, attribute)
    module = import_module(app, module_name)
    if attribute:
        return find_attribute(app, module, attribute)
    return default_attribute(app, module)


def check_target(app: App, module: str, separator: str, attribute: str) -> None:
    """Refuses what other servers' users write, with the words for it here."""
    hint = ""
    if module.endswith(".py") or "/" in module or os.sep in module:
        name = module.removesuffix(".py").strip("/.").replace("/", ".")
        hint = f"name the module, not the file: {name}{separator}{attribute}"
    elif attribute.endswith(")"):
        name = attribute.partition("(")[0]
        hint = f"for a factory: {module}:{name} with {app.spell('factory')}"
    elif not module or (separator and not attribute):
        hint = "a target is MODULE:ATTRIBUTE, for example shop.wsgi:application"
    if hint:
        raise BootFailed("import", app.name, f"{app.target!r} is not a target", hint=hint)


def import_module(app: App, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            raise no_module(app, name, missing) from error
        raise failed(app, error, missing_dependency(app, missing)) from error
    except SystemExit as error:
        message = (
            f"the application ended itself with sys.exit({error.code!r}) while it was imported"
        )
        raise failed(app, error, "", message) from error
    except BaseException as error:  # whatever it is, the host must hear of it
        message = place_of(error) if isinstance(error, SyntaxError) else ""
        raise failed(app, error, circular_import(error), message) from error


def failed(app: App, error: BaseException, hint: str, message: str = "") -> BootFailed:
    return BootFailed(
        "import", app.name, message or last_line(error), format_exception(error), hint
    )


def place_of(error: SyntaxError) -> str:
    """Its last line alone does not say where: "SyntaxError: '(' was never closed"."""
    if not error.filename or error.lineno is None:
        return last_line(error)
    return f"{last_line(error)} ({error.filename}, line {error.lineno})"


def no_module(app: App, name: str, missing: str) -> BootFailed:
    parent, _, leaf = missing.rpartition(".")
    hint = f"is {app.spell('dir')} right? sys.path[0] is {sys.path[0]}"
    attribute = meant_attribute(parent, leaf)
    near = difflib.get_close_matches(leaf, siblings(parent), n=1)
    if attribute:
        hint = f"did you mean {parent}:{attribute}? a colon stands before the attribute"
    elif near:
        best = f"{parent}.{near[0]}" if parent else near[0]
        hint = f"did you mean {best}? sys.path[0] is {sys.path[0]}"
    return BootFailed(
        "import", app.name, f"no module named {missing!r} (target {app.target!r})", hint=hint
    )


def meant_attribute(parent: str, leaf: str) -> str:
    """What was meant by ``hello.app`` where ``hello`` is a module that has an ``app``."""
    module = sys.modules.get(parent)
    if module is None:
        return ""
    if hasattr(module, leaf):
        return leaf
    if hasattr(module, "__path__"):
        return ""  # a package: a module of it was meant
    near = difflib.get_close_matches(leaf, [name for name in dir(module) if name[0] != "_"], n=1)
    return near[0] if near else ""


def siblings(parent: str) -> list[str]:
    """Modules beside the one that is missing: in its package, or in the app's folder."""
    package = sys.modules.get(parent) if parent else None
    path = list(getattr(package, "__path__", [])) if package else sys.path[:1]
    return [module.name for module in pkgutil.iter_modules(path)]


def missing_dependency(app: App, missing: str) -> str:
    where = f"the environment {sys.prefix}" if sys.prefix != sys.base_prefix else sys.executable
    return (
        f"the application needs {missing!r}, which {where} does not have: install it there, "
        f"or name the application's interpreter with {app.spell('python')}"
    )


def circular_import(error: BaseException) -> str:
    if isinstance(error, ImportError) and "circular import" in str(error):
        return "two modules of the application import each other"
    return ""


def find_attribute(app: App, module: ModuleType, attribute: str) -> Any:
    found: Any = module
    path = module.__name__
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            # A submodule that nobody imported yet is not an attribute of its package.
            raise no_attribute(app, path, name, dir(found)) from error
        path = f"{path}.{name}" if path != module.__name__ else f"{path}:{name}"
    return found


def no_attribute(app: App, path: str, name: str, there: Iterable[str]) -> BootFailed:
    public = [other for other in there if not other.startswith("_")]
    near = difflib.get_close_matches(name, public, n=3, cutoff=0.5)
    near += [other for other in (*ATTRIBUTES, *FACTORIES) if other in public and other not in near]
    hint = f"did you mean {' or '.join(near)}?" if near else f"is {app.target!r} the right target?"
    return BootFailed("import", app.name, f"{path!r} has no attribute {name!r}", hint=hint)


def default_attribute(app: App, module: ModuleType) -> Any:
    for name in ATTRIBUTES:
        if hasattr(module, name):
            return getattr(module, name)
    for name in FACTORIES:
        if callable(getattr(module, name, None)):
            raise BootFailed(
                "import",
                app.name,
                f"{module.__name__!r} has neither 'application' nor 'app', but a factory {name!r}",
                hint=f"{module.__name__}:{name} with {app.spell('factory')}",
            )
    raise BootFailed(
        "import",
        app.name,
        f"{module.__name__!r} has neither 'application' nor 'app'",
        hint=f"name it: {module.__name__}:ATTRIBUTE",
    )


def call_factory(app: App, factory: Any) -> Any:
    if not callable(factory):
        raise BootFailed(
            "factory",
            app.name,
            f"{app.target!r} is {kinds.describe(factory)}, which cannot be called",
            hint=f"leave {app.spell('factory')} away when the target is the application itself",
        )
    try:
        made = factory()
    except BaseException as error:
        raise BootFailed(
            "factory", app.name, last_line(error), format_exception(error), factory_hint(app, error)
        ) from error
    if kinds.is_coroutine(made):
        made.close()
        raise BootFailed(
            "factory",
            app.name,
            f"{app.target!r} is an async function: a factory must return the application",
            hint=f"leave {app.spell('factory')} away if it is the application, else make it a "
            "plain function",
        )
    return made


def factory_hint(app: App, error: BaseException) -> str:
    if isinstance(error, TypeError) and "argument" in str(error):
        return (
            f"a factory is called without arguments; leave {app.spell('factory')} away for the "
            "application itself"
        )
    return ""
