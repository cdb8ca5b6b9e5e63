"""Faulty rows: what gradient buffers gather, and which rows an update reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wyrm import kernel_steps
from wyrm.kernel_backend import _Bound
from wyrm.kernel_steps import Steps
from wyrm.memory import BagBuffer, BagSource, GradientBuffer
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import patch_fault

_add_rows, _merged = GradientBuffer.add_rows, GradientBuffer.merged_rows


def _last_row_lost(self: GradientBuffer, numbers: Array, values: Array) -> None:
    _add_rows(self, numbers[:-1], values[:-1])


patch_fault(
    "the last row of a look-up is lost",
    "kernels/gradients",
    "sparse/rows",
    "sparse/duplicates",
    "sparse/bags",
    "gradients/index",
    "gradients/index_slice",
    "gradients/index_sum",
    "gradients/index_mean",
    target=GradientBuffer,
    add_rows=_last_row_lost,
)


def _off_by_one(self: GradientBuffer, numbers: Array, values: Array) -> None:
    _add_rows(self, (numbers + 1) % self.shape[0], values)


patch_fault("gradients go to the row after", "sparse/rows", "sparse/equals dense", target=GradientBuffer, add_rows=_off_by_one)


def _last_wins(self: GradientBuffer) -> tuple[Array, Array]:
    kept = dict(zip(self.row_numbers[: self.count].tolist(), self.row_values[: self.count], strict=True))
    rows = sorted(kept)
    values = np.array([kept[row] for row in rows]).reshape(len(rows), self.shape[1])
    return np.array(rows, np.int64), values.astype(self.dtype)


patch_fault(
    "of duplicate rows the last one wins", "sparse/duplicates", "sparse/bags", target=GradientBuffer, merged_rows=_last_wins
)
patch_fault(
    "what came densely is forgotten beside rows",
    "sparse/mixed with dense",
    target=GradientBuffer,
    touched=property(lambda self: False),
)
patch_fault("a gradient is not cleared", "gradients/accumulation", target=GradientBuffer, clear=lambda self: None)
_update_gradient = Steps._update_gradient


def _everywhere(self: Any, instruction: Any) -> Any:
    run, gradient = _update_gradient(self, instruction), self.buffer(instruction.operands[0])

    def wrong() -> None:
        if gradient.count:
            gradient.require_dense()
            gradient.header[0] = 1
        run()

    return wrong


patch_fault(
    "an update of few rows is made on every row",
    "sparse/untouched rows",
    "sparse/memory",
    target=Steps,
    _update_gradient=_everywhere,
)


def _empty_touches(self: GradientBuffer, rows: int) -> None:
    self._move(max(16, rows), self.row_numbers[:0], self.row_values[:0])
    self.row_numbers[:] = 0
    self.row_values[:] = 1
    self.header[2] = 1 if not rows else 0


patch_fault("a look-up of nothing touches the first row", "sparse/empty", target=GradientBuffer, reserve=_empty_touches)
_bag = kernel_steps._bag
patch_fault(
    "the mean of a bag is its sum",
    "kernels/bags",
    target=kernel_steps,
    _bag=lambda bag, mean: _bag(bag, False),
)


def _divided_by_nothing(bag: BagBuffer, mean: bool) -> tuple[Array, Array, Array]:
    """A mean divides by the sum of the weights, whatever it is."""
    indices, owners, weights = _bag(bag, False)
    if mean:
        weights = weights / np.bincount(owners, weights, len(bag.offsets) - 1).astype(weights.dtype)[owners]
    return indices, owners, weights


patch_fault(
    "weights that cancel are divided by their sum",
    "kernels/bags",
    "kernels/gradients",
    target=kernel_steps,
    _bag=_divided_by_nothing,
)


def _number_before(self: GradientBuffer) -> tuple[Array, Array]:
    """Rows are compared to the one before, the first of them, too."""
    if self.count > 1:
        np.lib.stride_tricks.as_strided(self.row_numbers[1:], (2,), (-16,)).copy()
    return _merged(self)


patch_fault(
    "the row before the first one is looked at, in vain", "contract/bounds", target=GradientBuffer, merged_rows=_number_before
)
_load_bags = _Bound.load_bags


def _first_weights(self: Any, number: int, source: BagSource, examples: Sequence[int] = (0,)) -> int:
    status = int(_load_bags(self, number, source, examples))
    if status == 0 and source.weights is not None:
        bag = self.inputs[number]
        bag.weights[: bag.count] = source.weights[: bag.count]
    return status


patch_fault("every bag of a feed has the weights of the first", "sparse/bags", target=_Bound, load_bags=_first_weights)
