"""The register in charge is GenroPy's daemon, and ours runs beside it: below phase 4, before
one dares the step.

Before: boot, where GUADO_GENROPY=shadow stands in the application's environment. After:
_shadow, under whose lock both are asked. Not here: what is compared.

Each difference is a line of the log. With GUADO_GENROPY_RECORD=file all calls are kept there,
to be played again. One worker only: ours cannot know of calls that do not pass it.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from guado.adapters.genropy import _transfer
from guado.adapters.genropy._backing import Memory
from guado.adapters.genropy._legacy import InDaemon
from guado.adapters.genropy._register import SiteRegister
from guado.adapters.genropy._shadow import Call, Shadow
from guado.adapters.genropy.siteregister_client import RemoteStoreBag

_log = logging.getLogger("guado")

# Calls after which the log says how it goes.
SUMMARY = 1000


def install() -> None:
    """From here on GenroPy makes clients that ask both."""
    theirs: Any = importlib.import_module("gnr.web.daemon.siteregister_client")

    class Client(theirs.SiteRegisterClient):  # type: ignore[misc]
        def initSiteRegister(self) -> None:
            super().initSiteRegister()
            domain = str(self.site.currentDomainIdentifier)
            self.siteregister = Asked(_both(self, domain, self.siteregister_uri))
            # The daemon heard of it just now; so does ours.
            cleanup = self.site.custom_config.getAttr("cleanup")
            self.siteregister.setConfiguration(cleanup=cleanup)

        def add_data_to_register_item(self, register_item: Any) -> Any:
            kind, id = register_item["register_name"], register_item["register_item_id"]
            register_item["data"] = RemoteStoreBag(self.siteregister.shadow, kind, id)
            return register_item

    theirs.SiteRegisterClient = Client


def _say(what: str) -> None:
    # No warning, and a site's logging as a rule shows nothing less: to where its output goes.
    print(f"the register in charge and ours: {what}", file=sys.stderr, flush=True)


class Asked:
    """In the place of the daemon's proxy."""

    def __init__(self, shadow: Shadow) -> None:
        self.shadow = shadow

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **named: Any) -> Any:
            answer = self.shadow.call(name, args, named)
            if self.shadow.calls % SUMMARY == 0:
                _say(f"{self.shadow.calls} calls, {self.shadow.differences} differences")
            return answer

        return call


@functools.cache
def _of(domain: str) -> SiteRegister:
    return SiteRegister(Memory(), domain)


def _both(client: Any, domain: str, uri: str) -> Shadow:
    daemon, ours = InDaemon(client.pyroProxy, uri), _of(domain)
    done = _transfer.transfer(daemon, ours)
    for item, error in done.refused:
        _log.warning("ours does not take %s of the register in charge: %s", item, error)
    _say(f"{done.copied} items to begin with")
    return Shadow(daemon, ours, record=_recorder())


def _recorder() -> Callable[[Call], None] | None:
    path = os.environ.get("GUADO_GENROPY_RECORD")
    if not path:
        return None
    file: IO[bytes] = open(path, "ab", buffering=0)  # noqa: SIM115 (for as long as the process)

    def record(call: Call) -> None:
        file.write(pickle.dumps(call, protocol=4))

    return record


def recorded(path: str) -> Iterator[Call]:
    """The calls in a file, as far as it is whole."""
    with open(path, "rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return
