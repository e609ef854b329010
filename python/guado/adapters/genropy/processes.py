"""Processes of GenroPy's daemon. There are none: programs and executors are guado's."""
