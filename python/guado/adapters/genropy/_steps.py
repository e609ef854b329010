"""Steps between GenroPy's daemon and ours: with a step of the server, and back also by an event.

Before: siteregister_client, when a site is made; _phases, and `genropy.give_back` on the bus.
After: _hosted. Not here: what is copied how (_transfer). A site that is made where no step is
under way takes its items over by itself, if it has none (_hosted.register).
"""

from __future__ import annotations

import logging
from typing import Any

import guado
from guado import _phases
from guado.adapters.genropy import _hosted, _transfer
from guado.adapters.genropy._legacy import InDaemon, daemon_of

_log = logging.getLogger("guado")

TOPIC = "genropy.give_back"


def listen(site: Any, domain: str) -> None:
    """From here on a site gives its items to the daemon when it is told to."""

    def daemon() -> InDaemon:
        theirs = daemon_of(site, domain, create=True)
        if theirs is None:
            raise ConnectionError(
                f"{domain}: no daemon is to be reached where the site's configuration says; "
                "start it (gnr web daemon)"
            )
        return theirs

    def take() -> _phases.Done:
        theirs = daemon_of(site, domain)
        if theirs is None:
            return _phases.Done(0, [], [])  # nobody has anything
        return _told(_hosted.take_over(domain, theirs))

    def give() -> _phases.Done:
        return _told(_hosted.give_back(domain, daemon()))

    def give_back(_topic: str, _data: Any) -> None:
        try:
            give()
        except ConnectionError as error:
            _log.error("%s, and publish %s again", error, TOPIC)

    _phases.add(_phases.Step(take, give))
    guado.on(TOPIC)(give_back)


def _told(done: _transfer.Done) -> _phases.Done:
    return _phases.Done(
        done.copied,
        [f"{item}: {error}" for item, error in done.refused],
        [str(difference) for difference in done.differences],
    )
