"""What the processes of an executor run: an application whose requests are tasks.

Before: the host sends a task as the body of a request. After: the function that it names.
Not here: who submitted it (guado.executors).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any

from guado import _tasks

for _module in filter(None, os.environ.pop("GUADO_PRELOAD", "").split(",")):
    importlib.import_module(_module)


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Runs one task."""
    outcome = _tasks.run(environ["wsgi.input"].read())
    start("200 OK", [("Content-Length", str(len(outcome)))])
    return [outcome]
