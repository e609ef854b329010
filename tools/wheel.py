#!/usr/bin/env python3
"""Builds the two wheels of one version into dist/.

    guado-V-py3-none-PLATFORM.whl   the binary, as a script, and the package
    guado-V-py3-none-any.whl        the package alone: types, testing backend, push client

Usage: python tools/wheel.py [--out DIR] [--binary FILE]

Before: the extension was built (make ext), so that the binary carries it. The binary
is built here without cgo, so that it depends on no libc; --binary takes a built one.
Not here: uploading. No backend is used because none puts a finished binary into a
wheel without a plug-in of its own; a wheel is a zip file with a list.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "guado"
EXTENSION = PACKAGE / "_core.abi3.so"
LEFT_OUT = {"csrc", "tests", "__pycache__"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # a wheel of the same files is the same file


def version() -> str:
    """The number of internal/version, the one place where it is written."""
    text = (ROOT / "internal" / "version" / "version.go").read_text(encoding="utf-8")
    found = re.search(r'Version = "([^"]+)"', text)
    if found is None:
        raise SystemExit("internal/version/version.go names no version")
    return found[1]


def platform_tag(extension: bytes) -> str:
    """The oldest platform that both the binary and the extension run on.

    Go's binary needs no libc; the extension says by the versions of its symbols which
    glibc it needs, and that is what a manylinux tag promises.
    """
    machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    if not machine.startswith("linux_"):
        return machine
    needed = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", extension)]
    if not needed:
        return machine
    return machine.replace("linux_", f"manylinux_2_{max(max(needed), 17)}_")


def build_binary(folder: Path) -> Path:
    """`guado` for this platform, without cgo."""
    binary = folder / "guado"
    command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(binary), "./cmd/guado"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CGO_ENABLED": "0"})
    return binary


def package_files() -> dict[str, bytes]:
    """The Python package as it is imported, without what only the binary needs."""
    files: dict[str, bytes] = {}
    for path in sorted(PACKAGE.rglob("*")):
        inside = path.relative_to(PACKAGE)
        left_out = LEFT_OUT & set(inside.parts) or path.suffix in {".so", ".pyc"}
        if path.is_file() and not left_out:
            files[f"guado/{inside.as_posix()}"] = path.read_bytes()
    return files


def metadata(number: str) -> bytes:
    """METADATA, with the README as the description."""
    readme = ROOT / "README.md"
    lines = [
        "Metadata-Version: 2.4",
        "Name: guado",
        f"Version: {number}",
        "Summary: One server for Python WSGI and ASGI applications",
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
        "Requires-Python: >=3.11",
        "Project-URL: Source, https://github.com/guado-server/guado",
        "Keywords: wsgi,asgi,server,django,fastapi",
        "Description-Content-Type: text/markdown",
        "",
        readme.read_text(encoding="utf-8") if readme.exists() else "",
    ]
    return "\n".join(lines).encode()


@dataclass
class Wheel:
    """One wheel while it is written; every file gets its line in RECORD."""

    number: str
    tag: str
    pure: bool
    files: dict[str, bytes]
    executable: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return f"guado-{self.number}-{self.tag}.whl"

    def write(self, folder: Path) -> Path:
        info = f"guado-{self.number}.dist-info"
        files = dict(self.files)
        files[f"{info}/METADATA"] = metadata(self.number)
        files[f"{info}/entry_points.txt"] = b"[pytest11]\nguado = guado._pytest\n"
        files[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
        files[f"{info}/WHEEL"] = (
            "Wheel-Version: 1.0\nGenerator: guado\n"
            f"Root-Is-Purelib: {'true' if self.pure else 'false'}\nTag: {self.tag}\n"
        ).encode()
        files[f"{info}/RECORD"] = self.record(files, f"{info}/RECORD")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name
        part = path.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                mode = 0o755 if name in self.executable else 0o644
                entry.external_attr = (0o100000 | mode) << 16
                archive.writestr(entry, data)
        return part.replace(path)

    @staticmethod
    def record(files: dict[str, bytes], own: str) -> bytes:
        lines = []
        for name, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}")
        return "\n".join([*lines, f"{own},,", ""]).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--binary", type=Path, help="a built guado, instead of building one")
    options = parser.parse_args()
    if not EXTENSION.exists():
        raise SystemExit(f"{EXTENSION.relative_to(ROOT)} is missing: run make ext first")
    number, package = version(), package_files()
    with tempfile.TemporaryDirectory() as folder:
        binary = options.binary or build_binary(Path(folder))
        script = f"guado-{number}.data/scripts/guado"
        platform = Wheel(
            number,
            f"py3-none-{platform_tag(EXTENSION.read_bytes())}",
            pure=False,
            files={**package, script: binary.read_bytes()},
            executable={script},
        )
        anywhere = Wheel(number, "py3-none-any", pure=True, files=package)
        for wheel in (platform, anywhere):
            sys.stdout.write(f"{wheel.write(options.out)}\n")


if __name__ == "__main__":
    main()
