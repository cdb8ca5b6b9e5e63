"""Running programs over a feed: the part of the backend contract (:mod:`wyrm.backend`) that is about many examples in one call.

* a :class:`Runner` runs one program;
* a :class:`JoinedRunner` is made of several: data of varying structure go through the program that fits them, and an
  optimizer's step follows each batch of runs;
* a :class:`Team` lets several threads share out the runs of each batch, and gives the same bits for any number of them.

A backend has to bring the first. The others have a plain meaning, which stands here in Python, on one thread; a native backend
does the same in native code.

An *order* says which examples each run takes: an array of int64, of shape (runs, examples of a run), C-contiguous. A program
that takes fewer examples, as that of a last, shorter run does, uses the first ones of its row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wyrm.whole import Uninterrupted

__all__ = ["JoinedRunner", "Order", "Runner", "Team", "shard_ends"]

#: Which examples each run takes.
Order = npt.NDArray[np.int64]


class Runner(ABC):
    """A program bound to buffers and a feed, for a caller who runs it many times in one call."""

    #: The sum of the outputs' first elements over the runs: of the losses. Set to 0 before each epoch.
    loss: float = 0.0
    #: In the keys of random inputs, the step of a run is ``first_step`` plus its first example. Set between calls.
    first_step: int = 0

    @abstractmethod
    def run(self, order: Order, start: int, stop: int) -> int:
        """Make the runs from ``start`` to before ``stop``, one after the other.

        For ``train`` each is one whole step; for ``accumulate``, forward and backward, which add to the gradient buffers; for
        ``evaluate``, forward, with the outputs put into the sinks; for ``update``, an optimizer's step.

        Several threads may call the ``run`` of runners that share parameters. A loss that is NaN or infinite, an index out of
        range, or a buffer that is too small ends the call before that run changes anything beside its workspace; the runs
        before it have had their effect.

        Returns
        -------
        int
            0, or a status of :class:`wyrm.memory.Report`; the report has the run's position in its last word.
        """


class JoinedRunner(Runner):
    """A runner made of others, all bound to the same gradient buffers.

    Parameters
    ----------
    parts
        Of programs of one purpose.
    update
        For ``accumulate``: the optimizer's step, which is made after each ``batch_size`` runs and after the last of the order;
        its position is the batch's number. ``None``: somebody else makes it.
    batch_size
        How many runs make a batch.

    Attributes
    ----------
    choice
        For each run of the order, the number of the part that makes it; ``None``: the first. Set before an order is run.
    failed
        The part that returned the last status; ``len(parts)``: the update did.
    position
        How far the last call has got: the runs before it are made, and the updates that follow them. It says so whatever ended
        the call, be it an exception that came to Python as native code returned.
    """

    def __init__(self, parts: Sequence[Runner], update: Runner | None = None, batch_size: int = 1) -> None:
        self.parts, self.update, self.batch_size = list(parts), update, batch_size
        self.choice: npt.NDArray[np.int64] | None = None
        self.failed = self.position = 0

    @property
    def loss(self) -> float:
        """The sum over the parts."""
        return sum(part.loss for part in self.parts)

    @loss.setter
    def loss(self, loss: float) -> None:
        for part in self.parts:
            part.loss = 0.0
        self.parts[0].loss = loss

    @property
    def first_step(self) -> int:
        """That of every part."""
        return self.parts[0].first_step

    @first_step.setter
    def first_step(self, step: int) -> None:
        for part in self.parts:
            part.first_step = step

    def run(self, order: Order, start: int, stop: int) -> int:
        """As :meth:`Runner.run`, each run by its part; ``start`` and ``stop`` may lie within a batch.

        Signals such as Ctrl-C wait until it is done, as they do for native code: no step is made by half.
        """
        with Uninterrupted():
            return self._make(order, start, stop)

    def _make(self, order: Order, start: int, stop: int) -> int:
        for position in range(start, stop):
            self.position = position
            number = 0 if self.choice is None else int(self.choice[position])
            status = self.parts[number].run(order, position, position + 1)
            if status:
                self.failed = number
                return status
            if self.update is not None and ((position + 1) % self.batch_size == 0 or position + 1 == len(order)):
                batch = position // self.batch_size
                status = self.update.run(order, batch, batch + 1)
                if status:
                    self.failed = len(self.parts)
                    return status
        self.position = stop
        return 0


def shard_ends(runs: int, shards: int) -> list[int]:
    """Where the shards of a batch of so many runs begin, and where the last one ends: shard s at ``runs * s // shards``."""
    return [runs * s // shards for s in range(shards + 1)]


class Team:
    """Threads that share out the runs of each batch.

    A batch is cut into shards, by its length alone (:func:`shard_ends`). Each shard's gradients are gathered in buffers of its
    own, run after run; then ``update`` merges the shards' gradients in order and makes the step. So the result is the
    same, to the bit, for any number of threads.

    Parameters
    ----------
    shards
        A runner for each, without update; each with gradient buffers and a workspace of its own.
    update
        The program that merges and steps; its position is the batch's number.
    batch_size
        How many runs make a batch.
    num_threads
        How many threads will call :meth:`run`.

    Attributes
    ----------
    failed
        The first shard that returned the last status; ``len(shards)``: the update did.
    """

    def __init__(self, shards: Sequence[JoinedRunner], update: Runner, batch_size: int, num_threads: int) -> None:
        self.shards, self.update = list(shards), update
        self.batch_size, self.num_threads = batch_size, num_threads
        self.failed = 0
        self._runs = 0

    @property
    def runs(self) -> list[int]:
        """How many runs each thread has made, of batches that were applied."""
        return [self._runs] + [0] * (self.num_threads - 1)

    def abandon(self) -> None:
        """Let no thread wait for the others any more, as one of them will not come: all return :data:`Report.ABANDONED`."""

    def run(self, thread: int, order: Order, start: int, stop: int) -> int:
        """Make the runs from ``start``, where a batch begins, to before ``stop``, where one ends.

        Called by threads 0 to ``num_threads - 1``, all with the same arguments. A batch in which a run fails is not applied,
        nor are its losses counted; what its runs have left in gradient buffers is for the caller to clear. Every thread
        returns the status of the first shard that has one. Here, thread 0 does all the work.
        """
        if thread:
            return 0
        for first in range(start, stop, self.batch_size):
            losses = [[part.loss for part in shard.parts] for shard in self.shards]
            length = min(self.batch_size, stop - first)
            status = self._run_batch(order, first, shard_ends(length, len(self.shards)))
            if status:
                for shard, kept in zip(self.shards, losses, strict=True):
                    for part, loss in zip(shard.parts, kept, strict=True):
                        part.loss = loss
                return status
            self._runs += length
        return 0

    def _run_batch(self, order: Order, first: int, ends: Sequence[int]) -> int:
        for number, shard in enumerate(self.shards):
            status = shard.run(order, first + ends[number], first + ends[number + 1])
            if status:
                self.failed = number
                return status
        self.failed = len(self.shards)
        batch = first // self.batch_size
        return self.update.run(order, batch, batch + 1)
