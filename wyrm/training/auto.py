"""The schedule ``auto`` where there is a choice: what the first slices of the real work show to be fastest.

The candidates differ in nothing that a user relies on: not in what an update computes and, with a seed, not in a bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from statistics import median

from wyrm.backend import Order
from wyrm.training.crews import Crew, Progress
from wyrm.training.runners import Choice

__all__ = ["Auto"]

#: Seconds of the processor's time on one thread, before which nothing else is tried.
_BEFORE = 0.01
#: Seconds of work in a slice that is measured.
_SLICE = 0.008
#: Rounds of a slice for each candidate: how many are made, how many at most where they contradict each other, and how many of
#: the last ones count.
_ROUNDS, _MOST_ROUNDS = 3, 9
#: How much faster than one thread others have to be.
_MARGIN = 1.05
#: Seconds after which several threads are compared with one thread once more.
_AGAIN = 1.0
#: Batches in the first slice, before anything is known of their cost.
_FIRST_SLICE = 8


class Auto(Crew):
    """Tries its candidates in turn, and goes on with the fastest. Where data are small, the trial goes on over several epochs.

    What counts is how fast a candidate is in comparison to one thread, which has been measured just before: so it makes no
    difference that a machine is faster at some times than at others. Where the rounds contradict each other there are more.
    Several threads, once chosen, are compared with one again from time to time.

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
        #: Of each candidate but the first: how many times as fast as one thread it was, by rounds.
        self._factors: list[deque[float]] = [deque(maxlen=_MOST_ROUNDS) for _ in self.candidates[1:]]
        self._alone = 0.0  # the speed of one thread in this round
        self._rounds = _ROUNDS
        self._turns: list[int] = []  # of the candidates that are still to be measured in this round
        self._compared = 0.0  # when that was last done

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
        if self.chosen not in (None, self.candidates[0]) and time.perf_counter() - self._compared > _AGAIN:
            self._rounds = 1
        while start < stop and (self._rounds or self._turns):
            start = self._try(order, choice, start, stop, progress)
        if start < stop and self.chosen is not None:
            self.chosen.run(order, choice, start, stop, progress)

    def _try(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> int:
        """Let a candidate make some runs, and see how long it takes; returns where the next ones begin."""
        early = self._before < _BEFORE
        if not early and not self._turns:
            self._turns = [0, *(range(1, len(self.candidates)) if self.chosen is None else [self._fastest()])]
            self._rounds -= 1
        number = 0 if early else self._turns[0]
        crew = self.candidates[number]
        self.num_threads = max(self.num_threads, crew.num_threads)
        end = min(stop, start + self._length * (1 if early else crew.num_threads))
        clock = time.process_time if early else time.perf_counter  # a process that waits has not worked
        began = clock()
        crew.run(order, choice, start, end, progress)
        seconds = max(clock() - began, 1e-9)
        if early:
            self._before += seconds
            fitting = int((end - start) * _SLICE / seconds) // self.batch_size
            self._length = max(1, min(fitting, 4 * self._length // self.batch_size)) * self.batch_size
            return end
        self._turns.pop(0)
        if number == 0:
            self._alone = (end - start) / seconds
        else:
            self._factors[number - 1].append((end - start) / seconds / self._alone)
        if not (self._turns or self._rounds):
            self._choose()
        return end

    def _fastest(self) -> int:
        """Which of the candidates on several threads was fastest."""
        return max(range(1, len(self.candidates)), key=lambda n: median(self._factors[n - 1]))

    def _choose(self) -> None:
        """Choose by what has been measured; where that is in doubt, ask for another round of the two that matter."""
        fastest = self._fastest()
        factors = self._factors[fastest - 1]
        better = median(factors) >= _MARGIN
        self.chosen = self.candidates[fastest if better else 0]
        self._compared = time.perf_counter()
        if len(factors) < _MOST_ROUNDS and min(factors) < _MARGIN <= max(factors):
            self._rounds = 1
        self.schedule, self.num_threads = self.chosen.schedule, self.chosen.num_threads
        names = ["one thread", *(f"{crew.schedule} on {crew.num_threads} threads" for crew in self.candidates[1:])]
        found = [1.0, *map(median, self._factors)]
        measured = ", ".join(f"{name} {factor:.2f}" for name, factor in zip(names, found, strict=True))
        self.reason = f"{names[fastest if better else 0]} was chosen by the speed of the first slices: {measured}"
