"""How the time of a piece of work grows with its input: a ratio within one run, so that slow machines pass too."""

from __future__ import annotations

import time
from collections.abc import Callable

SMALLER = 8


def cpu_seconds(work: Callable[[], object]) -> float:
    """Returns the processor time of the fastest of three runs."""
    times = []
    for _ in range(3):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def assert_linear(make: Callable[[int], Callable[[], object]], size: int) -> None:
    """Asserts that work on an input of `size` takes about eight times as long as on an eighth of it, not 64 times."""
    large = cpu_seconds(make(size))
    small = cpu_seconds(make(size // SMALLER))
    assert large < 3 * SMALLER * max(small, 0.005), f"{large:.3f} s for {size}, {small:.3f} s for an eighth"
