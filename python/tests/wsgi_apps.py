"""The application of the WSGI tests: one route per behaviour."""

from __future__ import annotations

import wsgi_apps_ends
import wsgi_apps_files
import wsgi_apps_heads
import wsgi_apps_process
from wsgi_routes import app, second, validated

__all__ = [
    "app",
    "second",
    "validated",
    "wsgi_apps_ends",
    "wsgi_apps_files",
    "wsgi_apps_heads",
    "wsgi_apps_process",
]
