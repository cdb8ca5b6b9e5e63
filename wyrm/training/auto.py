"""The schedule ``auto`` where there is a choice: what the first slices of the real work show to be fastest.

The candidates differ in nothing that a user relies on: not in what an update computes and, with a seed, not in a bit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from wyrm.backend import Order
from wyrm.training.crews import Crew, Progress
from wyrm.training.runners import Choice

__all__ = ["Auto"]

#: Seconds of work on one thread, before which nothing else is tried.
_BEFORE = 0.01
#: Seconds of work in a slice that is measured, and how many of these each candidate gets.
_SLICE, _SLICES = 0.008, 3
#: How much faster than one thread others have to be.
_MARGIN = 1.05
#: Batches in the first slice, before anything is known of their cost.
_FIRST_SLICE = 8


class Auto(Crew):
    """Tries its candidates in turn, and goes on with the fastest. Where data are small, the trial goes on over several epochs.

    Parameters
    ----------
    candidates
        Crews over the same workers: first that of one thread, then at least one of several. The last accounts for the work of
        all.
    """

    def __init__(self, candidates: Sequence[Crew]) -> None:
        self.candidates = list(candidates)
        self.batch_size = self.candidates[0].batch_size
        self.num_threads = 1  # until several have been tried
        self.chosen: Crew | None = None
        self.schedule, self.reason = self.candidates[0].schedule, "too little work to try several threads"
        self._before = 0.0
        self._length = _FIRST_SLICE * self.batch_size
        self._rates: list[list[float]] = [[] for _ in self.candidates]

    @property
    def loss(self) -> float:
        """The sum of the losses of the epoch's runs so far."""
        return self.candidates[-1].loss

    @property
    def examples(self) -> list[int]:
        """How many each thread has run so far."""
        return self.candidates[-1].examples

    @property
    def steps(self) -> int:
        """How many updates have been made so far."""
        return self.candidates[-1].steps

    def begin_epoch(self, first_step: int) -> None:
        """Begin the sum of losses, and set the number of example 0 in the keys of random numbers."""
        self.candidates[-1].begin_epoch(first_step)

    def run(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> None:
        """Make the runs from ``start`` to before ``stop``, by the candidate whose turn it is or the chosen one."""
        while start < stop and self.chosen is None:
            start = self._try(order, choice, start, stop, progress)
        if start < stop and self.chosen is not None:
            self.chosen.run(order, choice, start, stop, progress)

    def _try(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> int:
        """Let a candidate make some runs, and see how long it takes; returns where the next ones begin."""
        early = self._before < _BEFORE
        number = 0 if early else min(range(len(self.candidates)), key=lambda n: len(self._rates[n]))
        crew = self.candidates[number]
        self.num_threads = max(self.num_threads, crew.num_threads)
        end = min(stop, start + self._length * (1 if early else crew.num_threads))
        began = time.perf_counter()
        crew.run(order, choice, start, end, progress)
        seconds = max(time.perf_counter() - began, 1e-9)
        if early:
            self._before += seconds
            fitting = int((end - start) * _SLICE / seconds) // self.batch_size
            self._length = max(1, min(fitting, 4 * self._length // self.batch_size)) * self.batch_size
        else:
            self._rates[number].append((end - start) / seconds)
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
        names = ["one thread", *(f"{crew.schedule} on {crew.num_threads} threads" for crew in self.candidates[1:])]
        measured = ", ".join(f"{name} {rate / rates[0]:.2f}" for name, rate in zip(names, rates, strict=True))
        self.reason = f"{names[fastest]} was chosen by the speed of the first slices: {measured}"
