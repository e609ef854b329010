"""A program that pushes numbered messages to all pages: FIRST LAST."""

import sys
import time

import guado

first, last = map(int, sys.argv[1:])
for begin in range(first, last, 100):
    # Nobody waits between two of them, and they keep their order.
    told = [guado.broadcast({"i": i}) for i in range(begin, min(begin + 100, last))]
    if any(one.result(60).pages == 0 for one in told):
        sys.exit(f"nobody is there for a message from {begin}")
    time.sleep(0.05)
print("pushed", last, flush=True)
