"""A program beside the applications: it pushes and publishes, and keeps its token where the
test can find it."""

import os
import pathlib
import sys
import time

import guado

folder = pathlib.Path(sys.argv[1])
with open(folder / "tokens", "a") as tokens:
    variables = ("GUADO_PROGRAM", "GUADO_PUSH_TOKEN", "GUADO_PUSH")
    tokens.write(" ".join(os.environ[name] for name in variables) + "\n")
(folder / "begun").touch()
if len(sys.argv) > 2:
    while not (folder / sys.argv[2]).exists():
        time.sleep(0.02)
    delivery = guado.user("anna").push({"tea": "ready"}, ack=True, timeout=30).result()
    published = guado.publish("user.anna.notify", "look").result()
    (folder / "result").write_text(
        f"{delivery.pages} {delivery.acknowledged} {published.pages} {published.workers}"
    )
while True:
    time.sleep(1000)
