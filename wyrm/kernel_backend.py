"""Backends that bring kernels only: :class:`KernelBackend` does the rest, in Python over NumPy arrays.

A kernel is a function of arrays that returns an array, with the meaning that :data:`wyrm.kernels.KERNELS` gives it::

    class MyBackend(KernelBackend):
        kernels = {"add": lambda a, b: a + b, ..., "sum": lambda a, axis: a.sum(axis=axis, keepdims=True)}

This module supplies passes and runs, and :mod:`wyrm.kernel_steps` what instructions need beside kernels: slots as views,
accumulation, rows of tables, row-sparse gradients, update rules. It is the plainest reading of the contract, and slow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend, Executable, Order, Pass, Runner
from wyrm.errors import BackendError
from wyrm.kernel_steps import SUPPLIED, KernelFunction, Step, Steps
from wyrm.kernels import KERNELS
from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, BagSource, GradientBuffer, Memory, Report, Sink, Source
from wyrm.program import Program
from wyrm.room import require_room

__all__ = ["REQUIRED_KERNELS", "KernelBackend", "KernelFunction"]

Array = npt.NDArray[Any]

#: The kernels that a subclass of :class:`KernelBackend` must bring.
REQUIRED_KERNELS = frozenset(k.name for k in KERNELS.values() if not k.optional) - SUPPLIED


class KernelBackend(Backend):
    """A backend made of NumPy-style kernels.

    Attributes
    ----------
    kernels
        A function for each of :data:`REQUIRED_KERNELS`, and for each optional kernel that the declaration names. It takes the
        operands (2-D arrays, of any strides) and the instruction's attributes by name, and returns the result, an array that
        it does not change later. ``sum`` takes ``axis``: 0, 1, ``None`` for both, or ``()`` for none; it keeps the summed axes
        with length 1.
    """

    kernels: ClassVar[Mapping[str, KernelFunction]]

    def compile(self, program: Program) -> Executable:
        """Check that the kernels are there, and no more."""
        self.check(program)
        missing = (REQUIRED_KERNELS | self.capabilities.kernels) - set(self.kernels)
        if missing:
            raise BackendError(f"backend {self.name!r} lacks kernels that it must have: {', '.join(sorted(missing))}")
        return _KernelExecutable(program, self.kernels)


class _KernelExecutable(Executable):
    def __init__(self, program: Program, kernels: Mapping[str, KernelFunction]) -> None:
        super().__init__(program)
        self.kernels = kernels

    def bind(self, memory: Memory, cells: Sequence[int] = ()) -> Pass:
        require_room(self.program, memory)
        return _KernelPass(_Bound(self, memory), cells)

    def bind_feed(self, memory: Memory, sources: Sequence[Source], sinks: Sequence[Sink] = (), examples: int = 1) -> Runner:
        require_room(self.program, memory, sources, sinks, examples)
        return _KernelRunner(_Bound(self, memory), sources, sinks, examples)


class _Bound:
    """A program's instructions over views of its buffers, ready to be run."""

    def __init__(self, executable: _KernelExecutable, memory: Memory) -> None:
        self.program, self.memory = executable.program, memory
        steps = Steps(executable.kernels, memory)
        self.inputs: list[Any] = [steps.buffer(i.slot) if i.kind == "bag" else steps.view(i.slot) for i in self.program.inputs]
        self.outputs = [steps.view(slot) for slot in self.program.outputs]
        self.seed = None if self.program.seed is None else steps.view(self.program.seed)
        self.forward = [steps.step(i) for i in self.program.forward]
        self.backward = [steps.step(i) for i in self.program.backward]
        self.update = [steps.step(i) for i in self.program.update]
        self.gradients = [
            (self.program.parameters[b.number], memory.buffers[n])
            for n, b in enumerate(self.program.buffers)
            if b.kind == "gradient"
        ]
        #: Gradients with those that a step merges into them.
        self.merged: dict[int, list[GradientBuffer]] = {}
        for i in self.program.update:
            if i.kernel == "merge_gradient":
                self.merged.setdefault(i.out.buffer, []).append(steps.buffer(i.operands[0]))

    # -- inputs; these return a status

    def load(self, number: int, value: Any) -> int:
        """Put an input's value where the program expects it."""
        expected, target = self.program.inputs[number], self.inputs[number]
        values = np.asarray(value).reshape(target.shape)
        if expected.kind == "index":
            status = self._check(number, values.reshape(-1), expected.limit)
            if status:
                return status
        target[...] = values
        return 0

    def load_bags(self, number: int, source: BagSource, examples: Sequence[int] = (0,)) -> int:
        """Copy the bags of examples, which have as many each."""
        bag: BagBuffer = self.inputs[number]
        each = (len(bag.offsets) - 1) // len(examples)
        bags = np.concatenate([np.arange(each * example, each * (example + 1)) for example in examples])
        begins, ends = source.begins[bags], source.ends[bags]
        wrong = (begins < 0) | (ends < begins) | (ends > len(source.values))
        if wrong.any():
            place = int(wrong.argmax())
            return self.memory.report.set(Report.ORDER_OUT_OF_RANGE, number, place, int(ends[place]))
        lengths = ends - begins
        count = int(lengths.sum())
        if count > len(bag.indices):
            return self.memory.report.set(Report.BAG_FULL, number, 0, count)
        bag.offsets[1:] = np.cumsum(lengths)
        places = np.arange(count) + np.repeat(begins - bag.offsets[:-1], lengths)
        indices = source.values[places]
        status = self._check(number, indices, self.program.inputs[number].limit)
        if status:
            return status
        bag.indices[:count] = indices
        bag.weights[:count] = 1 if source.weights is None else source.weights[places]
        bag.header[0] = count
        return 0

    def _check(self, number: int, indices: Array, limit: int) -> int:
        wrong = np.flatnonzero((indices < 0) | (indices >= limit))
        if len(wrong):
            place = int(wrong[0])
            return self.memory.report.set(Report.INDEX_OUT_OF_RANGE, number, place, int(indices[place]))
        return 0

    def load_key(self, number: int, words: Array, step: int) -> int:
        """Put together the key of a random input."""
        self.inputs[number][:, 0] = *words, step
        return 0

    # -- gradients

    def claim(self) -> int:
        """Check that gradients have room for what is to be added, and mark what becomes dense; returns a status."""
        for use, gradient in self.gradients:
            if use.gradient == "rows":
                needed = use.rows_per_pass + sum(self.inputs[number].count for number in use.bags)
                if gradient.count + needed > len(gradient.row_numbers):
                    return self.memory.report.set(Report.ROWS_FULL, value=needed)
        for number, others in self.merged.items():
            target: GradientBuffer = self.memory.buffers[number]
            needed = sum(other.count for other in others)
            if target.count + needed > len(target.row_numbers):
                return self.memory.report.set(Report.ROWS_FULL, value=needed)
            if target.dense is None and any(other.touched for other in others):
                return self.memory.report.set(Report.NO_MATRIX)
        for use, gradient in self.gradients:
            if use.gradient == "dense":
                gradient.header[0] = 1
        return 0

    @property
    def step_number(self) -> int:
        """How many steps have been made with the gradients of the program's parameters."""
        return int(self.gradients[0][1].header[10]) if self.gradients else 0


def _run(steps: Sequence[Step]) -> None:
    with np.errstate(all="ignore"):
        for step in steps:
            step()


class _KernelPass(Pass):
    def __init__(self, bound: _Bound, cells: Sequence[int]) -> None:
        self.bound = bound
        self.cells = list(cells)

    def forward(self, leaves: Leaves) -> int:
        bound = self.bound
        for number, (cell, expected) in enumerate(zip(self.cells, bound.program.inputs, strict=True)):
            value = leaves.read(cell, expected.kind)
            if expected.kind == "bag":
                status = bound.load_bags(number, value)
            elif expected.kind == "random":
                status = bound.load_key(number, value, bound.step_number)
            else:
                status = bound.load(number, value)
            if status:
                return status
        _run(bound.forward)
        if bound.program.purpose == "update" and bound.outputs and not np.isfinite(bound.outputs[0][0, 0]):
            return bound.memory.report.set(Report.NOT_FINITE)
        _run(bound.update)
        return 0

    def backward(self, weight: float) -> int:
        bound = self.bound
        if bound.seed is not None:
            seed = math.copysign(weight, weight)  # a TypeError for what is no number, as in native code
            status = bound.claim()
            if status:
                return status
            with np.errstate(over="ignore"):
                bound.seed[...] = seed
            _run(bound.backward)
        return 0


class _KernelRunner(Runner):
    def __init__(self, bound: _Bound, sources: Sequence[Source], sinks: Sequence[Sink], examples: int) -> None:
        self.bound, self.sources, self.sinks = bound, sources, sinks
        self.examples = 0 if bound.program.purpose == "update" else examples
        self.loss = 0.0

    def run(self, order: Order, start: int, stop: int) -> int:
        bound = self.bound
        training = bound.program.purpose in ("train", "accumulate")
        for position in range(start, stop):
            examples = order[position, : self.examples].tolist()
            status = self._check(examples, position) or self._load(examples, position)
            loss = 0.0
            if not status:
                _run(bound.forward)
                loss = float(bound.outputs[0][0, 0]) if training else 0.0
                if not np.isfinite(loss):
                    status = bound.memory.report.set(Report.NOT_FINITE, examples[0])
            if not status:
                status = bound.claim()
            if status:
                bound.memory.report.words[4] = position
                return status
            self.loss += loss
            _run(bound.backward)
            _run(bound.update)
            for sink, output in zip(self.sinks, bound.outputs, strict=False):
                sink.array[examples] = output.reshape(self.examples, -1)
        return 0

    def _check(self, examples: list[int], position: int) -> int:
        """Whether every source has what the run takes of it; returns a status."""
        for source in self.sources:
            wanted = [] if source.constant else [position] if source.by_position else examples
            for example in wanted:
                if not 0 <= example < len(source):
                    return self.bound.memory.report.set(Report.ORDER_OUT_OF_RANGE, value=example)
        return 0

    def _load(self, examples: list[int], position: int) -> int:
        bound = self.bound
        for number, source in enumerate(self.sources):
            if source.bags is not None:
                status = bound.load_bags(number, source.bags, examples)
            elif bound.program.inputs[number].kind == "random":
                status = bound.load_key(number, source.array[0], self.first_step + examples[0])
            else:
                place = 0 if source.constant else position if source.by_position else None
                status = bound.load(number, source.rows(examples) if place is None else source.array[place])
            if status:
                return status
        return 0
