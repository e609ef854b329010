"""Writes seeds for the C fuzz targets: fuzz_seeds.py FOLDER fuzz_frame|fuzz_link|fuzz_records."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import link_host as h

GLOBAL = b"\1\1\1\0k\1\0\0\0" + b"1"  # SET of one leaf


def frames() -> list[bytes]:
    """A conversation: small frames, so that a mutation hits their heads often."""
    first, second, third = 1 << 16 | 1, 1 << 16 | 2, 1 << 16 | 3
    small = h.request(method=b"POST", length=9, headers=[(b"HTTP_A", b"b")], body=b"123")
    other = h.request(app=1, flags=2, length=-1)
    strings = (b"page", b"", b"connection", b"[1]", b"Class", b"{}", b"", b"")
    restore = struct.pack("<QQBBHHH", 1, 1 << 20, 1, 0, 6, 4, 0) + b"g:conn" + b"page" + GLOBAL
    turn = b"\0\0\3\1\0\0\0\0" + b"".join(map(h.text, strings))
    return [
        h.encode(h.GLOBAL, 0, 0, 0, (1).to_bytes(8, "little") + b"\1" + bytes(7) + GLOBAL),
        h.encode(h.RESTORE, h.MORE, 0, 0, restore[:20]),
        h.encode(h.RESTORE, 0, 0, 0, restore[20:]),
        h.encode(h.REQUEST, 0, first, 0, small),
        h.encode(h.BODY, h.END, first, 0, b"456789"),
        h.encode(h.REQUEST, h.MORE, second, 0, other[:40]),
        h.encode(h.PING, 0, 0, 7, b""),
        h.encode(h.REQUEST, 0, second, 0, other[40:]),
        h.encode(h.CREDIT, 0, second, 100, b""),
        h.encode(h.CANCEL, 0, second, 1, b""),
        h.encode(h.BODY, h.END, second, 1, b""),
        h.encode(h.TURN, h.MORE, third, 0, turn[:20]),
        h.encode(h.TURN, h.END, third, 0, turn[20:]),
        h.encode(h.APPLY, 0, 0, 0, b'{"number":1,"kind":1,"id":"page","ops":[],"patience_ms":9}'),
        h.encode(h.GLOBAL, 0, 0, 0, (2).to_bytes(8, "little") + bytes(8) + GLOBAL),
        h.encode(h.REPLY, 0, 0, 1, struct.pack("<HHI", 200, 0, 0) + b"{}"),
        h.encode(h.RELEASE, 0, 0, 0, b"\1\0\4\0page"),
        h.encode(h.DRAIN, 0, 0, 1000, b""),
    ]


def records() -> list[bytes]:
    """The golden vectors of stores."""
    golden = json.loads((h.ROOT.parent / "protocol" / "vectors" / "store.json").read_text())
    return [bytes.fromhex(case["records"]) for case in golden["stores"] + golden["refused"]]


def main() -> None:
    folder, target = Path(sys.argv[1]), sys.argv[2]
    if target == "fuzz_records":
        for i, data in enumerate(records()):
            (folder / f"records-{i}").write_bytes(data)
        return
    for i, frame in enumerate(frames()):
        (folder / f"frame-{i}").write_bytes(frame[16:] if target == "fuzz_frame" else frame)
    if target == "fuzz_link":
        for kind in range(3):
            (folder / f"talk-{kind}").write_bytes(bytes([kind]) + b"".join(frames()))


main()
