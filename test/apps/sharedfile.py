"""A file of a MiB for the applications here to send, made once: a killed worker leaves none."""

import os
import tempfile

CONTENT = bytes(range(256)) * 4096


def path() -> str:
    """Where the file is; complete whoever else makes it at the same time."""
    name = os.path.join(tempfile.gettempdir(), f"guado-test-{os.getuid()}.bin")
    if not os.path.exists(name) or os.path.getsize(name) != len(CONTENT):
        with tempfile.NamedTemporaryFile(dir=tempfile.gettempdir(), delete=False) as out:
            out.write(CONTENT)
        os.replace(out.name, name)
    return name
