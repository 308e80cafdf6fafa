"""Loaded by a Python that starts with this folder on its path: a clock that a test can set."""

import os
import time

_real = time.time


def _shift() -> float:
    try:
        with open(os.environ["TEST_CLOCK"]) as stream:
            return float(stream.read() or 0)
    except (KeyError, OSError):
        return 0.0


def _time() -> float:
    return _real() + _shift()


time.time = _time
time.time_ns = lambda: int(_time() * 1e9)
