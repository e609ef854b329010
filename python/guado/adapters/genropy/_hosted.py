"""The register of this process: on the host's registries and stores from phase 4 on.

Before: siteregister_client. After: _register. Not here: what calls mean.
"""

from __future__ import annotations

import threading

from guado.adapters.genropy._backing import Memory
from guado.adapters.genropy._register import SiteRegister

_lock = threading.Lock()  # guards _registers
_registers: dict[str, SiteRegister] = {}


def register(domain: str) -> SiteRegister:
    """The one of a site, or of a domain of it."""
    with _lock:
        if domain not in _registers:
            _registers[domain] = SiteRegister(Memory(), domain)
        return _registers[domain]
