"""CPU time that a worker takes for a request, the host not counted.

Usage: python measure_worker.py [--package DIR] [--threads N] [--batch N] [--transport T] TARGET

Compares builds of the extension or ways of reading on a busy machine: CPU time of the
worker's threads by the kernel's own account, least and median of seven rounds. Requests
are sent in batches, as under load; --batch 1 measures a worker that sleeps in between.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import link_host as h
from link_host import Host, Wire

ROUNDS = 7
REQUESTS = 6400

HEADERS = [
    (b"HTTP_HOST", b"127.0.0.1:8000"),
    (b"HTTP_USER_AGENT", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
    (b"HTTP_ACCEPT", b"*/*"),
    (b"HTTP_X_REQUEST_ID", b"0123456789abcdef"),
]


def cpu_ns(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def serve(host: Host, wire: Wire, payload: bytes, batch: int, count: int) -> None:
    for _ in range(0, count, batch):
        for slot in range(batch):
            stream = host.stream(slot)
            wire.start(stream)
            wire.send(h.encode(h.REQUEST, h.END, stream, 0, payload))
        left = batch
        while left:
            frame = wire.receive()
            if frame is None:
                wire.wait(1)
            elif frame.kind == h.DONE or frame.flags & (h.END | h.BUSY) == h.END:
                left -= 1


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time that a worker takes for a request")
    parser.add_argument("--package", default=str(h.ROOT), help="folder of the package guado")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--transport", default="shm", choices=["shm", "socket"])
    parser.add_argument("--python")
    parser.add_argument("target", nargs="?", default="link_apps:app")
    options = parser.parse_args()
    more = {"python": options.python} if options.python else {}
    with Host(
        options.target,
        transport=options.transport,
        hello={"threads": options.threads},
        env={"GUADO_PACKAGE": options.package},
        **more,
    ) as host:
        asgi = host.ready()["loop"] != ""
        headers = HEADERS
        if asgi:
            headers = [
                (n.removeprefix(b"HTTP_").replace(b"_", b"-").lower(), v) for n, v in headers
            ]
        payload = h.request(path=b"/hello", headers=headers)
        serve(host, host.wire, payload, options.batch, REQUESTS)
        rounds = []
        for _ in range(ROUNDS):
            before = cpu_ns(host.process.pid)
            serve(host, host.wire, payload, options.batch, REQUESTS)
            rounds.append((cpu_ns(host.process.pid) - before) / REQUESTS / 1000)
    print(f"{min(rounds):.2f} µs at least, {statistics.median(rounds):.2f} µs median per request")


if __name__ == "__main__":
    main()
