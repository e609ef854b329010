"""What the processes of an executor run, and a program beside the workers."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import guado


def push(page: str, data: Any) -> list[Any]:
    """Pushes from a process of an executor."""
    return list(guado.page(page).push(data).result(30))


def program(folder: str) -> None:
    """Pushes to each page whose id is written into a file of the folder."""
    while True:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as f:
                page = f.read()
            guado.page(page).push("program")
            guado.publish("invoice.program", name)
            os.remove(path)
        time.sleep(0.02)


if __name__ == "__main__":
    program(sys.argv[1])
