"""The step back to GenroPy's daemon: an event, which anybody may publish who may do so.

Before: siteregister_client, when a site is made; `genropy.give_back` on the bus. After:
_hosted. Not here: the step forward, which is taken when a site first has its register here.
"""

from __future__ import annotations

import logging
from typing import Any

import guado
from guado.adapters.genropy import _hosted
from guado.adapters.genropy._legacy import daemon_of

_log = logging.getLogger("guado")

TOPIC = "genropy.give_back"


def listen(site: Any, domain: str) -> None:
    """From here on a site gives its items to the daemon when it is told to."""

    def give_back(_topic: str, _data: Any) -> None:
        theirs = daemon_of(site, domain, create=True)
        if theirs is None:
            _log.error(
                "%s: no daemon is to be reached where the site's configuration says; start it "
                "(gnr web daemon) and publish %s again",
                domain,
                TOPIC,
            )
            return
        _hosted.give_back(domain, theirs)

    guado.on(TOPIC)(give_back)
