"""Faults that begin with many: bags, row numbers, contributions, examples of a run, steps that rows have missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wyrm import kernel_backend, kernel_steps
from wyrm.clocks import Clock
from wyrm.kernel_steps import Steps
from wyrm.memory import BagBuffer, BagSource, GradientBuffer
from wyrm_conformance.context import Array
from wyrm_conformance.faults.chains import _back, _copy, with_chains
from wyrm_conformance.faults.subject import backend_fault, patch_fault

_bag, _gather, _pick = kernel_steps._bag, Steps._gather, Steps._pick
_merged, _add_rows, _missed = GradientBuffer.merged_rows, GradientBuffer.add_rows, Clock.missed


def _bags_up_to(limit: int) -> Callable[[BagBuffer, bool], tuple[Array, Array, Array]]:
    def wrong(bag: BagBuffer, mean: bool) -> tuple[Array, Array, Array]:
        indices, owners, weights = _bag(bag, mean)
        return indices[owners < limit], owners[owners < limit], weights[owners < limit]

    return wrong


for _limit in (64, 256, 65_536):
    patch_fault(f"bags beyond {_limit:,} are empty", "kernels/many bags", target=kernel_steps, _bag=_bags_up_to(_limit))


def _short_bags(bag: BagBuffer, mean: bool) -> tuple[Array, Array, Array]:
    indices, owners, weights = _bag(bag, mean)
    place = np.arange(len(owners)) - bag.offsets[owners]
    return indices[place < 2**16], owners[place < 2**16], weights[place < 2**16]


patch_fault("bags end after 65,536 indices", "kernels/many bags", target=kernel_steps, _bag=_short_bags)


def _gather_low(self: Any, instruction: Any) -> Any:
    table, index = map(self.view, instruction.operands)
    return self._storing(instruction, lambda: table[index[:, 0] & 0xFFFF])


def _pick_low(self: Any, instruction: Any) -> Any:
    values, index = map(self.view, instruction.operands)
    return self._storing(instruction, lambda: np.take_along_axis(values, index & 0xFFFF, axis=1))


patch_fault("rows are looked up by 16 bits of their numbers", "kernels/many rows", target=Steps, _gather=_gather_low)
patch_fault("elements are picked by 16 bits of their numbers", "kernels/many rows", target=Steps, _pick=_pick_low)
backend_fault(
    "rows are changed by 16 bits of their numbers",
    "kernels/lookup",
    make=lambda: with_chains(
        lambda row, table, number: _copy(row, table, number & 0xFFFF),
        lambda table, row, number: _back(table, row, number & 0xFFFF),
    ),
)


def _merged_low(bits: int) -> Callable[[GradientBuffer], tuple[Array, Array]]:
    """Rows are taken for one where so many bits of their numbers are the same: for the first of them."""

    def wrong(self: GradientBuffer) -> tuple[Array, Array]:
        numbers = self.row_numbers[: self.count]
        _, first, place = np.unique(numbers & ((1 << bits) - 1), return_index=True, return_inverse=True)
        values = np.zeros((len(first), self.shape[1]), self.dtype)
        np.add.at(values, place.reshape(-1), self.row_values[: self.count])
        return numbers[first], values

    return wrong


for _bits in (8, 16):
    patch_fault(
        f"rows are the same if {_bits} bits of their numbers are",
        "sparse/many rows",
        target=GradientBuffer,
        merged_rows=_merged_low(_bits),
    )


def _few_distinct(self: GradientBuffer) -> tuple[Array, Array]:
    numbers, values = _merged(self)
    return (numbers[:256], values[:256]) if values.shape[1] == 1 else (numbers, values)


patch_fault(
    "a step takes 256 distinct rows of one number", "sparse/many rows", target=GradientBuffer, merged_rows=_few_distinct
)
patch_fault(
    "gradients gather 65,536 rows of a look-up",
    "kernels/many rows",
    "sparse/many rows",
    target=GradientBuffer,
    add_rows=lambda self, numbers, values: _add_rows(self, numbers[: 2**16], values[: 2**16]),
)
_KernelRunner = kernel_backend._KernelRunner
_run, _load, _load_bags = _KernelRunner.run, _KernelRunner._load, kernel_backend._Bound.load_bags


def _eight_loaded(self: Any, examples: list[int], position: int) -> int:
    return _load(self, [*examples[:8], *([examples[0]] * (len(examples) - 8))], position)


def _bags_of_eight(self: Any, number: int, source: BagSource, examples: Sequence[int] = (0,)) -> int:
    return _load_bags(self, number, source, [*examples[:8], *([examples[0]] * (len(examples) - 8))])


patch_fault("examples of a run beyond eight are the first", "training/many in a run", target=_KernelRunner, _load=_eight_loaded)
patch_fault(
    "bags of a run beyond eight are those of the first example",
    "training/many in a run",
    target=kernel_backend._Bound,
    load_bags=_bags_of_eight,
)


def _byte_sinks(self: Any, order: Array, start: int, stop: int) -> int:
    """The numbers of examples that outputs go to are counted by eight bits."""
    if self.examples < 257:
        return _run(self, order, start, stop)
    kept = [sink.array.copy() for sink in self.sinks]
    status = _run(self, order, start, stop)
    for sink, array in zip(self.sinks, kept, strict=True):
        sink.array[256:] = array[256:]
    return status


patch_fault("outputs of 256 examples of a run are kept", "training/many in a run", target=_KernelRunner, run=_byte_sinks)
for _steps in (256, 65_536):
    patch_fault(
        f"rows that were idle longer catch up with {_steps:,} steps",
        "kernels/idle rows",
        target=Clock,
        missed=lambda self, since, steps=_steps: _missed(self, np.maximum(since, self.now - steps)),
    )
