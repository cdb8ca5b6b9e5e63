"""Instructions as Python functions, for backends that bring kernels only.

:class:`Steps` turns an instruction into a function of nothing over views of the buffers. Kernels that compute come from the
backend; those that move rows about, apply rules or draw random numbers are here, in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from wyrm.clocks import Clock
from wyrm.errors import BackendError
from wyrm.memory import BagBuffer, GradientBuffer, Memory
from wyrm.philox import draw, uniform
from wyrm.program import Instruction, Rule, Slot

__all__ = ["SUPPLIED", "KernelFunction", "Steps"]

Array = npt.NDArray[Any]
#: A kernel: arrays in, an array out.
KernelFunction = Callable[..., Array]
Step = Callable[[], None]

#: The kernels that this module supplies.
SUPPLIED = frozenset(
    {
        "copy",
        "gather",
        "scatter",
        "accumulate_rows",
        "pick",
        "place",
        "gather_bag",
        "scatter_bag",
        "accumulate_bag",
        "dropout_mask",
        "draw",
        "update",
        "update_rows",
        "update_gradient",
        "merge_gradient",
        "square_sum",
        "current",
        "current_rows",
        "current_bag",
        "tick",
    }
)


class Steps:
    """The instructions of a program over the buffers of a memory."""

    def __init__(self, kernels: Mapping[str, KernelFunction], memory: Memory) -> None:
        self.kernels, self.memory = kernels, memory

    def buffer(self, slot: Slot) -> Any:
        """The buffer that a slot lies in."""
        return self.memory.buffers[slot.buffer]

    def view(self, slot: Slot) -> Array:
        """The matrix that a slot names."""
        buffer = self.buffer(slot)
        if isinstance(buffer, GradientBuffer):
            buffer = buffer.require_dense()
        flat = buffer.reshape(-1)[slot.offset :]
        return as_strided(flat, slot.shape, (slot.stride * flat.itemsize, flat.itemsize))

    def step(self, instruction: Instruction) -> Step:
        """The instruction as a function of nothing."""
        name = instruction.kernel
        if name in SUPPLIED:
            step: Step = getattr(self, f"_{name}")(instruction)
            return step
        if name not in self.kernels:
            raise BackendError(f"there is no kernel {name!r}")
        operands = [self.view(slot) for slot in instruction.operands]
        attributes = dict(instruction.attributes)
        if name == "sum":
            axes = [axis for axis in (0, 1) if instruction.out.shape[axis] == 1 and operands[0].shape[axis] != 1]
            attributes["axis"] = axes[0] if len(axes) == 1 else None if axes else ()
        kernel = self.kernels[name]
        return self._storing(instruction, lambda: kernel(*operands, **attributes))

    def _storing(self, instruction: Instruction, compute: Callable[[], Array]) -> Step:
        """Compute a result, and store or add it."""
        out = self.view(instruction.out)

        def step() -> None:
            result = compute()
            if instruction.accumulate:
                np.add(out, result, out=out)
            else:
                out[...] = result

        return step

    # -- rows and bags

    def _copy(self, instruction: Instruction) -> Step:
        source = self.view(instruction.operands[0])
        return self._storing(instruction, lambda: source)

    def _gather(self, instruction: Instruction) -> Step:
        table, index = map(self.view, instruction.operands)
        return self._storing(instruction, lambda: table[index[:, 0]])

    def _scatter(self, instruction: Instruction) -> Step:
        index, rows = map(self.view, instruction.operands)
        return self._scattering(instruction, lambda: (index[:, 0], rows))

    def _pick(self, instruction: Instruction) -> Step:
        values, index = map(self.view, instruction.operands)
        return self._storing(instruction, lambda: np.take_along_axis(values, index, axis=1))

    def _place(self, instruction: Instruction) -> Step:
        index, values = map(self.view, instruction.operands)
        out = self.view(instruction.out)

        def step() -> None:
            if not instruction.accumulate:
                out[...] = 0
            out[np.arange(len(index)), index[:, 0]] += values[:, 0]

        return step

    def _scatter_bag(self, instruction: Instruction) -> Step:
        return self._scattering(instruction, self._bag_rows(instruction))

    def _scattering(self, instruction: Instruction, rows: Callable[[], tuple[Array, Array]]) -> Step:
        out = self.view(instruction.out)

        def step() -> None:
            if not instruction.accumulate:
                out[...] = 0
            np.add.at(out, *rows())

        return step

    def _accumulate_rows(self, instruction: Instruction) -> Step:
        gradient: GradientBuffer = self.buffer(instruction.out)
        index, rows = map(self.view, instruction.operands)
        return lambda: gradient.add_rows(index[:, 0], rows)

    def _accumulate_bag(self, instruction: Instruction) -> Step:
        gradient: GradientBuffer = self.buffer(instruction.out)
        rows = self._bag_rows(instruction)
        return lambda: gradient.add_rows(*rows())

    def _gather_bag(self, instruction: Instruction) -> Step:
        table, bag = self.view(instruction.operands[0]), self.buffer(instruction.operands[1])
        mean = dict(instruction.attributes).get("mean", False)

        def compute() -> Array:
            indices, owners, weights = _bag(bag, mean)
            result = np.zeros(instruction.out.shape, table.dtype)
            np.add.at(result, owners, weights[:, None] * table[indices])
            return result

        return self._storing(instruction, compute)

    def _bag_rows(self, instruction: Instruction) -> Callable[[], tuple[Array, Array]]:
        """The rows that the indices of a bag are to be given, from a row for each bag."""
        bag, rows = self.buffer(instruction.operands[0]), self.view(instruction.operands[1])
        mean = dict(instruction.attributes).get("mean", False)

        def compute() -> tuple[Array, Array]:
            indices, owners, weights = _bag(bag, mean)
            return indices, weights[:, None] * rows[owners]

        return compute

    def _dropout_mask(self, instruction: Instruction) -> Step:
        key, rate = map(self.view, instruction.operands)
        rows, cols = instruction.out.shape

        def compute() -> Array:
            kept = uniform(key[:, 0], rows * cols).reshape(rows, cols) >= rate
            return np.where(kept, 1 / (1 - rate), 0)

        return self._storing(instruction, compute)

    def _draw(self, instruction: Instruction) -> Step:
        out, options = self.view(instruction.out), dict(instruction.attributes)
        operands = iter(instruction.operands)
        key, outcome = self.view(next(operands)), self.view(next(operands))
        table = self.view(next(operands)) if options["weighted"] else None
        bag: BagBuffer | None = self.buffer(next(operands)) if options["excluding"] else None
        body = [self.step(repeated) for repeated in instruction.body]
        until = next((self.view(slot) for slot in operands), None)
        rows: int = options["rows"]

        def excluded(bag: BagBuffer, row: int) -> set[int]:
            number = row if len(bag.offsets) > 2 else 0  # the only bag is for all
            return set(bag.indices[bag.offsets[number] : bag.offsets[number + 1]].tolist())

        def put(row: int, drawn: int | None) -> None:
            out[row, 0] = 0 if drawn is None else drawn
            if drawn is None:
                outcome[0, 1] = 0

        def draw_once() -> None:
            outcome[0] = max(1, rows - 1), 1
            for row in range(len(out)):
                put(row, draw(key[:, 0], row, rows, table, set() if bag is None else excluded(bag, row)))

        def draw_until(until: Array) -> None:
            beside = set() if bag is None else excluded(bag, 0)
            for made in range(options["tries"]):
                last = made + 1 == options["tries"]
                outcome[0] = max(1, (rows - 1) // (made + 1)), 1
                put(0, draw(key[:, 0], made, rows, table, beside if last else ()))
                for repeated in body:
                    repeated()
                if until[0, 0] > 0 and outcome[0, 1] and int(out[0, 0]) not in beside:
                    return
            until[0, 0] = np.minimum(until[0, 0], 0)

        return draw_once if until is None else partial(draw_until, until)

    # -- updates

    def _update(self, instruction: Instruction) -> Step:
        target, gradient = self._target(instruction, 1), self.view(instruction.operands[0])
        return lambda: target.update(slice(None), gradient)

    def _update_rows(self, instruction: Instruction) -> Step:
        target = self._target(instruction, 2)
        index, rows = map(self.view, instruction.operands[:2])
        return lambda: target.update(index[:, 0], rows)

    def _update_gradient(self, instruction: Instruction) -> Step:
        target = self._target(instruction, 1)
        gradient: GradientBuffer = self.buffer(instruction.operands[0])

        def step() -> None:
            if gradient.touched:
                target.update(slice(None), gradient.gathered())
            elif gradient.count:
                target.update(*gradient.merged_rows())
            gradient.clear()
            gradient.header[10] += 1

        return step

    def _merge_gradient(self, instruction: Instruction) -> Step:
        target: GradientBuffer = self.buffer(instruction.out)
        source: GradientBuffer = self.buffer(instruction.operands[0])

        def step() -> None:
            if source.touched:
                np.add(target.require_dense(), source.require_dense(), out=target.require_dense())
                target.header[0] = 1
            target.add_rows(source.row_numbers[: source.count], source.row_values[: source.count])
            source.clear()

        return step

    def _square_sum(self, instruction: Instruction) -> Step:
        gradient: GradientBuffer = self.buffer(instruction.operands[0])
        frozen = [self.view(slot) for slot in instruction.operands[1:]]

        def compute() -> Array:
            rows, values = (slice(None), gradient.gathered()) if gradient.touched else gradient.merged_rows()
            for column in frozen:
                values = values[column[rows, 0] == 0]
            result: Array = np.sum(np.square(values)).reshape(1, 1)
            return result

        return self._storing(instruction, compute)

    def _current(self, instruction: Instruction) -> Step:
        table = self._table(instruction.operands)
        return self._storing(instruction, lambda: table.current(np.arange(len(table.value))))

    def _current_rows(self, instruction: Instruction) -> Step:
        table, index = self._table(instruction.operands), self.view(instruction.operands[3])
        return self._storing(instruction, lambda: table.current(index[:, 0]))

    def _current_bag(self, instruction: Instruction) -> Step:
        table, bag = self._table(instruction.operands), self.buffer(instruction.operands[3])
        mean = dict(instruction.attributes).get("mean", False)

        def compute() -> Array:
            indices, owners, weights = _bag(bag, mean)
            result = np.zeros(instruction.out.shape, table.value.dtype)
            np.add.at(result, owners, weights[:, None] * table.current(indices))
            return result

        return self._storing(instruction, compute)

    def _tick(self, instruction: Instruction) -> Step:
        moving, given, clock_slot = instruction.operands
        table, scalars = self._table((instruction.out, moving, clock_slot)), self.view(given)

        def step() -> None:
            table.catch_up(table.clock.tick(float(scalars[0, table.clock.rate])))

        return step

    def _table(self, slots: Sequence[Slot]) -> _Table:
        """A parameter of which rows may be behind: its value, its velocity and its clock."""
        value, moving, clock = slots[:3]
        return _Table(self.view(value), self.view(moving), self.buffer(clock))

    def _target(self, instruction: Instruction, first: int) -> _Target:
        """What an instruction updates: the operands from ``first`` on are the states, the scalars and a clock."""
        rule: Rule = dict(instruction.attributes)["rule"]
        slots = instruction.operands[first:]
        states = [self.view(slot) for slot in slots[: len(rule.states)]]
        scalars = self.view(slots[len(rule.states)])
        table = None
        if rule.catch_up is not None:
            velocity = rule.catch_up.state
            table = self._table((instruction.out, instruction.out if velocity is None else slots[velocity], slots[-1]))
        return _Target(self.kernels, rule, self.view(instruction.out), states, scalars, table)


class _Table:
    """A parameter of which rows may be behind."""

    def __init__(self, value: Array, moving: Array, clock: Clock) -> None:
        self.value, self.moving, self.clock = value, moving, clock

    def current(self, rows: Array) -> Array:
        """Rows as they are after all steps."""
        keep, move, _ = self.clock.missed(self.clock.last[rows])[:, :, None]
        values: Array = keep * self.value[rows]
        return values if self.clock.moving < 0 else values - move * self.moving[rows]

    def catch_up(self, rows: Array) -> None:
        """Make up for the steps that rows, all different, have missed."""
        rows = rows[self.clock.last[rows] < self.clock.now]
        if len(rows):
            self.value[rows] = self.current(rows)
            if self.clock.moving >= 0:
                self.moving[rows] = self.clock.missed(self.clock.last[rows])[2][:, None] * self.moving[rows]
            self.clock.last[rows] = self.clock.now


class _Target:
    """A parameter, with what a rule reads and writes beside it."""

    def __init__(
        self,
        kernels: Mapping[str, KernelFunction],
        rule: Rule,
        value: Array,
        states: list[Array],
        scalars: Array,
        table: _Table | None,
    ) -> None:
        self.kernels, self.rule = kernels, rule
        self.value, self.states, self.scalars, self.table = value, states, scalars, table

    def update(self, rows: Any, gradient: Array) -> None:
        """Update rows, all different, after they have been caught up."""
        if self.table is not None:
            self.table.catch_up(np.arange(len(self.value))[rows])
            clock = self.table.clock
            clock.last[rows] = np.maximum(clock.last[rows], clock.now + 1)
        self._apply(self.rule, rows, gradient)

    def _apply(self, rule: Rule, rows: Any, second: Array) -> None:
        dtype = self.value.dtype
        registers = [self.value[rows], second, *(state[rows] for state in self.states)]
        registers += [self.scalars[:, i : i + 1] for i in range(len(rule.scalars))]
        registers += [np.full((1, 1), literal, dtype) for literal in rule.literals]
        for step in rule.steps:
            operands = [registers[r] for r in step.operands]
            if step.kernel == "row_mean":
                full = np.broadcast_to(operands[0], registers[0].shape)
                result = self.kernels["sum"](full, axis=1) / dtype.type(full.shape[1])
            else:
                result = self.kernels[step.kernel](*operands)
            registers.append(np.asarray(result, dtype))  # a kernel may compute more precisely
        for target, register in zip((self.value, *self.states), rule.results, strict=True):
            target[rows] = registers[register]


def _bag(bag: BagBuffer, mean: bool) -> tuple[Array, Array, Array]:
    """The indices of all bags, the bag that each belongs to, and its weight."""
    count = bag.count
    lengths = np.diff(bag.offsets)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    weights = bag.weights[:count]
    if mean:
        sums, sizes = np.zeros((2, len(lengths)), weights.dtype)
        np.add.at(sums, owners, weights)
        np.add.at(sizes, owners, abs(weights))
        sums[np.isinf(sums)] = np.nan
        sums[(abs(sums) <= np.finfo(weights.dtype).eps * sizes) & (sizes < np.inf)] = np.inf
        weights = weights / sums[owners]
    return bag.indices[:count], owners, weights
