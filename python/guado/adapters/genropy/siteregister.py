"""Names that GenroPy imports from its module of the same name."""

from __future__ import annotations

from guado.adapters.genropy._register import SiteRegister
from guado.adapters.genropy._site import PAGE_MAX_AGE

__all__ = ["DEFAULT_PAGE_MAX_AGE", "GnrDaemonException", "GnrDaemonLocked", "SiteRegister"]

DEFAULT_PAGE_MAX_AGE = PAGE_MAX_AGE


class GnrDaemonException(Exception):
    """Something of the register went wrong."""


class GnrDaemonLocked(GnrDaemonException):
    """The item was locked by somebody else all the time."""
