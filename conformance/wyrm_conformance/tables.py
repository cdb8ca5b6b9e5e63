"""Kernels that go by indices, bags and keys, one by one, against formulas in extended precision; rows read where they stand."""

from __future__ import annotations

from typing import Any

import numpy as np

from wyrm.kernels import KERNELS
from wyrm.memory import BagBuffer, GradientBuffer, Memory, Sink, Source, aligned
from wyrm.philox import uniform
from wyrm.program import Buffer, InputSlot, Instruction, ParameterSlot, Program, Slot
from wyrm_conformance.applying import apply
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.formulas import WIDE
from wyrm_conformance.shapes import SIZES, beyond, long_shapes

__all__ = ["random_bags"]

#: Rows of a table.
ROWS = 7


def _tolerance(dtype: str, terms: int = 4) -> float:
    return 2.0 * terms * float(np.finfo(dtype).eps)


def random_bags(rng: np.random.Generator, count: int, dtype: str, weighted: bool) -> BagBuffer:
    """Bags of up to six indices, not all of them empty; some indices occur twice.

    What lies behind them in memory looks like one bag more, so that it shows where somebody takes it for one.
    """
    lengths = rng.integers(0, 6, count)
    lengths[-1] = 4
    total = int(lengths.sum())
    bag = BagBuffer(count + 1, dtype)
    bag.reserve(total + 3)
    bag.offsets[1:] = np.cumsum([*lengths, 3])
    bag.offsets = bag.offsets[:-1]
    bag.indices[:] = rng.integers(0, ROWS, total + 3)
    bag.weights[:] = rng.uniform(0.5, 2, total + 3) if weighted else 1
    bag.header[0], bag.header[2] = total, count
    return bag


def _cancelling_bags(rng: np.random.Generator, dtype: str) -> BagBuffer:
    """Bags whose weights sum to 0, exactly and to rounding, an empty one, and one whose weights are below the normal range."""
    weights = [[0.5, -0.5], [0.1, 0.2, -0.3], [0.0, 0.0, 0.0], [], [float(np.finfo(dtype).tiny) / 4] * 2]
    bag = BagBuffer(len(weights), dtype)
    together = np.concatenate(weights)
    bag.reserve(len(together))
    bag.offsets[1:] = np.cumsum([len(part) for part in weights])
    bag.indices[:], bag.weights[:] = rng.integers(0, ROWS, len(together)), together
    bag.header[0] = len(together)
    return bag


def _pooling(bag: BagBuffer, mean: bool) -> Array:
    """What pools rows of the table, as a matrix."""
    result = np.zeros((len(bag.offsets) - 1, ROWS), WIDE)
    for b in range(len(result)):
        part = slice(bag.offsets[b], bag.offsets[b + 1])
        weights = bag.weights[part].astype(WIDE)
        if mean:
            cancel = abs(weights.sum()) <= np.finfo(bag.weights.dtype).eps * abs(weights).sum()
            weights = np.zeros_like(weights) if cancel else weights / weights.sum()
        np.add.at(result[b], bag.indices[part], weights)
    return result


def _stored(context: Context, kernel: str, operands: list[Any], expected: Array, dtype: str, **attributes: Any) -> None:
    """A result stored, and one added to ones."""
    shown = {f"operand {n}": operand for n, operand in enumerate(operands) if isinstance(operand, np.ndarray)}
    context.case(KERNELS[kernel].formula, **shown)
    for accumulate in (False, True):
        actual = apply(context, kernel, operands, expected.shape, dtype, accumulate, tuple(attributes.items()))
        context.compare(f"{kernel} to {expected.shape} in {dtype}", actual, expected + int(accumulate), _tolerance(dtype))


@check("kernels/rows", "core", "rows and elements named by indices are read and written where they are named", at_least=2000)
def check_rows(context: Context) -> None:
    """``gather``, ``scatter``, ``pick`` and ``place``; indices occur several times."""
    rng = context.rng
    for dtype in context.dtypes:
        for n in SIZES[1:]:
            for count in (1, 4, 19):
                table, rows = (rng.uniform(-1, 1, shape).astype(dtype) for shape in ((ROWS, n), (count, n)))
                index, column = rng.integers(0, ROWS, (count, 1)), rng.integers(0, n, (count, 1))
                index[0] = ROWS - 1
                _stored(context, "gather", [table, index], table[index[:, 0]].astype(WIDE), dtype)
                scattered = np.zeros((ROWS, n), WIDE)
                np.add.at(scattered, index[:, 0], rows)
                _stored(context, "scatter", [index, rows], scattered, dtype)
                picked = np.take_along_axis(rows, column, 1).astype(WIDE)
                _stored(context, "pick", [rows, column], picked, dtype)
                placed = np.zeros((count, n), WIDE)
                np.put_along_axis(placed, column, picked, 1)
                _stored(context, "place", [column, picked.astype(dtype)], placed, dtype)


@check("kernels/bags", "core", "bags pool rows by their weights, and hand gradients back by the same weights", at_least=2000)
def check_bags(context: Context) -> None:
    """``gather_bag`` and ``scatter_bag``: sums and means, with and without weights, which may cancel; empty bags."""
    rng = context.rng
    for dtype in context.dtypes:
        for n in SIZES[1:]:
            kinds = ((1, False, True), (4, True, True), (3, True, False), (3, False, False))
            bags = [(random_bags(rng, count, dtype, weighted), mean) for count, mean, weighted in kinds]
            for bag, mean in (*bags, (_cancelling_bags(rng, dtype), True)):
                table, rows = (rng.uniform(-1, 1, shape).astype(dtype) for shape in ((ROWS, n), (len(bag.offsets) - 1, n)))
                pooling = _pooling(bag, mean)
                _stored(context, "gather_bag", [table, bag], pooling @ table.astype(WIDE), dtype, mean=mean)
                _stored(context, "scatter_bag", [bag, rows], pooling.T @ rows.astype(WIDE), dtype, mean=mean)


@check("kernels/dropout_mask", "core", "random numbers are those of the key, stored or added", at_least=1000)
def check_dropout_mask(context: Context) -> None:
    """Keys with high words; rates of 0 and near 1; the numbers go on from row to row."""
    for dtype in context.dtypes:
        for n in SIZES[1:]:
            for rate in (0.0, 0.5, 0.9):
                key = context.rng.integers(0, 2**62, (3, 1))
                p = np.array([[rate]], dtype)
                kept = uniform(key[:, 0], 3 * n).reshape(3, n) >= p
                _stored(context, "dropout_mask", [key, p], np.where(kept, 1 / (1 - p.astype(WIDE)), 0), dtype)
        for shape, _ in long_shapes(context.rng, few=True):
            key, p = context.rng.integers(0, 2**62, (3, 1)), np.array([[0.25]], dtype)
            kept = uniform(key[:, 0], shape[0] * shape[1]).reshape(shape) >= 0.25
            _stored(context, "dropout_mask", [key, p], np.where(kept, 1 / (1 - p.astype(WIDE)), 0), dtype)


@check("kernels/gradients", "core", "gradients gather what is added to them, and can be summed and merged", at_least=2000)
def check_gradients(context: Context) -> None:
    """``accumulate_rows``, ``accumulate_bag``, ``square_sum`` and ``merge_gradient``."""
    rng = context.rng
    for dtype in context.dtypes:
        for n in SIZES[1:]:
            index, rows = rng.integers(0, ROWS, (4, 1)), rng.uniform(-1, 1, (4, n)).astype(dtype)
            bags = random_bags(rng, 3, dtype, True), _cancelling_bags(rng, dtype)
            pooled = [rng.uniform(-1, 1, (len(bag.offsets) - 1, n)).astype(dtype) for bag in bags]
            expected = sum(_pooling(bag, True).T @ each.astype(WIDE) for bag, each in zip(bags, pooled, strict=True))
            np.add.at(expected, index[:, 0], rows)
            one, other = _gradient(n, dtype), _gradient(n, dtype)
            for gradient in (one, other):
                apply(context, "accumulate_rows", [index, rows], gradient, dtype)
                for pair in zip(bags, pooled, strict=True):
                    apply(context, "accumulate_bag", [*pair], gradient, dtype, attributes=(("mean", True),))
                context.compare(f"rows gathered in {dtype}", _dense(gradient), expected, _tolerance(dtype))
            dense = rng.uniform(-1, 1, (ROWS, n)).astype(dtype)
            other.require_dense()[...] = dense
            other.header[0] = 1
            one.require_dense()
            apply(context, "merge_gradient", [other], one, dtype)
            context.require("a gradient that was merged is empty", not other.touched and not other.count)
            context.require("the matrix that it was merged into is marked by a 1", one.header[0] == 1)
            whole = 2 * expected + dense
            context.compare(f"gradients merged in {dtype}", _dense(one), whole, _tolerance(dtype))
            total = (whole**2).sum().reshape(1, 1)
            for accumulate in (False, True):
                square = apply(context, "square_sum", [one], (1, 1), dtype, accumulate)
                context.compare(f"square_sum in {dtype}", square, total + int(accumulate), _tolerance(dtype, 10))
            frozen = np.arange(ROWS).reshape(-1, 1) % 3 == 1
            for gradient, values in ((one, whole), (_gradient(n, dtype), rows)):
                if gradient is not one:
                    apply(context, "accumulate_rows", [np.arange(4).reshape(4, 1), rows], gradient, dtype)
                total = (values[~frozen[: len(values), 0]].astype(WIDE) ** 2).sum().reshape(1, 1)
                square = apply(context, "square_sum", [gradient, frozen.astype(dtype)], (1, 1), dtype)
                context.compare(f"square_sum without frozen rows in {dtype}", square, total, _tolerance(dtype, 10))
            context.compare(f"the gradient after square_sum in {dtype}", _dense(one), whole, _tolerance(dtype))


def _gradient(cols: int, dtype: str) -> GradientBuffer:
    gradient = GradientBuffer((ROWS, cols), dtype)
    gradient.reserve(60)
    return gradient


def _dense(gradient: GradientBuffer) -> Array:
    numbers, values = gradient.merged_rows()
    dense = np.zeros(gradient.shape) + (gradient.require_dense() if gradient.touched else 0.0)
    dense[numbers] += values
    return dense


@check(
    "kernels/lookup",
    "core",
    "rows are read and changed where they stand, each example's own, and nothing beside them",
    requires=("lookup",),
    at_least=1000,
)
def check_lookup(context: Context) -> None:
    """Runs of a program that reads a row of one table, adds an input to it, and takes the sum from a row of another."""
    for dtype in context.dtypes:
        many = beyond(context.rng, 16)
        for n, rows in (*((n, ROWS) for n in SIZES[1:]), (1, many), (5, many)):
            program = _looking_up(n, dtype, rows)
            whole = [aligned((rows + 2, n), dtype, fill=None) for _ in range(2)]  # with a row before and one after
            for array in whole:
                array[...] = context.rng.uniform(-1, 1, array.shape)
            first, second = (array[1:-1] for array in whole)
            indices = context.rng.integers(0, rows, (2, 20, 1))
            x = context.rng.uniform(-1, 1, (20, n)).astype(dtype)
            exact = [array.astype(WIDE) for array in whole]
            sums = np.zeros((20, n), WIDE)
            for example, (i, j) in enumerate(indices[:, :, 0].T + 1):
                sums[example] = exact[0][i] + x[example]
                exact[1][j] -= sums[example]
            memory = Memory(program, [*Memory.own(program), first, second, None, None])
            results = np.full((20, n), np.nan, dtype)
            sources = [Source(indices[0]), Source(indices[1]), Source(x)]
            runner = context.backend.compile(program).bind_feed(memory, sources, [Sink(results)])
            context.case("sum = first[i] + x; second[j] -= sum; sum", i=indices[0], j=indices[1])
            order = np.arange(20).reshape(-1, 1)
            context.require("runs return 0", runner.run(order, 0, 7) == 0 and runner.run(order, 7, 20) == 0)
            context.compare(f"{n} columns in {dtype}: sums", results, sums, _tolerance(dtype))
            context.identical("the table that is only read", whole[0], exact[0].astype(dtype))
            context.compare("the table that is changed", whole[1], exact[1], _tolerance(dtype, 20))


def _looking_up(n: int, dtype: str, rows: int) -> Program:
    """See :func:`check_lookup`."""
    tables = Buffer("value", 0), Buffer("value", 1)
    read_at = [Buffer("row", number, table=table) for number, table in enumerate(tables)]
    x, total = Slot(0, 0, (1, n), n), Slot(0, n + 3, (1, n), n)
    read, changed = Slot(4, 0, (1, n), n), Slot(5, 0, (1, n), n)
    inputs = [InputSlot("index", Slot(1, number, (1, 1), 1), limit=rows) for number in range(2)]
    return Program(
        "evaluate",
        dtype,
        (Buffer("real"), Buffer("index"), *tables, *read_at),
        real_length=2 * n + 3,
        index_length=2,
        inputs=(*inputs, InputSlot("dense", x)),
        parameters=(ParameterSlot((rows, n)), ParameterSlot((rows, n))),
        forward=(Instruction("add", total, (read, x)), Instruction("subtract", changed, (changed, total))),
        outputs=(total,),
    )
