"""The application of the WebSocket tests, which the end-to-end tests share: test/apps/sockets.py."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "test" / "apps"))

from sockets import app  # noqa: E402

__all__ = ["app"]
