"""Gives GenroPy its register from here: an entry point that no package has to be installed for.

Before: boot, ahead of the application's import. After: GenroPy, which looks for the entry
point `daemon` of the group `gnr.web` and takes the package that it names for its own
`gnr.web.daemon`. Not here: anything of the register; GenroPy is not imported.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any

PROVIDER = "guado.adapters.genropy"

_ENTRY = f"[gnr.web]\ndaemon = {PROVIDER}\n"
_ABOUT = "Metadata-Version: 2.1\nName: guado-genropy\nVersion: 1\n"


class _Distribution(importlib.metadata.Distribution):
    def read_text(self, filename: str) -> str | None:
        return {"entry_points.txt": _ENTRY, "METADATA": _ABOUT}.get(filename)

    def locate_file(self, path: Any) -> Any:
        raise FileNotFoundError(path)


class _Finder(importlib.metadata.DistributionFinder):
    """Finds no module, and one distribution."""

    def find_spec(self, *_: Any) -> ModuleSpec | None:
        return None

    def find_distributions(self, context: Any = None) -> Iterator[importlib.metadata.Distribution]:
        if context is None or context.name in (None, "guado-genropy"):
            yield _Distribution()


def install() -> None:
    """From here on GenroPy finds the register in this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # First: of several providers GenroPy takes the one that it finds first.
        sys.meta_path.insert(0, _Finder())
    # Its later versions want the provider named.
    os.environ.setdefault("GNR_DAEMON_PROVIDER", PROVIDER)
