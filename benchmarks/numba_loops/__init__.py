"""The loops in Python, compiled by Numba with ``fastmath``: the same as those in ``c/``, one module each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from benchmarks.by_hand import ByHand, Function
from benchmarks.competitor import NotHereError
from benchmarks.workloads import Workload

__all__ = ["competitors"]

_MODULES = {
    "w1": "regression",
    "w2": "factorization",
    "w3": "lstm",
    "w4": "lstm",
    "w5": "factorization",
    "w5-large": "factorization",
    "w6": "skip_gram",
    "w7": "logistic",
    "w8": "perceptron",
}


def competitors(workload: Workload, threads: list[int]) -> list[Callable[[], ByHand]]:
    """Makers of what takes part in a workload."""
    counts = threads if workload.threads else [1]
    return [lambda t=t: ByHand(workload, "Numba by hand", _function(workload.key, t), t) for t in counts]


def _function(key: str, threads: int) -> Function:
    try:
        module = import_module(f"benchmarks.numba_loops.{_MODULES[key]}")
    except ImportError as error:
        raise NotHereError(f"Numba cannot be imported: {error}") from None
    train: Function = module.train_fours if key == "w3" else module.train

    def on_threads(*arguments: Any) -> float:
        *arrays, start, stop = arguments
        bounds = [start + (stop - start) * n // threads for n in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda n: train(*arrays, bounds[n], bounds[n + 1]), range(threads)))

    return train if threads == 1 else on_threads
