"""The schedule ``auto`` where there is a choice: what the first slices of the real work show to be fastest.

The candidates differ in nothing that a user relies on: not in what an update computes and, with a seed, not in a bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

from wyrm.backend import Order
from wyrm.training.crews import Crew, Progress
from wyrm.training.runners import Choice

__all__ = ["Auto", "Trial"]

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


class Trial:
    """What has been found out about candidates: which of them was chosen, or whose turn it is.

    What counts is how fast a candidate is in comparison to one thread, which has been measured just before: so it makes no
    difference that a machine is faster at some times than at others. Where the rounds contradict each other there are more.
    Several threads, once chosen, are compared with one again from time to time.

    Attributes
    ----------
    chosen
        The number of the candidate that was; ``None`` until there have been enough rounds.
    reason
        Why it was that one.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._forget()

    def _forget(self) -> None:
        self.chosen: int | None = None
        self.reason = "too little work to try several threads"
        self._before = 0.0
        self._batches = _FIRST_SLICE
        #: Of each candidate but the first: how many times as fast as one thread it was, by rounds.
        self._factors: list[deque[float]] = [deque(maxlen=_MOST_ROUNDS) for _ in self._names[1:]]
        self._alone = 0.0  # the speed of one thread in this round
        self._rounds = _ROUNDS
        self._turns: list[int] = []  # of the candidates that are still to be measured in this round
        self._compared = 0.0  # when that was last done

    def begin(self, candidates: Sequence[Crew]) -> None:
        """Try these: whether they are the same as before, only over other data, or not."""
        names = ["one thread", *(f"{crew.schedule} on {crew.num_threads} threads" for crew in candidates[1:])]
        if names != self._names:
            self._names = names
            self._forget()

    def is_on(self) -> bool:
        """Whether there is something to measure."""
        if self.chosen and not self._turns and time.perf_counter() - self._compared > _AGAIN:
            self._rounds = 1
        return bool(self._rounds or self._turns)

    def measure(self, candidates: Sequence[Crew], run: Callable[[Crew, int], int]) -> None:
        """Let a candidate work for a slice; ``run`` is told how many batches, and returns how many there were."""
        early = self._before < _BEFORE
        if not early and not self._turns:
            self._turns = [0, *(range(1, len(candidates)) if self.chosen is None else [self._fastest()])]
            self._rounds -= 1
        number = 0 if early else self._turns[0]
        clock = time.process_time if early else time.perf_counter  # a process that waits has not worked
        began = clock()
        batches = run(candidates[number], self._batches * (1 if early else candidates[number].num_threads))
        seconds = max(clock() - began, 1e-9)
        if early:
            self._before += seconds
            self._batches = max(1, min(int(batches * _SLICE / seconds), 4 * self._batches))
            return
        self._turns.pop(0)
        if number == 0:
            self._alone = batches / seconds
        else:
            self._factors[number - 1].append(batches / seconds / self._alone)
        if not (self._turns or self._rounds):
            self._choose()

    def _fastest(self) -> int:
        """Which of the candidates on several threads was fastest."""
        return max(range(1, len(self._names)), key=lambda n: median(self._factors[n - 1]))

    def _choose(self) -> None:
        """Choose by what has been measured; where that is in doubt, ask for another round of the two that matter."""
        fastest = self._fastest()
        factors = self._factors[fastest - 1]
        self.chosen = fastest if median(factors) >= _MARGIN else 0
        self._compared = time.perf_counter()
        if len(factors) < _MOST_ROUNDS and min(factors) < _MARGIN <= max(factors):
            self._rounds = 1
        found = [1.0, *map(median, self._factors)]
        measured = ", ".join(f"{name} {factor:.2f}" for name, factor in zip(self._names, found, strict=True))
        self.reason = f"{self._names[self.chosen]} was chosen by the speed of the first slices: {measured}"


class Auto(Crew):
    """Tries its candidates in turn, and goes on with the fastest. Where data are small, the trial goes on over several epochs.

    Parameters
    ----------
    candidates
        Crews over the same workers: first that of one thread, then at least one of several. The last accounts for the work of
        all.
    trial
        What has been found out before, of candidates over other data: in a stream, over the chunks before.
    """

    def __init__(self, candidates: Sequence[Crew], trial: Trial) -> None:
        self.candidates, self.trial = list(candidates), trial
        self.batch_size = self.candidates[0].batch_size
        trial.begin(self.candidates)
        self.num_threads = 1  # until several have been tried
        self._schedules: set[str] = set()
        self._tell()

    def _tell(self) -> None:
        crew = self.candidates[self.trial.chosen or 0]
        self.schedule, self.reason = crew.schedule, self.trial.reason
        if self.trial.chosen is not None:
            self.num_threads = crew.num_threads

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

        def slice_of(crew: Crew, batches: int) -> int:
            nonlocal start
            began, start = start, min(stop, start + batches * self.batch_size)
            self.num_threads = max(self.num_threads, crew.num_threads)
            self._ran(crew)
            crew.run(order, choice, began, start, progress)
            return -(-(start - began) // self.batch_size)

        while start < stop and self.trial.is_on():
            self.trial.measure(self.candidates, slice_of)
            self._tell()
        if start < stop:
            chosen = self.candidates[self.trial.chosen or 0]
            self._ran(chosen)
            chosen.run(order, choice, start, stop, progress)

    def _ran(self, crew: Crew) -> None:
        """Take note of a candidate that works: once two schedules have, neither alone computes the same again."""
        self._schedules.add(crew.schedule)
        self.repeatable = self.repeatable and crew.repeatable and len(self._schedules) == 1
