"""GenroPy's own register, in this process or in its daemon, called as ours is.

Before: _shadow, _transfer. After: GenroPy and Pyro4. Not here: what calls mean.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from guado.adapters.genropy._register import copied

# Seconds for an answer of a daemon, and for the register that it has to start.
PATIENCE = 30.0


class Port(Protocol):
    """What a register is to those who compare and copy registers: ours is one, too."""

    def call(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any: ...

    def bag_call(
        self,
        kind: str,
        id: Any,
        below: Any,
        method: str,
        args: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any: ...


def _addressed(kind: str, id: Any, below: Any, named: dict[str, Any] | None) -> dict[str, Any]:
    found = {"_siteregister_register_name": kind, "_siteregister_register_item_id": id}
    return {**(named or {}), **found, "_pyrosubbag": below}


class InProcess:
    """A SiteRegister of GenroPy's in this process. Copies go in and out, as over a wire."""

    def __init__(self, register: Any) -> None:
        self.register = register

    def call(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return copied(getattr(self.register, name)(*copied(args), **copied(named)))

    def bag_call(
        self,
        kind: str,
        id: Any,
        below: Any,
        method: str,
        args: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:
        function = getattr(self.register.remotebag_handler, method)
        return copied(function(*copied(args), **copied(_addressed(kind, id, below, named))))


class InDaemon:
    """One in its daemon. `proxy` makes a Pyro proxy of the object's URI."""

    def __init__(self, proxy: Any, register_uri: str) -> None:
        # One connection each: who asks both holds a lock meanwhile.
        self._register = proxy(register_uri)
        self._data = proxy(register_uri.replace(":SiteRegister@", ":RemoteData@"))

    def call(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return getattr(self._register, name)(*args, **named)

    def bag_call(
        self,
        kind: str,
        id: Any,
        below: Any,
        method: str,
        args: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:
        return getattr(self._data, method)(*args, **_addressed(kind, id, below, named))


def daemon_of(site: Any, domain: str, create: bool = False) -> InDaemon | None:
    """The register of a site in GenroPy's daemon, as the site's configuration names it; None:
    there is no daemon, or none of this site."""
    config = site.config.getAttr("gnrdaemon") or {}
    try:
        import Pyro4
    except ImportError:
        return None
    # The daemon speaks nothing else, and tells nobody which calls it has.
    Pyro4.config.SERIALIZER, Pyro4.config.METADATA = "pickle", False
    where = f"{config.get('host') or 'localhost'}:{config.get('port') or 40004}"
    if config.get("socket"):
        where = f"./u:{config['socket']}"

    def proxy(uri: str) -> Any:
        made = Pyro4.Proxy(uri)
        made._pyroHmacKey = config.get("hmac_key")
        made._pyroTimeout = PATIENCE
        return made

    end = time.monotonic() + PATIENCE
    try:
        with proxy(f"PYRO:GnrDaemon@{where}") as daemon:
            while True:
                found = daemon.getSite(domain, create=create, storage_path="", autorestore=False)
                if found and found.get("register_uri"):
                    return InDaemon(proxy, found["register_uri"])
                if not create or time.monotonic() > end:
                    return None
                time.sleep(0.1)
    except Pyro4.errors.CommunicationError:
        return None
