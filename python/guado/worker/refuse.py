"""Says FAILED to the host where the C core cannot be loaded: the one frame of the
protocol that Python writes itself (protocol/link.md, sections 1, 4 and 7).

Before: boot found that this interpreter does not fit. After: the process ends. Not
here: anything else of the link. Like boot it must load in old versions of Python.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct

from guado import __version__

_FAILED = 0x4C
_DATA_AT = 4096
_UP_HEAD = 192
_HOST_ASLEEP = 384


def refuse(spec: str, message: str, hint: str) -> None:
    """Sends FAILED over the link that `spec` names."""
    answer = {
        "stage": "environment",
        "app": "",
        "message": message,
        "traceback": "",
        "hint": hint,
        "protocol": 1,
        "version": __version__,
    }
    text = json.dumps(answer).encode()
    frame = struct.pack("<IBBHII", 16 + len(text), _FAILED, 0, 0, 0, 0) + text
    frame += b"\0" * (-len(frame) % 8)
    transport, _, numbers = spec.partition(":")
    descriptors = [int(number) for number in numbers.split(",")]
    if transport == "shm":
        _to_memory(descriptors[0], descriptors[2], frame)
    else:
        _to_socket(descriptors[0], frame)


def _to_socket(descriptor: int, frame: bytes) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as link:
        link.sendall(frame)


def _to_memory(memory: int, to_host: int, frame: bytes) -> None:
    """The ring is empty: nothing was sent before this frame."""
    with mmap.mmap(memory, 0) as shared:
        ring, slots = struct.unpack_from("<II", shared, 12)
        at = _DATA_AT + 4 * slots + ring
        shared[at : at + len(frame)] = frame
        struct.pack_into("<Q", shared, _UP_HEAD, len(frame))
        struct.pack_into("<I", shared, _HOST_ASLEEP, 0)
    os.write(to_host, struct.pack("<Q", 1))
