"""The figures that the benchmarks of stores must reach, and whether they did.

    bench/figures.py [--quick]

Runs bench/state.py, bench/state_durable.py and bench/memory.py one after the other and prints
all of them again, each with its bound and whether it was reached; fails where one was not.
--quick is for a look at whether it runs: its figures say little.

A part calls `figure`, which gives the verdict for its own table and notes it for this one, in
the file that BENCH_FIGURES names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PARTS = {
    "state.py": ["--rounds", "1", "--seconds", "1"],
    "state_durable.py": ["--rounds", "1", "--seconds", "1", "--pages", "500"],
    "memory.py": ["--pages", "2000"],
}


def figure(what: str, value: float, most: float = 0, least: float = 0, unit: str = "") -> str:
    """Notes a figure that must be at most, or at least, something; gives the verdict."""
    kept = value >= least if least else value <= most
    bound = f"≥ {least:g}" if least else f"≤ {most:g}"
    if path := os.environ.get("BENCH_FIGURES"):
        one = {"what": what, "value": value, "bound": bound, "unit": unit, "kept": kept}
        with open(path, "a") as notes:
            notes.write(json.dumps(one) + "\n")
    return f"({bound}{unit and ' '}{unit}: {'reached' if kept else 'NOT REACHED'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent
    broken = []
    with tempfile.TemporaryDirectory() as notes:
        path = Path(notes) / "figures"
        path.touch()
        environment = {**os.environ, "BENCH_FIGURES": str(path)}
        for part, quick in PARTS.items():
            command = [sys.executable, str(folder / part), *(quick if options.quick else [])]
            if subprocess.run(command, env=environment).returncode:
                broken.append(part)
        found = [json.loads(line) for line in path.read_text().splitlines()]
    print(f"\n{'figure':66} {'found':>8}  {'wanted':12}")
    for one in found:
        wanted = f"{one['bound']} {one['unit']}"
        kept = "reached" if one["kept"] else "NOT REACHED"
        print(f"{one['what']:66} {one['value']:8.4g}  {wanted:12} {kept}")
    missed = sum(not one["kept"] for one in found)
    print(f"{len(found) - missed} of {len(found)} figures are reached")
    for part in broken:
        print(f"{part} failed: its figures are not all here")
    if missed or broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
