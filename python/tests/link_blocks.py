"""An application whose import blocks until its fifo is written to."""

from __future__ import annotations

import os

with open(os.environ["LINK_GATE"], "rb") as gate:
    gate.read()
