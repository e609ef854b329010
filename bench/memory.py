"""What pages take: bytes of memory for each, in the worker and in the host.

    bench/memory.py [--pages 100000] [--check]

The pages are opened by an application, ten to a connection, and each keeps ten leaves, 2 KB as
JSON. Anonymous memory is looked at after a collection, before and after. From that of the
worker the values themselves are taken off, as an ordinary dict of dicts has them in a process
of its own; of the host it is all that there is. At the end all pages are closed, and nothing
may be left in the account. --check fails where a figure is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import pages
import run
from figures import figure

HOST = run.ROOT / ".cache" / "bench-state" / "soakhost"

AT_ONCE = 500
MOST = {"host": 6 << 10, "worker": 8 << 10}

ROOM = """[push]
pages = 1000000
new_pages = 1000000
unclaimed = "1h"
[identity]
guest_ttl = "2h"
"""

# Prints how much memory so many dicts take that hold the same values.
VALUES = """
import sys
import bench_pages

def anonymous():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon:"))

def nested(number):
    made = {}
    for path, value in bench_pages.values(number).items():
        *above, key = path.split(".")
        (made.setdefault(above[0], {}) if above else made)[key] = value
    return made

before, n = anonymous(), int(sys.argv[1])
kept = [nested(number) for number in range(n)]
print((anonymous() - before) / n)
"""


def anonymous(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon:"))


class Server(pages.Server):
    """`guado serve` that collects garbage when it is told."""

    def command(self, around: pages.Beside, settings: dict[str, object]) -> list[str]:
        return [str(HOST), super().command(around, settings)[-1]]

    def act(self, **query: object) -> object:
        return json.loads(self.get("/pages?" + "&".join(f"{k}={v}" for k, v in query.items())))

    def open_many(self, first: int, count: int) -> list[str]:
        """Opens pages; gives their connections."""
        made = self.act(do="open", **{"from": first}, count=count)
        assert isinstance(made, list)
        return made

    def collected(self) -> int:
        self.log.seek(0)
        return self.log.read().count(b"collected")

    def memory(self) -> dict[str, int]:
        """Bytes of the host and of the worker."""
        self.get("/trim")
        before = self.collected()
        os.kill(self.process.pid, signal.SIGUSR1)
        deadline = time.monotonic() + 60
        while self.collected() == before:
            if time.monotonic() > deadline:
                raise RuntimeError("the host collected nothing within 60 s")
            time.sleep(0.05)
        root = self.process.pid
        workers = max(anonymous(pid) for pid in run.tree(root) - {root})
        return {"host": anonymous(root), "worker": workers}


def values(count: int) -> float:
    """Bytes of the values of one page in a process of their own."""
    command = [str(run.BIN / "python"), "-c", VALUES, str(count)]
    done = subprocess.run(command, cwd=run.APPS, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(count: int) -> dict[str, float]:
    subprocess.run(
        ["go", "build", "-o", str(HOST), "./test/chaos/soakhost"], cwd=run.ROOT, check=True
    )
    with pages.beside() as around:
        server = Server("guado", around, "guado", server="request_timeout = 0\n" + ROOM)
        try:
            connections = server.open_many(0, 10)  # what is made once is not theirs
            before = server.memory()
            for first in range(10, 10 + count, AT_ONCE):
                connections += server.open_many(first, AT_ONCE)
            after = server.memory()
            found = {name: (after[name] - before[name]) / count for name in before}
            found["values"] = values(count)
            found["account"] = left(server)[0] / (count + 10)
            while connections:
                part, connections = connections[:100], connections[100:]
                server.act(do="close", connections=",".join(part))
            found["left"], found["stores left"] = left(server)
        finally:
            server.stop()
    return found


def left(server: Server) -> list[int]:
    found = server.act(do="bytes")
    assert isinstance(found, list)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", type=int, default=100_000)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    found = measure(options.pages)
    beyond = found["worker"] - found["values"]
    print(f"{options.pages} pages of ten leaves, 2 KB as JSON; bytes of each:")
    told = figure("bytes of a page in the host", found["host"], MOST["host"])
    print(f"host    {found['host']:8.0f}  {told}")
    print(f"worker  {found['worker']:8.0f}, of these {found['values']:.0f} for the values")
    told = figure("bytes of a page in the worker, beyond its values", beyond, MOST["worker"])
    print(f"beyond the values {beyond:.0f}  {told}")
    print(f"in the worker's account {found['account']:.0f}")
    told = figure("bytes in the account after all have closed", found["left"], 0)
    stores = found["stores left"]
    print(f"after all have closed: {found['left']:.0f} bytes {told}, {stores:.0f} stores")
    kept = beyond <= MOST["worker"] and found["host"] <= MOST["host"] and not found["left"]
    if options.check and not kept:
        sys.exit("a figure is missed")


if __name__ == "__main__":
    main()
