"""Plays recorded calls to GenroPy's own register and to ours, and prints where they differ."""

from __future__ import annotations

import collections
import contextlib
import json
import sys

import driver
import theirs
from gnr.web.daemon import siteregister
from guado.adapters.genropy._backing import Memory
from guado.adapters.genropy._beside import recorded
from guado.adapters.genropy._compare import VOLATILE
from guado.adapters.genropy._register import SiteRegister
from guado.adapters.genropy._shadow import Found, Shadow

clock = driver.Clock()
found: list[Found] = []
ours = SiteRegister(Memory(), "test", clock.now, clock.time)
exact = VOLATILE - {"start_ts", "last_refresh_ts"}
shadow = Shadow(theirs.make(siteregister, clock), ours, found.append, exact)
names: collections.Counter[str] = collections.Counter()
for call in recorded(sys.argv[1]):
    names[call.name] += 1
    with contextlib.suppress(Exception):
        shadow.ask(call)
print(json.dumps({"calls": shadow.calls, "differences": [str(f) for f in found], "names": names}))
