"""Imports the applications and says how each went, for ``guado check --load``.

Before: the command starts the interpreter with what to import in ``GUADO_CHECK`` and a
pipe for the report as descriptor 3. After: it prints the report. Not here: serving, the
link, lifespan: a check has no effects but those of an import.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from guado import _declared
from guado.worker import loader, pages, process
from guado.worker.errors import BootFailed
from guado.worker.handshake import App

REPORT = 3


def main() -> None:
    """Writes a line of JSON for each application and ends the process."""
    task = json.loads(os.environ.pop("GUADO_CHECK"))
    os.environ.pop("GUADO_PACKAGE", None)
    with os.fdopen(REPORT, "w", encoding="utf-8") as report:
        os.set_inheritable(REPORT, False)
        sys.path.insert(0, task["dir"])
        sys.argv = ["guado"]
        for index, asked in enumerate(task["apps"]):
            print(json.dumps(check(App(index, **asked), task["phase"])), file=report, flush=True)
    # Threads that the import started may never end, and atexit is for who has served.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def check(app: App, phase: int) -> dict[str, Any]:
    """What became of one application."""
    try:
        loader.load([app])
        process.check_threading()
        if phase >= 3:
            pages.refuse_async({app.name: app.kind})
    except BootFailed as failure:
        return {
            "name": app.name,
            "message": failure.message,
            "traceback": failure.traceback,
            "hint": failure.hint,
        }
    note = _declared.in_vain(app.name) if phase < 3 else ""
    return {"name": app.name, "kind": app.kind, "note": note}
