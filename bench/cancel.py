"""How soon an application hears that a client has left, beside many open requests.

    bench/cancel.py [--streams 10000] [--leave 300]

The clients reset their connections; the time is from the reset to the moment in which
the application's receive() gives http.disconnect (one clock for the whole machine).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
log_level = "warn"
[[app]]
name = "cancel"
kind = "asgi"
target = "bench_cancel:app"
dir = "{apps}"
python = "{python}"
concurrency = {concurrency}
"""


def state(port: int) -> dict[str, object]:
    """What the application tells."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/state", timeout=30) as answer:
        return dict(json.load(answer))


def open_request(port: int, number: int) -> socket.socket:
    """A request that waits; closing its socket sends a reset."""
    s = socket.create_connection(("127.0.0.1", port), 30)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.sendall(b"GET /wait?%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
    return s


def measure(port: int, streams: int, leave: int) -> list[float]:
    """Seconds from reset to notice, sorted."""
    clients = [open_request(port, n) for n in range(streams)]
    while state(port)["waiting"] != streams:
        time.sleep(0.1)
    time.sleep(1)  # every exchange is older than a tick of the lane's sweeper
    left: dict[str, float] = {}
    for n in range(0, streams, streams // leave):
        left[str(n)] = time.monotonic()
        clients[n].close()
        time.sleep(0.005)
    deadline = time.monotonic() + 30
    while True:
        noticed = state(port)["noticed"]
        assert isinstance(noticed, dict)
        if len(noticed) == len(left):
            break
        if time.monotonic() > deadline:
            raise SystemExit(f"only {len(noticed)} of {len(left)} departures were noticed")
        time.sleep(0.1)
    for client in clients:
        client.close()
    return sorted(noticed[n] - at for n, at in left.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="departures beside many open requests")
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--leave", type=int, default=300)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    streams = min(args.streams, hard - 200)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "guado.toml"
        python = ROOT / ".cache/bench/bin/python"
        text = CONFIG.format(
            port=port, apps=ROOT / "bench/apps", python=python, concurrency=streams + 10
        )
        file.write_text(text)
        server = subprocess.Popen([ROOT / "bin/guado", "serve", "--config", file])
        try:
            for _ in range(100):
                try:
                    state(port)
                    break
                except OSError:
                    time.sleep(0.1)
            times = measure(port, streams, args.leave)
        finally:
            os.kill(server.pid, signal.SIGTERM)
            server.wait(40)
    pick = {p: times[min(len(times) - 1, len(times) * p // 100)] * 1e3 for p in (50, 99)}
    print(
        f"departures beside {streams} open requests: p50 {pick[50]:.2f} ms, "
        f"p99 {pick[99]:.2f} ms, longest {times[-1] * 1e3:.2f} ms"
    )


if __name__ == "__main__":
    main()
