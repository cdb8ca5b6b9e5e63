"""What takes part in the benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter, process_time

from benchmarks.workloads import Workload

__all__ = ["Competitor", "NotHereError"]


class NotHereError(Exception):
    """A competitor that cannot take part on this machine, and why."""


class Competitor(ABC):
    """One way to do a workload's training, with parameters of its own.

    Attributes
    ----------
    name
        In the report.
    threads
        How many it works on.
    whole_epochs
        Whether each call makes something ready, so that whole epochs are timed even if a turn gets long.
    at_least
        So many examples are a turn at least.
    getting_ready
        Seconds that all its calls together took before they began to train; where it tells that apart.
    peer
        Whether it is a program by others.
    tolerance
        Relative, of the sum of its first losses: float32 rounds otherwise in another order, and threads meet in another order.
    """

    whole_epochs = False
    at_least = 1
    getting_ready = 0.0
    peer = False

    def __init__(self, workload: Workload, name: str, threads: int = 1) -> None:
        self.workload, self.name, self.threads = workload, name, threads
        self.tolerance = 2e-5 if threads == 1 else 1e-2

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of work: on one thread what the processor spent on it, on several what the wall clock says."""
        return process_time if self.threads == 1 else perf_counter

    @abstractmethod
    def first_losses(self) -> float | None:
        """The sum of the first ``workload.checked`` losses, trained one by one from the initial values; ``None``: unknown."""

    @abstractmethod
    def run(self, start: int, stop: int) -> None:
        """Train on the examples from ``start`` to ``stop``."""

    def repeat(self, times: int) -> None:
        """Train on all examples, so many times over."""
        for _ in range(times):
            self.run(0, self.workload.epoch)

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Let go of what is held."""
