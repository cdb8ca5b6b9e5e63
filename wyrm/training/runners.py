"""Programs bound to a feed, with memory of their own: what one thread works with.

A :class:`Part` is a program with its data; a :class:`Worker` runs several, slice by slice, and makes a buffer larger where an
example needs that. How threads share out the work is in :mod:`wyrm.training.crews`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend, Executable, JoinedRunner, Order, Runner
from wyrm.errors import BackendError, NotFiniteError, OutOfRangeError
from wyrm.memory import BagBuffer, GradientBuffer, Memory, Report, Sink, Source
from wyrm.program import Buffer
from wyrm.whole import finish

__all__ = ["Choice", "Part", "Worker", "bind_part", "closer", "looks_closer", "recover"]

#: For each run of an order, the part that makes it; ``None``: the first.
Choice = npt.NDArray[np.int64] | None
#: Seconds that a slice is meant to take, and may never exceed by much.
_SLICE_SECONDS = 0.01
#: Runs in the first slice of a worker, before anything is known of their cost.
_FIRST_SLICE = 8


@dataclass
class Part:
    """A program, and what it runs over.

    Attributes
    ----------
    sources, sinks
        In the order of the program's inputs and outputs.
    examples
        How many a run takes.
    shared
        What workers share, by the program's buffers: values, states, clocks, scalars.
    parameters
        For each parameter of the program, its number in the whole model: gradients are a worker's own, and shared by its
        parts. ``None``: the same number.
    closely
        Makes of this part one that does the same, but ends a run for a gradient only if that is not finite, not if it is just
        very large. Without, the part itself is like that.
    """

    executable: Executable
    sources: Sequence[Source]
    sinks: Sequence[Sink] = ()
    examples: int = 1
    shared: Mapping[Buffer, Any] = field(default_factory=dict)
    parameters: Sequence[int] | None = None
    closely: Callable[[Part], Part] | None = None

    def parameter(self, number: int) -> int:
        """The number in the whole model."""
        return number if self.parameters is None else self.parameters[number]


def bind_part(part: Part, gradient: Callable[[int], GradientBuffer]) -> tuple[Memory, Runner]:
    """A runner of a part, with a workspace of its own, and ``gradient(p)`` for the gradient of the program's parameter p."""
    program = part.executable.program
    buffers: list[Any] = Memory.own(program)
    for buffer in program.buffers[2:]:
        if buffer.kind == "gradient":
            buffers.append(gradient(buffer.number))
        elif buffer.kind == "row":
            buffers.append(None)
        elif buffer.kind == "bag":
            buffers.append(BagBuffer(program.inputs[buffer.number].slot.shape[0], program.dtype))
        else:
            buffers.append(part.shared[buffer])
    memory = Memory(program, buffers)
    return memory, part.executable.bind_feed(memory, part.sources, part.sinks, part.examples)


def recover(memory: Memory, status: int) -> None:
    """Make room for an example that has more indices than any before, or raise what the status stands for."""
    words = [int(word) for word in memory.report.words]
    program = memory.program
    if status == Report.BAG_FULL:
        bag: BagBuffer = memory.buffers[program.inputs[words[1]].slot.buffer]
        if words[3] > len(bag.indices):
            bag.reserve(words[3] + words[3] // 2)
            return
    elif status == Report.ROWS_FULL:
        buffers = zip(program.buffers, memory.buffers, strict=True)
        lists = [b for kind, b in buffers if kind.kind == "gradient" and program.parameters[kind.number].gradient == "rows"]
        full = [gradient.extend(words[3] + words[3] // 2) for gradient in lists]  # each of them
        if any(full):
            return
    if status == Report.NOT_FINITE:
        message = f"the loss of example {words[1]} is NaN or infinite; its update was not applied"
        raise NotFiniteError(message, example=words[1])
    elif status == Report.INDEX_OUT_OF_RANGE:
        raise OutOfRangeError(f"input {words[1]}, place {words[2]}: index {words[3]} is outside its table")
    else:
        raise BackendError(f"the runner returned status {status}: {words}")


def looks_closer(parts: Sequence[Part]) -> bool:
    """Whether runs that parts end for a gradient may have finite ones."""
    return all(part.closely is not None for part in parts)


def closer(parts: Sequence[Part]) -> list[Part]:
    """Parts that look at each gradient itself."""
    return [part if part.closely is None else part.closely(part) for part in parts]


class Worker:
    """Parts with memory of their own, for one thread.

    Parameters
    ----------
    parts
        Of programs of one purpose.
    update
        The step that follows each batch, where the parts' programs gather gradients.
    batch_size
        How many runs make a batch: for so many, gradients have room.
    gradients
        Those of another worker, which takes turns with this one.

    Attributes
    ----------
    gradients
        By the parameters' numbers in the whole model.
    examples, steps
        How many it has run, and how many updates it has made.
    """

    def __init__(
        self,
        backend: Backend,
        parts: Sequence[Part],
        update: Part | None = None,
        batch_size: int = 1,
        gradients: dict[int, GradientBuffer] | None = None,
    ) -> None:
        self.backend, self.parts, self.update, self.batch_size = backend, list(parts), update, batch_size
        self.gradients = {} if gradients is None else gradients
        #: Makes the runs for which this one's parts suspect a gradient that is not finite.
        self._closer: Worker | None = None
        self.memories: list[Memory] = []
        runners = [self._bind(part) for part in self.parts]
        step = None if update is None else self._bind(update)
        self._make_room()
        self.runner: JoinedRunner = backend.join(runners, step, batch_size)
        self._sizes = np.array([part.examples for part in self.parts])
        self._length = _FIRST_SLICE
        self.examples = self.steps = 0

    def _bind(self, part: Part) -> Runner:
        program = part.executable.program

        def gradient(number: int) -> GradientBuffer:
            buffer = GradientBuffer(program.parameters[number].shape, program.dtype)
            return self.gradients.setdefault(part.parameter(number), buffer)

        memory, runner = bind_part(part, gradient)
        self.memories.append(memory)
        return runner

    def _make_room(self) -> None:
        rows = dict.fromkeys(self.gradients, 0)
        for part in self.parts:
            for number, use in enumerate(part.executable.program.parameters):
                if use.gradient == "rows":
                    parameter = part.parameter(number)
                    rows[parameter] = max(rows[parameter], use.rows_per_pass)
        for parameter, each in rows.items():
            if each:
                self.gradients[parameter].extend(each * self.batch_size)

    def run(self, order: Order, choice: Choice, start: int, stop: int) -> None:
        """Run a slice; raises what the report says. What was made is counted, whatever ends it."""
        began, runner = time.perf_counter(), self.runner
        if runner.choice is not choice:
            runner.choice = choice
        steps, examples = self.steps, self.examples
        runner.position = position = start

        def count() -> None:
            self.steps = steps + self._steps(order, start, runner.position)
            self.examples = examples + self._examples(choice, start, runner.position)

        try:
            while position < stop and (status := runner.run(order, position, stop)):
                if status == Report.NOT_FINITE and looks_closer(self.parts):
                    self._run_closely(order, choice, runner.position)
                else:
                    recover(self.memories[runner.failed], status)
                position = runner.position
        finally:
            finish(count)
        seconds = max(time.perf_counter() - began, 1e-9)
        fitting = (stop - start) * _SLICE_SECONDS / seconds
        self._length = max(1, min(int(fitting), 4 * self._length, 1 << 22))

    def _run_closely(self, order: Order, choice: Choice, position: int) -> None:
        """Make a run, unless a gradient is not finite indeed, which is raised."""
        if self._closer is None:
            self._closer = Worker(self.backend, closer(self.parts), self.update, self.batch_size, self.gradients)
        runner = self._closer.runner
        runner.loss, runner.first_step = 0.0, self.runner.first_step
        try:
            self._closer.run(order, choice, position, position + 1)
        finally:
            self.runner.position = runner.position
        self.runner.loss += runner.loss

    def _steps(self, order: Order, start: int, stop: int) -> int:
        """The updates of a stretch of runs."""
        last = stop == len(order) and start < stop and stop % self.batch_size > 0  # a shorter batch
        return stop // self.batch_size - start // self.batch_size + last

    def _examples(self, choice: Choice, start: int, stop: int) -> int:
        """Those of a stretch of runs."""
        sizes = self._sizes
        return (stop - start) * int(sizes[0]) if choice is None else int(sizes[choice[start:stop]].sum())

    def slice_length(self, remaining: int, workers: int = 1) -> int:
        """How many runs to take next, whole batches; towards the end less, so that all workers end together."""
        length = min(self._length, -(-remaining // (2 * workers)) if workers > 1 else remaining)
        return max(1, length // self.batch_size) * self.batch_size
