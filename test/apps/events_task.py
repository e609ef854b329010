"""A function that runs on an executor, and publishes from there."""

import guado


def publish(topic: str, data: int) -> tuple[int, int]:
    return guado.publish(topic, data).result()
