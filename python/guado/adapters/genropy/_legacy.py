"""GenroPy's own register, in this process or in its daemon, called as ours is.

Before: _shadow, _transfer. After: GenroPy and Pyro4. Not here: what calls mean.
"""

from __future__ import annotations

from typing import Any, Protocol

from guado.adapters.genropy._register import copied


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
