"""Numbers seldom met, in every operand of kernels that sum, move or pool: zeros, infinities, NaN, denormals, of both signs.

What a formula says of them is what is expected: 0 times infinity is NaN in a product of matrices as elsewhere, and a weight of
0 takes nothing away from that. Sums of denormal numbers are exact, so they are compared as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from wyrm.kernels import KERNELS
from wyrm.memory import BagBuffer, GradientBuffer
from wyrm.program import Attributes, Shape
from wyrm_conformance.applying import apply
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.formulas import WIDE, lstm_cell, lstm_cell_vjp

__all__ = ["special"]

#: Rows of tables, of results, and how deep products are: fewer and more than vectors have lanes.
DIMENSIONS = ((5, 3, 7), (1, 17, 33), (18, 1, 16), (9, 20, 19))


class Try(NamedTuple):
    """A kernel on operands, and what its formula gives."""

    kernel: str
    operands: list[Any]
    expected: Array
    attributes: Attributes = ()


def special(rng: np.random.Generator, shape: Shape, dtype: str, share: float = 0.06) -> Array:
    """Small numbers of both signs, many of them 0 or -0; some, by their share, that are infinite or NaN."""
    values = rng.choice([0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0], shape)
    odd = rng.random(shape) < share
    values[odd] = rng.choice([np.inf, -np.inf, np.nan], int(odd.sum()))
    result: Array = values.astype(dtype)
    return result


def _denormal(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
    return np.asarray(rng.integers(-4, 5, shape) * np.finfo(dtype).smallest_subnormal, dtype)


def bags_of(rng: np.random.Generator, lengths: list[int], rows: int, weights: Array | int, dtype: str) -> BagBuffer:
    """Bags of these lengths, of rows that are drawn."""
    bag, count = BagBuffer(len(lengths), dtype), sum(lengths)
    bag.reserve(count)
    bag.offsets[1:] = np.cumsum(lengths)
    bag.indices[:], bag.weights[:] = rng.integers(0, rows, count), weights
    bag.header[0] = count
    return bag


def _sums_and_moves(rng: np.random.Generator, draw: Callable[[Shape], Array], dtype: str) -> Iterator[Try]:
    """Kernels of one operand that is drawn so, and of others that are whole numbers and zeros."""
    for rows, cols, depth in DIMENSIONS:
        a, plain = draw((rows, depth)), rng.integers(-2, 3, (depth, cols)).astype(dtype)
        for turns in ((False, False), (True, False), (False, True), (True, True)):
            attributes = (("transpose_a", turns[0]), ("transpose_b", turns[1]))
            for left, right in ((a, plain), (plain.T, a.T)):
                operands = [left.T if turns[0] else left, right.T if turns[1] else right]
                yield Try("matmul", operands, _product(left, right), attributes)
        for axis in (0, 1, (0, 1)):
            yield Try("sum", [a], a.astype(WIDE).sum(axis=axis, keepdims=True))
        yield Try("copy", [a], a)
        yield Try("transpose", [a], a.T)
        yield Try("row_max", [a], a.max(axis=1, keepdims=True))
        yield Try("row_dot", [a, plain.T[:1]], (a.astype(WIDE) * plain.T[:1]).sum(1, keepdims=True))
        yield Try("row_dot", [plain.T[:1], a], (a.astype(WIDE) * plain.T[:1]).sum(1, keepdims=True))
        index, column = rng.integers(0, rows, (cols, 1)), rng.integers(0, depth, (rows, 1))
        yield Try("gather", [a, index], a[index[:, 0]])
        scattered = np.zeros((cols, depth), WIDE)
        to = rng.integers(0, cols, (rows, 1))
        np.add.at(scattered, to[:, 0], a)
        yield Try("scatter", [to, a], scattered)
        picked = np.take_along_axis(a, column, 1)
        yield Try("pick", [a, column], picked)
        placed = np.zeros(a.shape, WIDE)
        np.put_along_axis(placed, column, picked, 1)
        yield Try("place", [column, picked], placed)
        lengths = rng.integers(0, 6, cols).tolist()
        weights = rng.choice([0.0, -0.0, 1.0, -1.0, 2.0, -3.0], sum(lengths))
        bag = bags_of(rng, lengths, rows, weights, dtype)
        pooled, back = np.zeros((cols, depth), WIDE), np.zeros((rows, depth), WIDE)
        given = draw((cols, depth))
        for r, (begin, end) in enumerate(zip(bag.offsets[:-1], bag.offsets[1:], strict=True)):
            for i, w in zip(bag.indices[begin:end], bag.weights[begin:end], strict=True):
                pooled[r] += WIDE(w) * a[i]
                back[i] += WIDE(w) * given[r]
        yield Try("gather_bag", [a, bag], pooled, (("mean", False),))
        yield Try("scatter_bag", [bag, given], back, (("mean", False),))


def _product(left: Array, right: Array) -> Array:
    """Element by element, since products of libraries may take liberties with what is infinite."""
    result: Array = (left.astype(WIDE)[:, :, None] * right.astype(WIDE)[None]).sum(1)
    return result


def _cells(rng: np.random.Generator, dtype: str) -> Iterator[Try]:
    """Kernels over whole rows, which limits have their say in."""
    for width in (1, 5, 19):
        gates, cell = special(rng, (3, 4 * width), dtype), special(rng, (3, width), dtype)
        yield Try("lstm_cell", [gates, cell], lstm_cell(gates.astype(WIDE), cell.astype(WIDE)))
        saved = lstm_cell(gates.astype(WIDE), cell.astype(WIDE)).astype(dtype)
        operands = [special(rng, (3, width), dtype), special(rng, (3, width), dtype), saved, cell]
        yield Try("lstm_cell_vjp", operands, lstm_cell_vjp(*(operand.astype(WIDE) for operand in operands)))
        a = special(rng, (40, width), dtype, 0.5 / width)
        wide, largest = a.astype(WIDE), a.max(axis=1, keepdims=True)
        shift = np.where(np.isfinite(largest), largest, 0)
        sums = np.log(np.exp(wide - shift).sum(1, keepdims=True)) + shift
        yield Try("logsumexp", [a], np.where(np.isinf(largest), largest, sums))
        e = np.exp(wide - largest)
        yield Try("softmax", [a], e / e.sum(1, keepdims=True))


def _compare(context: Context, one: Try, dtype: str, unit: float, tolerance: float) -> None:
    kernel = KERNELS[one.kernel]
    if kernel.optional and one.kernel not in context.backend.capabilities.kernels:
        return
    shown = {f"operand {n}": operand for n, operand in enumerate(one.operands) if isinstance(operand, np.ndarray)}
    context.case(f"{kernel.formula}, {dict(one.attributes)}, in units of {unit:g}", **shown)
    result = apply(context, one.kernel, one.operands, one.expected.shape, dtype, attributes=one.attributes)
    context.compare(f"{one.kernel} in {dtype}", result.astype(WIDE) / unit, one.expected.astype(WIDE) / unit, tolerance)


@check(
    "kernels/special numbers",
    "core",
    "zeros, infinities, NaN and denormal numbers of both signs come out as formulas say, wherever they are summed or moved",
    at_least=5000,
)
def check_special_numbers(context: Context) -> None:
    """Each kernel that is not elementwise: what is infinite or NaN, and sums of denormal numbers, which are exact."""
    rng = context.rng
    with np.errstate(all="ignore"):
        for dtype in context.dtypes:
            for one in (*_sums_and_moves(rng, partial(special, rng, dtype=dtype), dtype), *_cells(rng, dtype)):
                _compare(context, one, dtype, 1.0, 1e-5)
            smallest = float(np.finfo(dtype).smallest_subnormal)
            for one in _sums_and_moves(rng, partial(_denormal, rng, dtype=dtype), dtype):
                _compare(context, one, dtype, smallest, 0)
            _check_means(context, dtype)
            _check_gradients(context, dtype)


def _check_means(context: Context, dtype: str) -> None:
    """Means by weights of both signs and of 0, whose sums are negative as often as not, and none too small."""
    rng = context.rng
    lengths = rng.integers(0, 7, 40).tolist()
    weights = rng.choice([0.0, -0.0, 1.0, -1.5, 3.0, -4.25], sum(lengths))
    table, given, bag = (
        special(rng, (9, 5), dtype, 0.0),
        special(rng, (40, 5), dtype, 0.0),
        bags_of(rng, lengths, 9, weights, dtype),
    )
    pooled, back = np.zeros((40, 5), WIDE), np.zeros((9, 5), WIDE)
    for r, (begin, end) in enumerate(zip(bag.offsets[:-1], bag.offsets[1:], strict=True)):
        total = bag.weights[begin:end].astype(WIDE).sum()
        for i, w in zip(bag.indices[begin:end], bag.weights[begin:end], strict=True):
            share = WIDE(w) / total if total else WIDE(0)
            pooled[r] += share * table[i]
            back[i] += share * given[r]
    for one in (Try("gather_bag", [table, bag], pooled), Try("scatter_bag", [bag, given], back), _beyond(rng, table, dtype)):
        _compare(context, one._replace(attributes=(("mean", True),)), dtype, 1.0, 20 * float(np.finfo(dtype).eps))


def _beyond(rng: np.random.Generator, table: Array, dtype: str) -> Try:
    """Means by weights of which some have a sum that is infinite, or too large for the dtype."""
    huge = float(np.finfo(dtype).max) * 0.75
    bag = bags_of(rng, [2, 1, 3, 2], 9, np.array([huge, huge, 2.0, 1.0, np.inf, 0.0, -huge, -huge]), dtype)
    means = np.full((4, table.shape[1]), np.nan, WIDE)
    means[1] = table[bag.indices[2]]
    return Try("gather_bag", [table, bag], means)


def _check_gradients(context: Context, dtype: str) -> None:
    """Gradients that gather such rows, and the sums of their squares; of small ones nothing is lost."""
    rng = context.rng
    smallest = float(np.finfo(dtype).smallest_subnormal)
    for unit, draw in ((1.0, special), (smallest, _denormal)):
        for cols in (1, 5, 18):
            index, rows = rng.integers(0, 9, (20, 1)), draw(rng, (20, cols), dtype)
            weights = rng.choice([0.0, 1.0, -2.0], 12)
            bag, given = bags_of(rng, [5, 0, 7], 9, weights, dtype), draw(rng, (3, cols), dtype)
            gradient, expected = GradientBuffer((9, cols), dtype), np.zeros((9, cols), WIDE)
            gradient.reserve(40)
            apply(context, "accumulate_rows", [index, rows], gradient, dtype)
            apply(context, "accumulate_bag", [bag, given], gradient, dtype, attributes=(("mean", False),))
            np.add.at(expected, index[:, 0], rows)
            np.add.at(expected, bag.indices, WIDE(1) * bag.weights[:, None] * given[np.repeat([0, 2], [5, 7])])
            numbers, values = gradient.merged_rows()
            found = np.zeros(expected.shape, WIDE)
            found[numbers] = values
            context.compare(f"rows gathered in {dtype}, in units of {unit:g}", found / unit, expected / unit, 0)
            square = apply(context, "square_sum", [gradient], (1, 1), dtype)
            total = np.square(expected.astype(dtype)).sum().reshape(1, 1)
            context.compare(f"square_sum in {dtype}", square, total, 20 * float(np.finfo(dtype).eps))
