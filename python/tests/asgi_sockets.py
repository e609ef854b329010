"""The application of the WebSocket tests: sockets.py of test/apps, as in test/e2e."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The sanitizers' copy of the tests has the applications at its top.
sys.path.extend(str(folder) for folder in (ROOT / "test" / "apps", ROOT / "apps"))

from sockets import app  # noqa: E402

__all__ = ["app"]
