"""Process pools inside an application, in every start method."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from urllib.parse import parse_qs


def square(n: int) -> tuple[int, int]:
    """Runs in the pool's process."""
    return n * n, os.getpid()


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """?method=fork|spawn|forkserver|subprocess"""
    method = parse_qs(environ["QUERY_STRING"])["method"][0]
    if method == "subprocess":
        text = subprocess.run(
            [sys.executable, "-c", "print(sum(range(10)))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    else:
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            results = list(pool.map(square, range(10)))
        if any(pid == os.getpid() for _, pid in results):
            raise RuntimeError("the work did not leave this process")
        text = str(sum(n for n, _ in results))
    start("200 OK", [("Content-Type", "text/plain")])
    return [text.strip().encode()]
