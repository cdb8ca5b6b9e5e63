"""Kernels one by one, against formulas in extended precision: accuracy in units in the last place, at all sizes, far and wide.

Each is a program of one instruction, on operands with gaps between their rows, at unaligned places of a buffer full of NaN;
nothing beside the result may be touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from wyrm.kernels import KERNELS
from wyrm.memory import BagBuffer, GradientBuffer, Leaves, Memory
from wyrm.program import Attributes, Buffer, Instruction, ParameterSlot, Program, Shape, Slot
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.formulas import BOUNDS, COLUMNS, ELEMENTWISE, ROUNDINGS, SHAPED, WIDE

__all__ = ["INTERESTING", "SIZES", "apply", "arguments", "matrix", "poison"]

#: Lengths around the widths of vector registers, and none.
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)
#: NaN, infinities, zeros of both signs, denormal numbers, the largest, and where formulas change branch.
INTERESTING = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e-45),
    *(3e38, -3e38, 88.7, -103.0, 1e-8, 0.624, 0.626, 1e-310, -5e-324),
)


def apply(
    context: Context,
    kernel: str,
    operands: Sequence[Any],
    out: Shape | GradientBuffer,
    dtype: str,
    accumulate: bool = False,
    attributes: Attributes = (),
    gap: int = 2,
) -> Array:
    """One instruction on operands; the result.

    Parameters
    ----------
    operands
        Matrices, of real numbers or of indices; bags; gradients.
    out
        The result's shape, or the gradient that is the result.
    accumulate
        Onto ones.
    gap
        The elements between rows.
    """
    offset, slots = 3, list[Slot]()
    buffers, arrays = [Buffer("real"), Buffer("index")], list[Any]()
    indices = np.full(40, -1)
    for operand in (out, *operands):
        if isinstance(operand, (BagBuffer, GradientBuffer)):
            shape = operand.shape if isinstance(operand, GradientBuffer) else (len(operand.offsets) - 1, 1)
            buffers.append(Buffer("gradient" if isinstance(operand, GradientBuffer) else "bag", len(arrays)))
            arrays.append(operand)
            slots.append(Slot(len(buffers) - 1, 0, shape, shape[1]))
        elif isinstance(operand, np.ndarray) and operand.dtype == np.int64:
            slots.append(Slot(1, 5, operand.shape, 1))
            indices[5 : 5 + len(operand)] = operand[:, 0]
        else:
            rows, cols = operand.shape if isinstance(operand, np.ndarray) else operand
            slots.append(Slot(0, offset, (rows, cols), cols + gap))
            offset += rows * (cols + gap) + 5
    instruction = Instruction(kernel, slots[0], tuple(slots[1:]), attributes, accumulate)
    parameters = tuple(ParameterSlot(array.shape) for array in arrays if isinstance(array, GradientBuffer))
    program = Program(
        "interactive",
        dtype,
        tuple(buffers),
        real_length=offset,
        index_length=len(indices),
        parameters=parameters,
        forward=(instruction,),
    )
    memory = Memory(program, [*Memory.own(program), *arrays])
    real: Array = memory.buffers[0]
    poison(real)
    memory.buffers[1][:] = indices
    for slot, operand in zip(slots[1:], operands, strict=True):
        if not slot.buffer:
            matrix(real, slot)[...] = operand
    if accumulate:
        matrix(real, slots[0])[...] = 1
    before = real.copy()
    status = context.backend.compile(program).bind(memory).forward(Leaves(1))
    context.require(f"{kernel} returns status 0, not {status}", status == 0)
    result: Array = np.zeros(0) if slots[0].buffer else matrix(real, slots[0]).copy()
    for array in () if slots[0].buffer else (real, before):  # whatever it became; the rest must be what it was
        matrix(array, slots[0])[...] = np.nan
    bits = np.dtype(f"u{real.itemsize}")
    touched = np.flatnonzero(real.view(bits) != before.view(bits))
    context.require(f"{kernel} wrote beside its result, at element {touched[:1]} of the buffer", not len(touched))
    return result


def poison(real: Array) -> None:
    """Fill memory with NaN, no two of which have the same bits: what is moved about in vain shows."""
    bits = real.view(f"u{real.itemsize}")
    bits[...] = np.array(np.nan, real.dtype).view(bits.dtype) + 1 + np.arange(len(real), dtype=bits.dtype)


def matrix(real: Array, slot: Slot) -> Array:
    """The matrix that a slot names in a buffer."""
    flat = real[slot.offset :]
    view: Array = np.lib.stride_tricks.as_strided(flat, slot.shape, (slot.stride * flat.itemsize, flat.itemsize))
    return view


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
    """Every size, with and without gaps; the limits, in every combination; broadcasting; accumulation."""
    count, formula, bound = len(KERNELS[kernel].operands), ELEMENTWISE[kernel], BOUNDS[kernel]
    for dtype in context.dtypes:
        for n in SIZES:
            for rows, gap in ((1, 2), (3, 2), (3, 0)):
                operands = arguments(context.rng, kernel, [(rows, n)] * count, dtype)
                _compare_elementwise(context, kernel, operands, (rows, n), dtype, bound, gap)
        grid = [axis.reshape(1, -1) for axis in np.meshgrid(*[_interesting(dtype)] * count)]
        if kernel in ("maximum", "minimum"):  # which zero is the larger one is left open
            grid = [axis + 0.0 for axis in grid]
        _compare_elementwise(context, kernel, grid, grid[0].shape, dtype, bound)
        if count == 1:
            continue
        for shape in ((4, 5), (3, 17), (1, 9), (6, 1)):
            for _ in range(4):
                shapes: list[Shape] = [
                    (shape[0] if context.rng.random() < 0.5 else 1, shape[1] if context.rng.random() < 0.5 else 1)
                    for _ in range(count)
                ]
                shapes[int(context.rng.integers(count))] = shape
                operands = arguments(context.rng, kernel, shapes, dtype)
                _compare_elementwise(context, kernel, operands, shape, dtype, bound)
                with np.errstate(all="ignore"):
                    expected = 1 + np.broadcast_to(formula(*_wide(operands)), shape)
                    result = apply(context, kernel, operands, shape, dtype, accumulate=True)
                context.compare(f"1 + {kernel} of {shapes} in {dtype}", result, expected, 4 * float(np.finfo(dtype).eps))


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
        for n in SIZES[1:]:
            for rows in (1, 3):
                a = (context.rng.standard_normal((rows, n)) * 2).astype(dtype)
                for accumulate in (False, True):
                    expected = formula(a.astype(WIDE)) + int(accumulate)
                    context.case(KERNELS[kernel].formula, a=a)
                    result = apply(context, kernel, [a], shape_of(rows, n), dtype, accumulate)
                    context.compare(f"{kernel} of {a.shape} in {dtype}", result, expected, _bound(kernel, n, dtype))


def _bound(kernel: str, terms: int, dtype: str) -> float:
    """Of sums the error grows with the number of terms, at worst; of everything else it is a few roundings."""
    return ROUNDINGS[kernel] * max(1, terms) * float(np.finfo(dtype).eps)


def check_sum(context: Context) -> None:
    """Along each axis, both and none."""
    for dtype in context.dtypes:
        for rows, cols in ((1, 1), (7, 19), (3, 64), (33, 2), (1, 130), (65, 1), (2, 5)):
            a = context.rng.standard_normal((rows, cols)).astype(dtype)
            for shape, axis in (((1, 1), (0, 1)), ((1, cols), 0), ((rows, 1), 1), ((rows, cols), ())):
                expected = a.astype(WIDE).sum(axis=axis, keepdims=True)
                for accumulate in (False, True):
                    context.case(KERNELS["sum"].formula, a=a)
                    result = apply(context, "sum", [a], shape, dtype, accumulate)
                    context.compare(
                        f"sum of {a.shape} to {shape}", result, expected + int(accumulate), _bound("sum", a.size, dtype)
                    )


def check_matmul(context: Context) -> None:
    """Either operand transposed, at sizes around the blocks that kernels work in."""
    sizes = [(1, 1, 1), (4, 3, 64), (5, 9, 17), (3, 70, 33), (9, 0, 4), (2, 5, 0), (13, 16, 130), (8, 33, 8), (1, 64, 128)]
    sizes += [(3, 1, 9), (1, 1, 33), (5, 1, 16)]  # columns, which are rows where there are no gaps
    for dtype in context.dtypes:
        for m, k, n in sizes:
            for turns in ((False, False), (True, False), (False, True), (True, True)):
                a, b = (context.rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
                operands = [a.T if turns[0] else a, b.T if turns[1] else b]
                attributes = (("transpose_a", turns[0]), ("transpose_b", turns[1]))
                for accumulate, gap in ((False, 2), (True, 2), (False, 0)):
                    expected = a.astype(WIDE) @ b.astype(WIDE) + int(accumulate)
                    context.case(f"{KERNELS['matmul'].formula}, {dict(attributes)}", a=operands[0], b=operands[1])
                    result = apply(context, "matmul", operands, (m, n), dtype, accumulate, attributes, gap)
                    context.compare(f"matmul of {m} × {k} × {n} in {dtype}", result, expected, _bound("matmul", k, dtype))


def check_row_dot(context: Context) -> None:
    """With either operand broadcast."""
    for dtype in context.dtypes:
        for n in SIZES:
            for left, right in (((3, n), (3, n)), ((1, n), (3, n)), ((3, 1), (3, n)), ((3, n), (1, 1))):
                a, b = (context.rng.standard_normal(shape).astype(dtype) for shape in (left, right))
                expected = (a.astype(WIDE) * b).sum(1, keepdims=True)
                for accumulate in (False, True):
                    context.case(KERNELS["row_dot"].formula, a=a, b=b)
                    result = apply(context, "row_dot", [a, b], (3, 1), dtype, accumulate)
                    context.compare(
                        f"row_dot of {left} and {right}", result, expected + int(accumulate), _bound("row_dot", n, dtype)
                    )


def check_columns(context: Context, kernel: str) -> None:
    """Kernels over the columns of a cell: every width, stored and accumulated."""
    formula, operand_widths, result_width = COLUMNS[kernel]
    for dtype in context.dtypes:
        for n in SIZES:
            for rows in (1, 3):
                operands = [(context.rng.standard_normal((rows, w * n)) * 2).astype(dtype) for w in operand_widths]
                for accumulate in (False, True):
                    expected = formula(*_wide(operands)) + int(accumulate)
                    context.case(KERNELS[kernel].formula, **dict(zip(KERNELS[kernel].operands, operands, strict=True)))
                    result = apply(context, kernel, operands, (rows, result_width * n), dtype, accumulate)
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


@check("kernels/limits", "core", "shut and open gates, sums over infinities and NaN come out as the formulas say", at_least=20)
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
