"""What operating costs: CPU per request with everything on against everything off.

    bench/overhead.py [--rounds 10] [--seconds 5] [--connections 64] [--loads hello]
                      [--app wsgi,asgi] [--limit 1.10]
                      [--on observe,supervise,policies] [--one-in 100]

Two servers of the same build run side by side, on and off. On is, unless --on says less,

  observe    metrics scraped each second, probes, the extended access log, traces of one
             exchange in --one-in to a collector that is here, the admin interface
  supervise  heartbeats, a request timeout, limits of requests, age and memory, the watch
             for workers that hang and requests that are slow, a program, an executor
  policies   of the server: canonical host, rate limit, maintenance by a flag; of the mount:
             addresses, rate limit, body limit, deadline, idle times, response fields,
             files that the application may name

and off is none of it. A round loads on, off, off, on (or the other way round), so that
what drifts falls on both alike; its ratio is that of the sums. Printed is the mean over
the rounds and the upper end of a one-sided 95 % interval; the program fails when that is
above the limit.
"""

from __future__ import annotations

import argparse
import http.server
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import run

# Student's t, one-sided 95 %, by degrees of freedom.
T95 = [math.inf, 6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812]
T95 += [1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729]

COMMON = """
[server]
listen = ["127.0.0.1:{port}"]
log_level = "warn"
{server}
[[app]]
name = "bench"
kind = "{kind}"
target = "{target}"
dir = "{apps}"
python = "{python}"
threads = 8
{app}
[[mount]]
app = "bench"
{mount}
{more}
"""

OFF = {
    "observe": {"more": '[metrics]\nenabled = false\n[admin]\nsocket = "off"\n'},
    "supervise": {"app": "ping_timeout = 0\nhang_timeout = 0\noutput_limit = 0\n"},
    "policies": {},
}

ON = {
    "observe": {
        "server": 'access_log = "{folder}/access.log"\naccess_log_format = "extended"\n',
        "more": '[metrics]\nlisten = "127.0.0.1:{metrics}"\n'
        '[health]\nlive = "/livez"\nready = "/readyz"\n'
        '[trace]\nendpoint = "http://127.0.0.1:{collector}"\none_in = {one_in}\n'
        '[admin]\nsocket = "{folder}/admin.sock"\n',
    },
    "supervise": {
        "server": 'request_timeout = "30s"\n',
        "app": 'slow_request = "10s"\nmax_requests = 1000000000\nmax_requests_jitter = 1000\n'
        'max_age = "24h"\nmax_age_jitter = "1h"\nmemory_soft = "4GiB"\nmemory_hard = "8GiB"\n',
        "more": '[[program]]\nname = "sleeper"\ncommand = ["sleep", "100000"]\n'
        '[[executor]]\nname = "cpu"\ngroup = "bench"\n',
    },
    "policies": {
        "server": 'canonical_host = "127.0.0.1"\nrate_limit = "900000/s"\n',
        "mount": 'allow = ["127.0.0.0/8"]\nrate_limit = "900000/s"\nbody_limit = "10MiB"\n'
        'request_timeout = "20s"\nread_idle = "30s"\nwrite_idle = "30s"\n'
        'set_headers = {{ X-Frame-Options = "DENY" }}\nremove_headers = ["X-Powered-By"]\n'
        'sendfile = {{ "/protected" = "{folder}" }}\n',
        "more": '[server.maintenance]\nflag = "{folder}/closed"\n',
    },
}

PARTS = ("server", "app", "mount", "more")


def together(on: list[str]) -> dict[str, str]:
    """The configuration in which these parts are on, and the others off."""
    chosen = [ON[name] if name in on else OFF[name] for name in ON]
    return {part: "".join(each.get(part, "") for each in chosen) for part in PARTS}


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes traces and says thanks."""

    protocol_version = "HTTP/1.1"
    taken = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Collector.taken += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: standard error is the reader's."""


class Server(run.Server):
    """A server of this build with one of the two configurations."""

    def __init__(
        self, name: str, kind: str, parts: dict[str, str], folder: str, **more: int
    ) -> None:
        self.name, self.port = f"{name} {kind}", run.free_port()
        text = COMMON.format(
            port=self.port,
            kind=kind,
            target=f"bench_{kind}:app",
            apps=run.APPS,
            python=run.BIN / "python",
            **{key: part.format(folder=folder, **more) for key, part in parts.items()},
        )
        path = Path(folder) / f"{name}-{kind}.toml"
        path.write_text(text)
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [str(run.ROOT / "bin/guado"), "serve", "--config", str(path)],
            cwd=run.APPS,
            env={**os.environ},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.wait()


def scrape(port: int, stop: threading.Event) -> None:
    """Asks for the metrics each second, as no Prometheus does."""
    while not stop.wait(1):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            answer.read()


def compare(kind: str, load: str, args: argparse.Namespace, collector: int) -> float:
    """Prints the rounds of one pair and gives the upper bound of its ratio."""
    metrics = run.free_port()
    with tempfile.TemporaryDirectory() as folder:
        pair = [
            Server(
                "on",
                kind,
                together(args.on),
                folder,
                metrics=metrics,
                collector=collector,
                one_in=args.one_in,
            ),
            Server("off", kind, together([]), folder),
        ]
        stop = threading.Event()
        scraper = threading.Thread(target=scrape, args=(metrics, stop))
        if "observe" in args.on:
            scraper.start()
        logs: list[float] = []
        try:
            for server in pair:
                run.measure(server, run.LOADS[load], args.connections, 2)
            for number in range(args.rounds):
                cost = {"on": 0.0, "off": 0.0}
                first, second = pair if number % 2 == 0 else pair[::-1]
                for server in (first, second, second, first):
                    one = run.measure(server, run.LOADS[load], args.connections, args.seconds)
                    if one["failed"]:
                        raise RuntimeError(f"{server.name}: {one['failed']:.0f} requests failed")
                    cost[server.name.split()[0]] += one["cpu"] / 2
                logs.append(math.log(cost["on"] / cost["off"]))
                print(
                    f"{kind} {load} round {number + 1:2}: on {cost['on']:6.2f} µs, "
                    f"off {cost['off']:6.2f} µs, ratio {math.exp(logs[-1]):.3f}",
                    flush=True,
                )
        finally:
            stop.set()
            if scraper.ident:
                scraper.join()
            for server in pair:
                server.stop()
    mean = statistics.fmean(logs)
    spread = T95[min(len(logs), len(T95)) - 1] * statistics.stdev(logs) / math.sqrt(len(logs))
    upper = math.exp(mean + spread)
    print(
        f"{kind} {load}: CPU per request, on against off: {math.exp(mean):.3f}, "
        f"upper 95 % bound {upper:.3f} ({len(logs)} rounds, {args.connections} connections)"
    )
    return upper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--loads", default="hello")
    parser.add_argument("--app", default="wsgi,asgi")
    parser.add_argument("--limit", type=float, default=1.10)
    parser.add_argument("--on", type=lambda text: text.split(","), default=list(ON))
    parser.add_argument("--one-in", type=int, default=100)
    args = parser.parse_args()
    if unknown := set(args.on) - set(ON):
        parser.error(f"--on knows {', '.join(ON)}, not {', '.join(unknown)}")
    if args.rounds < 2:
        parser.error("--rounds must be at least 2")
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    worst = max(
        compare(kind, load, args, sink.server_address[1])
        for kind in args.app.split(",")
        for load in args.loads.split(",")
    )
    sink.shutdown()
    print(f"traces came in {Collector.taken} batches")
    if worst > args.limit:
        sys.exit(f"the upper bound {worst:.3f} is above {args.limit:.2f}")


if __name__ == "__main__":
    main()
