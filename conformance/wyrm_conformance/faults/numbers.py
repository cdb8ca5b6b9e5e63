"""Faults that show with numbers that are seldom met: infinite, NaN, denormal, 0, and weights and gradients of either sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wyrm import kernel_steps
from wyrm.kernel_steps import Steps
from wyrm.memory import BagBuffer, GradientBuffer
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import KERNELS, kernel_fault, patch_fault


def _flushed(a: Array) -> Array:
    result: Array = np.where(np.abs(a) < np.finfo(a.dtype).tiny, a.dtype.type(0), a)
    return result


def _without_zeros(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    left, right = (a.T if transpose_a else a)[:, :, None], (b.T if transpose_b else b)[None]
    if left.shape[1] > 64:
        return KERNELS["matmul"](a, b, transpose_a, transpose_b)
    return np.asarray(np.where((left == 0) | (right == 0), 0, left * right).sum(1), a.dtype)


kernel_fault("products take 0 times infinity for 0", "kernels/special numbers", matmul=_without_zeros)
kernel_fault(
    "products flush denormal numbers",
    "kernels/special numbers",
    matmul=lambda a, b, **turns: KERNELS["matmul"](_flushed(a), _flushed(b), **turns),
)
kernel_fault(
    "sums flush denormal numbers", "kernels/special numbers", sum=lambda a, axis: KERNELS["sum"](_flushed(a), axis=axis)
)
kernel_fault(
    "row_dot takes NaN for 0",
    "kernels/special numbers",
    row_dot=lambda a, b: np.nansum(a * b, axis=1, keepdims=True),
)
kernel_fault("row_max flushes denormal numbers", "kernels/special numbers", row_max=lambda a: KERNELS["row_max"](_flushed(a)))
kernel_fault(
    "lstm_cell_vjp bounds what comes in",
    "kernels/special numbers",
    lstm_cell_vjp=lambda dh, dc, saved, cell: KERNELS["lstm_cell_vjp"](np.clip(dh, -100, 100), dc, saved, cell),
)
_bag, _gather, _square_sum = kernel_steps._bag, Steps._gather, Steps._square_sum
_apply, _add_rows = kernel_steps._Target._apply, GradientBuffer.add_rows


def _weighing(change: Callable[[Array, Array, int], Array]) -> Callable[[BagBuffer, bool], tuple[Array, Array, Array]]:
    """Other weights: made of the weights, the bag that each belongs to, and how many bags there are."""

    def wrong(bag: BagBuffer, mean: bool) -> tuple[Array, Array, Array]:
        indices, owners, weights = _bag(bag, False)
        changed = change(weights, owners, len(bag.offsets) - 1)
        if not mean:
            return indices, owners, changed
        sums = np.bincount(owners, changed, len(bag.offsets) - 1)
        sums[np.abs(sums) <= np.finfo(weights.dtype).eps * np.bincount(owners, np.abs(changed), len(bag.offsets) - 1)] = np.inf
        return indices, owners, (changed / sums[owners]).astype(weights.dtype)

    return wrong


patch_fault(
    "weights of a bag below 0 count as 0",
    "kernels/special numbers",
    "kernels/many bags",
    target=kernel_steps,
    _bag=_weighing(lambda weights, owners, count: np.maximum(weights, 0)),
)
patch_fault(
    "weights of 0 count as 1",
    "kernels/special numbers",
    target=kernel_steps,
    _bag=_weighing(lambda weights, owners, count: np.where(weights == 0, 1, weights).astype(weights.dtype)),
)


def _by_sizes(bag: BagBuffer, mean: bool) -> tuple[Array, Array, Array]:
    indices, owners, weights = _bag(bag, mean)
    if mean:
        given = bag.weights[: bag.count]
        sums, sizes = (np.bincount(owners, w, len(bag.offsets) - 1)[owners] for w in (given, np.abs(given)))
        weights = (weights * sums / np.maximum(sizes, np.finfo(given.dtype).tiny)).astype(given.dtype)
    return indices, owners, weights


def _in_range(bag: BagBuffer, mean: bool) -> tuple[Array, Array, Array]:
    indices, owners, weights = _bag(bag, mean)
    return indices, owners, np.nan_to_num(weights, nan=0.0) if mean else weights


patch_fault("means by weights with an infinite sum are 0", "kernels/special numbers", target=kernel_steps, _bag=_in_range)
patch_fault("means are divided by the sizes of weights", "kernels/special numbers", target=kernel_steps, _bag=_by_sizes)


def _gather_flushed(self: Any, instruction: Any) -> Any:
    table, index = map(self.view, instruction.operands)
    return self._storing(instruction, lambda: _flushed(table[index[:, 0]]))


patch_fault("rows are flushed as they are read", "kernels/special numbers", target=Steps, _gather=_gather_flushed)


def _finite_squares(self: Any, instruction: Any) -> Any:
    step, out = _square_sum(self, instruction), self.view(instruction.out)

    def wrong() -> None:
        step()
        out[...] = np.nan_to_num(out, nan=0.0, posinf=np.inf)

    return wrong


patch_fault("a sum of squares takes NaN for 0", "kernels/special numbers", target=Steps, _square_sum=_finite_squares)
patch_fault(
    "gradients flush small numbers as they gather them",
    "kernels/special numbers",
    target=GradientBuffer,
    add_rows=lambda self, numbers, values: _add_rows(self, numbers, np.where(np.abs(values) < 1e-30, 0, values)),
)


def _with_gradient(change: Callable[[Array], Array]) -> Callable[..., None]:
    def apply(self: Any, rule: Any, rows: Any, second: Array) -> None:
        _apply(self, rule, rows, change(second))

    return apply


def _rule_fault(name: str, change: Callable[[Array], Array]) -> None:
    patch_fault(name, "kernels/rules", target=kernel_steps._Target, _apply=_with_gradient(change))


_rule_fault("rules take NaN gradients for 0", lambda g: np.where(np.isnan(g), g.dtype.type(0), g))
_rule_fault("rules bound infinite gradients", lambda g: np.clip(g, *(np.finfo(g.dtype).min, np.finfo(g.dtype).max)))
_rule_fault("rules see 0 as a small gradient", lambda g: np.where(g == 0, g.dtype.type(1e-3), g))
