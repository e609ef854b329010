"""What functions hear, whichever process they are in: one line for each event."""

import os
from typing import Any


def hear(who: str, topic: str, data: Any) -> None:
    with open(os.environ["HEARD"], "a") as heard:
        heard.write(f"{who} {topic} {data}\n")
