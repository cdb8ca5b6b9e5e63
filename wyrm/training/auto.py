"""The schedule ``auto`` without a seed: what the first slices of the real work show to be fastest."""

from __future__ import annotations

import time
from statistics import median

from wyrm.backend import Order
from wyrm.training.conflict_free import ConflictFree
from wyrm.training.crews import Crew, Hogwild, Progress, Work, WorkersCrew
from wyrm.training.runners import Choice

__all__ = ["Auto"]

#: Seconds of work on one thread, before which nothing else is tried.
_BEFORE = 0.01
#: Seconds of work in a slice that is measured, and how many of these each candidate gets.
_SLICE, _SLICES = 0.008, 3
#: How much faster than one thread others have to be.
_MARGIN = 1.05


class Auto(WorkersCrew):
    """Tries one thread, hogwild and, where admitted, conflict_free in turn, and goes on with the fastest.

    Which one that is does not change what a step computes. Where data are small, the trial goes on over several epochs.
    """

    def __init__(self, work: Work, num_threads: int, conflict_free: bool) -> None:
        super().__init__([work.worker() for _ in range(num_threads)])
        self.num_threads = 1  # until several have been tried
        self.candidates: list[Crew] = [Hogwild(self.workers[:1]), Hogwild(self.workers)]
        if conflict_free:
            self.candidates.append(ConflictFree(work, self.workers))
        self.chosen: Crew | None = None
        self.schedule, self.reason = "sequential", "too little work to try several threads"
        self._before = 0.0
        self._rates: list[list[float]] = [[] for _ in self.candidates]
        self._rate = 0.0

    def run(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> None:
        """Make the runs from ``start`` to before ``stop``, by the candidate whose turn it is or the chosen one."""
        while start < stop and self.chosen is None:
            start = self._try(order, choice, start, stop, progress)
        if start < stop and self.chosen is not None:
            self.chosen.run(order, choice, start, stop, progress)

    def _try(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> int:
        """Let a candidate make some runs, and see how long it takes; returns where the next ones begin."""
        self.num_threads = len(self.workers) if self._before >= _BEFORE else 1
        number = min(range(len(self.candidates)), key=lambda n: len(self._rates[n]))
        if self._before < _BEFORE:
            number = 0
            end = min(stop, start + self.workers[0].slice_length(stop - start))
        else:
            runs = max(1, int(self._rate * _SLICE) // self.batch_size) * self.batch_size
            end = min(stop, start + runs * (1 if number == 0 else len(self.workers)))
        began = time.perf_counter()
        self.candidates[number].run(order, choice, start, end, progress)
        seconds = max(time.perf_counter() - began, 1e-9)
        rate = (end - start) / seconds
        if self._before < _BEFORE:
            self._before += seconds
            self._rate = rate
        else:
            self._rates[number].append(rate)
            if all(len(rates) >= _SLICES for rates in self._rates):
                self._choose()
        return end

    def _choose(self) -> None:
        rates = [median(found) for found in self._rates]
        fastest = max(range(1, len(rates)), key=lambda n: rates[n])
        if rates[fastest] < _MARGIN * rates[0]:
            fastest = 0
        self.chosen = self.candidates[fastest]
        self.schedule, self.num_threads = self.chosen.schedule, self.chosen.num_threads
        threads = len(self.workers)
        names = ["one thread", f"hogwild on {threads} threads", f"conflict_free on {threads} threads"]
        measured = ", ".join(f"{name} {rate / rates[0]:.2f}" for name, rate in zip(names, rates, strict=False))
        self.reason = f"{names[fastest]} was chosen by the speed of the first slices: {measured}"
