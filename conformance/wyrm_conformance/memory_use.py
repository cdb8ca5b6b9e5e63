"""Memory, measured: Python's by tracemalloc, the process's by what the system says."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

__all__ = ["growth", "resident_bytes"]


def resident_bytes() -> int:
    """The process's memory in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def growth(work: Callable[[], None], warm: int, times: int) -> tuple[int, int]:
    """By how many bytes Python's and the process's memory grow while something is done, after it has been done a while.

    Measured in two halves, of which the one that grew less counts twice: a table of the interpreter's may be made anew during
    one, such as that of interned strings.
    """
    tracemalloc.start()
    try:
        for _ in range(warm):
            work()
        halves = [_grown(work, times // 2) for _ in range(2)]
    finally:
        tracemalloc.stop()
    return 2 * min(grown for grown, _ in halves), 2 * min(resident for _, resident in halves)


def _grown(work: Callable[[], None], times: int) -> tuple[int, int]:
    gc.collect()
    before, resident = tracemalloc.get_traced_memory()[0], resident_bytes()
    for _ in range(times):
        work()
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before, resident_bytes() - resident
