"""Builds the extension guado._core with a C compiler and this interpreter's headers.

Usage: python build_ext.py [--cc CC] [--out DIR | --output FILE] [--sanitize]

The one place that knows the compiler's flags: the host runs this file too when no
built extension fits an interpreter. It needs a compiler and Python.h, nothing else.
The extension uses the limited API of CPython 3.11, so one build serves 3.11 and later.
"""

from __future__ import annotations

import argparse
import binascii
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "guado" / "csrc"
NAME = "_core.abi3.so"
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter"]
FLAGS = [
    "-std=gnu11",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-pthread",
    "-DPy_LIMITED_API=0x030B0000",
]
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g", "-O1"]


def headers() -> str:
    """The folder of Python.h; ends the program with what to do when there is none."""
    for key in ("include", "platinclude"):
        folder = sysconfig.get_path(key)
        if folder and (Path(folder) / "Python.h").is_file():
            return folder
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise SystemExit(
        f"Python.h of {sys.executable} was not found. Install the development files of this "
        f"Python (Debian, Ubuntu: apt install python{version}-dev; Fedora: dnf install "
        f"python{version}-devel), or use a wheel of guado that fits this platform."
    )


def stamp() -> str:
    """By what a worker knows that its extension was built of these sources; the twin of
    guado.worker.boot.stamp."""
    crc = 0
    for source in sorted(p for p in SOURCES.iterdir() if p.suffix in {".c", ".h"}):
        crc = binascii.crc32(source.name.encode() + source.read_bytes(), crc)
    return f"{crc:08x}"


def command(cc: str, out: Path, sanitize: bool) -> list[str]:
    """The compiler's command line for the extension `out`."""
    link = ["-shared"]
    if sys.platform == "darwin":
        link = ["-bundle", "-undefined", "dynamic_lookup"]
    return [
        *shlex.split(cc),
        *FLAGS,
        *WARNINGS,
        *(SANITIZE if sanitize else []),
        f'-DGD_STAMP="{stamp()}"',
        f"-I{headers()}",
        *(str(source) for source in sorted(SOURCES.glob("*.c"))),
        *link,
        "-o",
        str(out),
    ]


def build(cc: str, out: Path, sanitize: bool) -> Path:
    """Compiles to the file `out`, which appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".build-") as work:
        made = Path(work) / NAME
        try:
            done = subprocess.run(command(cc, made, sanitize), check=False)
        except FileNotFoundError:
            raise SystemExit(
                f"the C compiler {cc!r} was not found. Install one (Debian, Ubuntu: apt install "
                "gcc libc6-dev), name it with --cc or CC, or use a wheel of guado that fits this "
                "platform."
            ) from None
        if done.returncode != 0:
            raise SystemExit(f"{cc} could not compile {SOURCES} (exit {done.returncode})")
        return made.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cc", default=os.environ.get("CC") or "cc")
    parser.add_argument("--out", type=Path, default=SOURCES.parent)
    parser.add_argument("--output", type=Path, help="the file, instead of a folder")
    parser.add_argument("--sanitize", action="store_true", help="with ASan and UBSan")
    options = parser.parse_args()
    print(build(options.cc, options.output or options.out / NAME, options.sanitize))


if __name__ == "__main__":
    main()
