"""Guado: one server for Python applications of both generations.

Inside a worker this package comes from the server's binary and needs no installation.
"""

from __future__ import annotations

__version__ = "0.1.0"
