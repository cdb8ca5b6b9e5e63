"""The schedule ``conflict_free``: threads at work at the same time touch different rows.

If every parameter is looked up by one of at most two index inputs, the rows of each of the two are dealt into blocks. An
example belongs to a pair of blocks; an epoch goes through stages, in which block b of one input meets block b + stage of the
other, so that the pairs of a stage share no row, and threads share them out (Gemulla, Nijkamp, Haas and Sismanis, KDD 2011).
There are as many blocks on every machine, and what is computed for a pair, and in which order, follows from the order of the
epoch alone: the same bits in every run, on any number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.backend import Order
from wyrm.program import Buffer, Program, Slot
from wyrm.training.crews import Progress, Work, WorkersCrew, run_threads
from wyrm.training.runners import Choice, Worker

__all__ = ["BLOCKS", "ConflictFree", "deal", "refuse_conflict_free"]

Array = npt.NDArray[Any]
#: Into how many blocks the rows of an input are dealt, whatever the number of threads; more threads have nothing to do.
BLOCKS = 8
#: Buffers that a step changes and other steps read.
_SHARED = ("value", "state", "clock")


def refuse_conflict_free(work: Work) -> str:
    """Why a model cannot have this schedule; empty where it can."""
    if work.batch_size > 1 or work.update is not None:
        return "a step must be made of one example, and not of a batch"
    if len(work.parts) > 1:
        return "examples of different structure go through several programs"
    if work.parts[0].examples > 1:
        return "a run must take one example, and not several as rows"
    if work.ordered:
        return "it arranges the examples, and shuffle=False asks for the order in which they stand"
    found = _inputs(work.parts[0].executable.program)
    return found if isinstance(found, str) else ""


def _inputs(program: Program) -> list[int] | str:
    """The index inputs by which parameters that change are looked up; or why this schedule is not possible."""
    stored = [slot for instruction in program.instructions for slot in instruction.results]
    changed = {_table(program, slot).number for slot in stored if _table(program, slot).kind == "value"}
    by: dict[int, int] = {}
    inputs = {i.slot: n for n, i in enumerate(program.inputs) if i.kind == "index"}
    for instruction in program.instructions:
        slots = [slot for slot in (instruction.out, *instruction.operands) if _table(program, slot).kind in _SHARED]
        if instruction.kernel in ("gather", "update_rows"):
            looked_up = [inputs[slot] for slot in instruction.operands if slot in inputs]
        else:
            looked_up = []
        for slot in slots:
            parameter, buffer = _table(program, slot).number, program.buffers[slot.buffer]
            if parameter not in changed:
                continue
            if any(program.buffers[s.buffer].kind == "clock" for s in slots):
                return f"momentum or weight_decay catches up rows of parameter {parameter} by a clock that all rows share"
            uses = [buffer.number] if buffer.table is not None else looked_up
            if len(uses) != 1:
                return f"every step changes or reads parameter {parameter} other than by looking up one row"
            if program.inputs[uses[0]].slot.shape != (1, 1):
                return f"parameter {parameter} is looked up by several indices at once"
            if by.setdefault(parameter, uses[0]) != uses[0]:
                return f"parameter {parameter} is looked up by two inputs"
    found = sorted(set(by.values()))
    if not found:
        return "no parameter is looked up by an index input"
    if len(found) > 2:
        return f"parameters are looked up by {len(found)} index inputs; two are the most"
    return found


def _table(program: Program, slot: Slot) -> Buffer:
    """The buffer that a slot is in, or is a row of."""
    buffer = program.buffers[slot.buffer]
    return buffer.table or buffer


def deal(indices: Array, blocks: int) -> Array:
    """The block of each row, for rows that occur as often as ``indices`` say: about as many examples in each block."""
    counts = np.bincount(indices)
    place = np.arange(len(counts)) % (2 * blocks)
    dealt = np.empty(len(counts), np.int64)
    dealt[np.argsort(-counts, kind="stable")] = np.minimum(place, 2 * blocks - 1 - place)  # there and back again
    return dealt


class ConflictFree(WorkersCrew):
    """Threads that go through an epoch in stages."""

    schedule = "conflict_free"

    def __init__(self, work: Work, workers: Sequence[Worker]) -> None:
        super().__init__(workers[:BLOCKS])
        part = work.parts[0]
        found = _inputs(part.executable.program)
        assert not isinstance(found, str)
        columns = [part.sources[number].rows(slice(None))[:, 0] for number in found]
        blocks = [deal(column, BLOCKS)[column] for column in columns]
        self.stages = BLOCKS if len(blocks) == 2 else 1
        #: For each example, its stage and block as one number: stage * BLOCKS + block.
        self.keys = ((blocks[-1] - blocks[0]) % BLOCKS * BLOCKS + blocks[0]).astype(np.uint8)
        self._losses = [0.0] * (self.stages * BLOCKS)

    @property
    def loss(self) -> float:
        """The sum of the losses of the epoch's runs so far: pair by pair, so threads make no difference to it."""
        return sum(self._losses)

    def begin_epoch(self, first_step: int) -> None:
        """Begin the sums of losses, and set the number of example 0 in the keys of random numbers."""
        super().begin_epoch(first_step)
        self._losses = [0.0] * len(self._losses)

    def arrange(self, order: Order) -> tuple[Order, Array]:
        """The order by stage and block, and where the runs of each begin and end; its number is ``stage * BLOCKS + block``."""
        keys = self.keys[order[:, 0]]
        ends = np.bincount(keys, minlength=self.stages * BLOCKS).cumsum()
        return order[np.argsort(keys, kind="stable")], np.concatenate([[0], ends])

    def run(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> None:
        """Make the runs from ``start`` to before ``stop``, arranged in stages."""
        arranged, ends = self.arrange(order[start:stop])
        order = np.concatenate([order[:start], arranged, order[stop:]]) if stop - start < len(order) else arranged
        _Stages(self, order, ends + start).run(progress)

    def run_pair(self, number: int, worker: Worker, order: Order, start: int, stop: int) -> None:
        """Make runs of the pair of a number; its losses are summed apart from the others'."""
        before, worker.runner.loss = worker.runner.loss, 0.0
        try:
            worker.run(order, None, start, stop)
        finally:
            self._losses[number] += worker.runner.loss
            worker.runner.loss += before


class _Stages:
    """One pass through the stages."""

    def __init__(self, crew: ConflictFree, order: Order, ends: Array) -> None:
        self.crew, self.order, self.ends = crew, order, [int(end) for end in ends]
        self.barrier = threading.Barrier(crew.num_threads)
        self.done = [0] * crew.num_threads
        self.shown = 0

    def work(self, thread: int) -> None:
        for stage in range(self.crew.stages):
            if stage:
                try:
                    self.barrier.wait()
                except threading.BrokenBarrierError:
                    return
            for block in range(thread, BLOCKS, self.crew.num_threads):
                self._pair(thread, stage * BLOCKS + block)

    def _pair(self, thread: int, number: int) -> None:
        worker = self.crew.workers[thread]
        start, end = self.ends[number], self.ends[number + 1]
        while start < end and not self.barrier.broken:
            stop = min(end, start + worker.slice_length(end - start))
            self.crew.run_pair(number, worker, self.order, start, stop)
            self.done[thread] += stop - start
            start = stop

    def run(self, progress: Progress) -> None:
        def tick() -> None:
            done = sum(self.done)
            progress(done - self.shown)
            self.shown = done

        functions = [partial(self.work, thread) for thread in range(self.crew.num_threads)]
        run_threads(functions, self.barrier.abort, tick)
