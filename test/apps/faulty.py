"""An application that misbehaves in the way that MODE names."""

import atexit
import ctypes
import os
import signal
import subprocess
import threading
import time

MODE = os.environ["MODE"]
HOARD = []

if MODE == "import":
    print("about to fail", flush=True)
    os._exit(7)
if MODE == "second":
    threading.Timer(1, os._exit, [8]).start()
if MODE == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    atexit.register(time.sleep, 1000)


def application(environ, start_response):
    body = str(os.getpid())
    if MODE == "family":
        group = subprocess.Popen(["sleep", "1000"])
        session = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        body += f" {group.pid} {session.pid}"
    elif MODE == "noisy":
        for number in range(50_000):
            print("noise", number)
    elif MODE == "leaky":
        HOARD.append(b"x" * (16 << 20))
    elif MODE == "hoard" and environ["PATH_INFO"] == "/all":
        while len(HOARD) < 64:
            HOARD.append(b"x" * (64 << 20))
    elif MODE == "slow":
        time.sleep(3)
    elif MODE == "gil" and environ["PATH_INFO"] == "/hold":
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):  # the second one never returns, and PyDLL keeps the GIL
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]


async def blocked(scope, receive, send):
    """Blocks the event loop."""
    if scope["type"] != "http":
        return
    if scope["path"].endswith("/block"):
        time.sleep(1000)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
