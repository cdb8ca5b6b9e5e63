"""Kernels one by one, against formulas in extended precision: accuracy in units in the last place, at all sizes, far and wide.

Each is a program of one instruction, on operands with gaps between their rows, at unaligned places of a buffer full of NaN;
nothing beside the result may be touched (:mod:`.applying`). Sums of long rows are of whole numbers, which come out exactly.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from wyrm.kernels import KERNELS
from wyrm.program import Shape
from wyrm_conformance.applying import apply
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.formulas import BOUNDS, COLUMNS, ELEMENTWISE, ROUNDINGS, SHAPED, WIDE
from wyrm_conformance.shapes import Trial, beyond, long_shapes, shapes

__all__ = ["INTERESTING", "arguments"]

#: NaN, infinities, zeros of both signs, denormal numbers, the largest, and where formulas change branch.
INTERESTING = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e-45),
    *(3e38, -3e38, 88.7, -103.0, 1e-8, 0.624, 0.626, 1e-310, -5e-324),
)


def arguments(rng: np.random.Generator, kernel: str, shapes: list[Shape], dtype: str) -> list[Array]:
    """Random operands within the domain of an elementwise kernel."""
    scale = {"exp": 30, "sigmoid": 30, "softplus": 30, "tanh": 3}.get(kernel, 2) if rng.random() < 0.5 else 2
    values = [(rng.standard_normal(shape) * scale).astype(dtype) for shape in shapes]
    if kernel in ("log", "sqrt", "power"):
        values[0] = np.abs(values[0])
    if kernel == "select":
        values[0] = np.round(values[0] / 2)
    return values


def _wide(operands: list[Array]) -> list[Array]:
    return [operand.astype(WIDE) for operand in operands]


def check_elementwise(context: Context, kernel: str) -> None:
    """Every shape, with and without gaps; the limits, in every combination; broadcasting; accumulation."""
    count, bound = len(KERNELS[kernel].operands), BOUNDS[kernel]
    for dtype in context.dtypes:
        for shape, gap in (*shapes(context.rng), *long_shapes(context.rng, few=dtype != "float32")):
            operands = arguments(context.rng, kernel, [shape] * count, dtype)
            _compare_elementwise(context, kernel, operands, shape, dtype, bound, gap)
        grid = [axis.reshape(1, -1) for axis in np.meshgrid(*[_interesting(dtype)] * count)]
        if kernel in ("maximum", "minimum"):  # which zero is the larger one is left open
            grid = [axis + 0.0 for axis in grid]
        _compare_elementwise(context, kernel, grid, grid[0].shape, dtype, bound)
        many, trials = beyond(context.rng, 12), [(shape, 4) for shape in ((4, 5), (3, 17), (1, 9), (6, 1), (19, 35))]
        for shape, times in (*trials, ((many, 1), 1), ((1, many), 1)):
            for _ in range(times if count > 1 else times // 4):
                _check_broadcast(context, kernel, shape, dtype, bound)


def _check_broadcast(context: Context, kernel: str, shape: Shape, dtype: str, bound: float) -> None:
    """Operands of which one at least has the shape, and others are broadcast to it; stored and accumulated."""
    rng, count = context.rng, len(KERNELS[kernel].operands)
    narrow: list[Shape] = [tuple(n if rng.random() < 0.5 else 1 for n in shape) for _ in range(count)]  # type: ignore[misc]
    narrow[int(rng.integers(count))] = shape
    operands = [np.clip(operand, -30, 30) for operand in arguments(rng, kernel, narrow, dtype)]  # as 1 + exp may overflow
    _compare_elementwise(context, kernel, operands, shape, dtype, bound)
    with np.errstate(all="ignore"):
        expected = 1 + np.broadcast_to(ELEMENTWISE[kernel](*_wide(operands)), shape)
        result = apply(context, kernel, operands, shape, dtype, accumulate=True)
    context.compare(f"1 + {kernel} of {narrow} in {dtype}", result, expected, 4 * float(np.finfo(dtype).eps))


def _interesting(dtype: str) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.array(INTERESTING).astype(dtype)


def _compare_elementwise(
    context: Context, kernel: str, operands: list[Array], shape: Any, dtype: str, bound: float, gap: int = 2
) -> None:
    with np.errstate(all="ignore"):
        expected = np.broadcast_to(ELEMENTWISE[kernel](*_wide(operands)), shape)
        narrow = expected.astype(dtype)  # what overflows or vanishes there need not in extended precision
        expected = np.where(np.isfinite(narrow) & (narrow != 0), expected, narrow)
    context.case(KERNELS[kernel].formula, **dict(zip(KERNELS[kernel].operands, operands, strict=True)))
    context.within_ulps(
        f"{kernel} of {shape} in {dtype}", apply(context, kernel, operands, shape, dtype, gap=gap), expected, bound
    )


def check_shaped(context: Context, kernel: str) -> None:
    """Kernels between shapes: every size, stored and accumulated."""
    formula, shape_of = SHAPED[kernel]
    for dtype in context.dtypes:
        for shape, gap in shapes(context.rng, empty=False):
            a = (context.rng.standard_normal(shape) * 2).astype(dtype)
            for accumulate in (False, True):
                expected = formula(a.astype(WIDE)) + int(accumulate)
                context.case(KERNELS[kernel].formula, a=a)
                result = apply(context, kernel, [a], shape_of(*shape), dtype, accumulate, gap=gap)
                context.compare(f"{kernel} of {a.shape} in {dtype}", result, expected, _bound(kernel, shape[1], dtype))
        for shape, gap in long_shapes(context.rng, few=dtype != "float32"):
            a = context.rng.standard_normal(shape).astype(dtype)
            a[:, -1], a[:, int(context.rng.integers(shape[1]))] = 14, 13  # what a sum of long rows is mostly made of
            expected = formula(a.astype(np.float64))
            result = apply(context, kernel, [a], shape_of(*shape), dtype, gap=gap)
            context.case(KERNELS[kernel].formula, a=a)
            exact = kernel not in ("logsumexp", "softmax")
            context.compare(
                f"{kernel} of {a.shape} in {dtype}", result / expected, np.ones_like(expected), 0 if exact else 1e-3
            )


def _bound(kernel: str, terms: int, dtype: str) -> float:
    """Of sums the error grows with the number of terms, at worst; of everything else it is a few roundings."""
    return ROUNDINGS[kernel] * max(1, terms) * float(np.finfo(dtype).eps)


def _whole(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
    """Whole numbers so small that sums of many of their products are exact, in whatever order they are taken."""
    return rng.integers(-5, 6, shape).astype(dtype)


def check_sum(context: Context) -> None:
    """Along each axis, both and none."""
    for dtype in context.dtypes:
        ordinary = [((rows, cols), 2, False) for rows, cols in ((1, 1), (7, 19), (3, 64), (33, 2), (1, 130), (65, 1), (2, 5))]
        drawn = [(shape, gap, False) for shape, gap in shapes(context.rng)[-3:]]
        for (rows, cols), gap, whole in (
            *ordinary,
            *drawn,
            *((*trial, True) for trial in long_shapes(context.rng, few=dtype != "float32")),
        ):
            shape = rows, cols
            a = _whole(context.rng, shape, dtype) if whole else context.rng.standard_normal(shape).astype(dtype)
            for result_shape, axis in (((1, 1), (0, 1)), ((1, cols), 0), ((rows, 1), 1), ((rows, cols), ())):
                expected = a.astype(np.float64 if whole else WIDE).sum(axis=axis, keepdims=True)
                for accumulate in (False, True):
                    context.case(KERNELS["sum"].formula, a=a)
                    result = apply(context, "sum", [a], result_shape, dtype, accumulate, gap=gap)
                    what, bound = f"sum of {shape} to {result_shape}", 0.0 if whole else _bound("sum", a.size, dtype)
                    context.compare(what, result, expected + int(accumulate), bound)


def check_matmul(context: Context) -> None:
    """Either operand transposed, at sizes around the blocks that kernels work in, and long ones, one dimension at a time."""
    rng = context.rng
    sizes = [(1, 1, 1), (4, 3, 64), (5, 9, 17), (3, 70, 33), (9, 0, 4), (2, 5, 0), (13, 16, 130), (8, 33, 8), (1, 64, 128)]
    sizes += [(3, 1, 9), (1, 1, 33), (5, 1, 16)]  # columns, which are rows where there are no gaps
    sizes += [tuple(rng.integers(17, 50, 3).tolist())]
    many, thousands, hundreds = (beyond(rng, bits) for bits in (16, 11, 8))
    long = [(3, thousands, 5), (17, hundreds, 19), (thousands, 5, 3), (2, 3, thousands)]
    long += [(many, 2, 1), (1, many, 2), (2, 1, many)]
    for dtype in context.dtypes:
        for m, k, n in (*sizes, *long):
            whole = (m, k, n) in long
            for turns in ((False, False), (True, False), (False, True), (True, True)):
                made: list[Shape] = [(m, k), (k, n)]
                a, b = (_whole(rng, s, dtype) if whole else rng.standard_normal(s).astype(dtype) for s in made)
                operands = [a.T if turns[0] else a, b.T if turns[1] else b]
                attributes = (("transpose_a", turns[0]), ("transpose_b", turns[1]))
                for accumulate, gap in ((True, 2),) if whole else ((False, 2), (True, 2), (False, 0)):
                    wide = np.float64 if whole else WIDE
                    expected = a.astype(wide) @ b.astype(wide) + int(accumulate)
                    context.case(f"{KERNELS['matmul'].formula}, {dict(attributes)}", a=operands[0], b=operands[1])
                    result = apply(context, "matmul", operands, (m, n), dtype, accumulate, attributes, gap)
                    bound = 0.0 if whole else _bound("matmul", k, dtype)
                    context.compare(f"matmul of {m} × {k} × {n} in {dtype}", result, expected, bound)


def check_row_dot(context: Context) -> None:
    """With either operand broadcast."""
    rng = context.rng
    for dtype in context.dtypes:
        for (rows, n), gap in (*shapes(rng), *long_shapes(rng, few=dtype != "float32")):
            whole = n * rows > 2**12
            pairs: list[tuple[Shape, Shape]] = [
                ((rows, n), (rows, n)),
                ((1, n), (rows, n)),
                ((rows, 1), (rows, n)),
                ((rows, n), (1, 1)),
            ]
            for left, right in pairs:
                a, b = (_whole(rng, s, dtype) if whole else rng.standard_normal(s).astype(dtype) for s in (left, right))
                expected = (a.astype(np.float64 if whole else WIDE) * b).sum(1, keepdims=True)
                for accumulate in (False,) if whole else (False, True):
                    context.case(KERNELS["row_dot"].formula, a=a, b=b)
                    result = apply(context, "row_dot", [a, b], (rows, 1), dtype, accumulate, gap=gap)
                    bound = 0.0 if whole else _bound("row_dot", n, dtype)
                    context.compare(f"row_dot of {left} and {right}", result, expected + int(accumulate), bound)


def check_columns(context: Context, kernel: str) -> None:
    """Kernels over the columns of a cell: every width, stored and accumulated."""
    formula, operand_widths, result_width = COLUMNS[kernel]
    for dtype in context.dtypes:
        for (rows, n), gap in (*shapes(context.rng), Trial((1, beyond(context.rng, 14))), Trial((beyond(context.rng, 12), 3))):
            operands = [(context.rng.standard_normal((rows, w * n)) * 2).astype(dtype) for w in operand_widths]
            for accumulate in (False, True):
                expected = formula(*_wide(operands)) + int(accumulate)
                context.case(KERNELS[kernel].formula, **dict(zip(KERNELS[kernel].operands, operands, strict=True)))
                result = apply(context, kernel, operands, (rows, result_width * n), dtype, accumulate, gap=gap)
                context.compare(f"{kernel} of {rows} × {n} in {dtype}", result, expected, _bound(kernel, 1, dtype))


def _register(kernel: str, function: Any) -> None:
    requires = (kernel,) if KERNELS[kernel].optional else ()
    sentence = f"{kernel} computes what the kernel table says, at every size and limit, and writes nowhere else"
    check(f"kernels/{kernel}", "core", sentence, requires=requires, at_least=200)(function)


for _name in ELEMENTWISE:
    _register(_name, partial(check_elementwise, kernel=_name))
for _name in SHAPED:
    _register(_name, partial(check_shaped, kernel=_name))
for _name in COLUMNS:
    _register(_name, partial(check_columns, kernel=_name))
_register("sum", check_sum)
_register("matmul", check_matmul)
_register("row_dot", check_row_dot)


def _compare_infinite_rows(context: Context, kernel: str, dtype: str, expected: Array) -> None:
    """Rows of infinities, at the width of three elements and, with the same between the others, beyond that of vectors."""
    low, high, none = -np.inf, np.inf, np.nan
    rows = np.array([[low] * 3, [high, 0, 1], [high, high, 0], [high, low, 0], [low, 1, low], [none, low, 1]], dtype)
    expected = expected.reshape(len(rows), -1)
    for width in (3, 37):
        wide = np.full((len(rows), width), low, dtype)
        wide[:, [0, width // 2, width - 1]] = rows
        limits = expected
        if expected.shape[1] > 1:
            limits = np.where(np.isnan(expected[:, :1]), np.nan, np.zeros((len(rows), width)))
            limits[:, [0, width // 2, width - 1]] = expected
        context.case(KERNELS[kernel].formula, a=wide)
        result = apply(context, kernel, [wide], limits.shape, dtype)
        context.compare(f"{kernel} of infinite rows of {width} in {dtype}", result, limits, 0)


@check("kernels/limits", "core", "shut and open gates, sums over infinities and NaN come out as the formulas say", at_least=12)
def check_limits(context: Context) -> None:
    """NaN and infinity in kernels that look at whole rows; gates that are exactly shut."""
    for dtype in context.dtypes:
        rows = np.array([[1, 2, np.nan], [1, np.inf, 2], [-np.inf, 1, 2], [-np.inf, -np.inf, -np.inf]], dtype)
        context.case(KERNELS["row_max"].formula, a=rows)
        largest = np.array([[np.nan], [np.inf], [2], [-np.inf]])
        context.compare("row_max", apply(context, "row_max", [rows], (4, 1), dtype), largest, 0)
        context.case(KERNELS["sum"].formula, a=rows)
        sums = np.array([[np.nan], [np.inf], [-np.inf], [-np.inf]])
        context.compare("sum", apply(context, "sum", [rows], (4, 1), dtype), sums, 0)
        big = np.array([[1e4, 1e4], [-1e4, 0]], dtype)
        if "logsumexp" in context.backend.capabilities.kernels:
            result = apply(context, "logsumexp", [big], (2, 1), dtype)
            context.compare("logsumexp of large numbers", result, np.array([[1e4 + np.log(2)], [0]]), 1e-6)
            _compare_infinite_rows(context, "logsumexp", dtype, np.array([-np.inf, np.inf, np.inf, np.inf, 1, np.nan]))
        if "softmax" in context.backend.capabilities.kernels:
            result = apply(context, "softmax", [big], (2, 2), dtype)
            context.compare("softmax of large numbers", result, np.array([[0.5, 0.5], [0, 1]]), 1e-6)
            limits = np.full((6, 3), np.nan)
            limits[4] = 0, 1, 0
            _compare_infinite_rows(context, "softmax", dtype, limits)
        if "lstm_cell" in context.backend.capabilities.kernels:
            limits = np.array([1e4, -1e4, np.inf, -np.inf, np.nan, 0.0], dtype)
            result = apply(
                context, "lstm_cell", [np.tile(limits, 4).reshape(1, -1), np.full((1, 6), 0.5, dtype)], (1, 42), dtype
            )
            blocks = result.reshape(7, 6)
            context.compare("gates", blocks[2:6, :4], np.array([[1, 0, 1, 0]] * 3 + [[1, -1, 1, -1]]), 0)
            context.compare("NaN", np.isnan(blocks), np.array([[False] * 4 + [True, False]] * 7), 0)
