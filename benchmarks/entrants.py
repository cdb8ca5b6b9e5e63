"""Who takes part in which workload."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import wyrm
from benchmarks import by_fit, c_loops, from_python, numba_loops, numpy_loops, recommenders
from benchmarks.competitor import Competitor
from benchmarks.peers import programs
from benchmarks.workloads import Workload

__all__ = ["backends", "entrants", "thread_counts"]


def backends() -> list[str]:
    """All that load, the fastest first."""
    return [status.name for status in wyrm.backends() if status.state != "broken"]


def thread_counts() -> list[int]:
    """1, 2, 4 and so on, as far as there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [1 << n for n in range(cores.bit_length()) if 1 << n <= cores]


def entrants(workload: Workload, names: Sequence[str], with_peers: bool = False) -> list[Callable[[], Competitor]]:
    """Makers of the competitors; the others are compared to the first one."""
    if workload.key in recommenders.RECOMMENDERS:  # compared to the original, where it takes part
        originals = programs.competitors(workload, [1]) if with_peers else []
        return [*originals, *recommenders.competitors(workload, names)]
    return [
        *numpy_loops.competitors(workload),
        *c_loops.competitors(workload, thread_counts()),
        *numba_loops.competitors(workload, thread_counts()),
        *by_fit.competitors(workload, names, thread_counts()),
        *from_python.competitors(workload, names),
        *(programs.competitors(workload, thread_counts()) if with_peers else []),
    ]
