"""Feeds of more examples than a backend may look ahead: what is in them, in every dtype, and where one is no good."""

from __future__ import annotations

from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD
from wyrm_conformance.check import Array, Context, Failure, check

#: Lengths of feeds, around those of vectors and of blocks of examples.
COUNTS = (1, 7, 8, 9, 16, 31, 33, 157)
#: Of rows: all up to two vectors and more, and some beyond.
WIDTHS = (*range(1, 41), 48, 50, 60, 64, 70, 80, 96, 100, 128)
#: Of numbers, and of indices.
DTYPES: tuple[tuple[str, ...], tuple[str, ...]] = (("float32", "float64", "int32", "int64"), ("int32", "int64"))


def _column(values: Array) -> Array:
    """The same numbers with gaps between them."""
    return np.column_stack([values, np.zeros_like(values)])[:, 0]


@check("training/dtypes", "training", "numbers and indices are read as what they are, example by example", at_least=1500)
def check_dtypes(context: Context) -> None:
    """Sums that each example adds its own numbers to, at its own rows: in order and shuffled, with gaps and without."""
    rng = context.rng
    for dtype in context.dtypes:
        weights = [wyrm.ParameterNode(0.0, dtype=dtype) for _ in DTYPES[0]]
        tables = [wyrm.ParameterNode(np.zeros((7, cols)), dtype=dtype) for cols in (9, 1)]
        numbers = [wyrm.InputNode((1, 1), dtype=dtype) for _ in weights]
        indices = [wyrm.IndexInputNode() for _ in tables]
        terms = [weight * x for weight, x in zip(weights, numbers, strict=True)]
        for n, (table, index) in enumerate(zip(tables, indices, strict=True)):
            terms.append((table.index(index) * (numbers[n] + numbers[n + 2])).scalar_sum())
        loss = sum(terms[1:], terms[0])
        for count in COUNTS:
            for shuffle, spread in ((False, False), (False, True), (True, False)):
                xs = [rng.integers(-8, 9, count).astype(d) for d in DTYPES[0]]
                rows = [rng.integers(0, 7, count).astype(d) for d in DTYPES[1]]
                feed: dict[Any, Any] = {
                    node: _column(values) if spread else values
                    for node, values in zip([*numbers, *indices], [*xs, *rows], strict=True)
                }
                for parameter in (*weights, *tables):
                    parameter.set_value(np.zeros(parameter.shape))
                options: dict[str, Any] = {
                    "num_epochs": 2,
                    "num_threads": 1,
                    "backend": context.backend,
                }  # of one, data are copied
                wyrm.fit(loss, feed, SGD(0.25, [*weights, *tables]), shuffle=shuffle, **options)
                what = f"of {count} examples in {dtype}, {'shuffled' if shuffle else 'in order'}"
                context.case("sums of a feed's numbers", **dict(zip(DTYPES[0], xs, strict=True)))
                for weight, x in zip(weights, xs, strict=True):
                    context.compare(f"the sum {what}, of {x.dtype}", weight.value, np.full((1, 1), -0.5 * x.sum()), 0)
                for n, (table, row) in enumerate(zip(tables, rows, strict=True)):
                    sums = np.bincount(row, xs[n].astype(float) + xs[n + 2], 7)[:, None]
                    expected = np.broadcast_to(-0.5 * sums, table.shape)
                    context.compare(f"sums by row {what}, of {row.dtype}", table.value, expected, 0)


@check(
    "training/widths",
    "training",
    "rows of any width are read and changed where they stand, and none beside them",
    at_least=10_000,
)
def check_widths(context: Context) -> None:
    """Factorization, both factors from tables, and regression, one of them given, step by step as their formulas say."""
    rng = context.rng
    count = 12
    for dtype in context.dtypes:
        tolerance = 1e-12 if dtype == "float64" else 1e-4
        for width in WIDTHS:
            values = [rng.uniform(-1, 1, (rows, width)) / np.sqrt(width) for rows in (5, 6, 4)]
            exact = [value.astype(dtype).astype(np.float64) for value in values]
            left, right, single = (wyrm.ParameterNode(value, dtype=dtype) for value in values)
            i, j, k = (wyrm.IndexInputNode() for _ in range(3))
            x, y = wyrm.InputNode((1, width), dtype=dtype), wyrm.InputNode((1, 1), dtype=dtype)
            rows = [rng.integers(0, len(value), count) for value in values]
            xs, ys = rng.uniform(-1, 1, (count, width)).astype(dtype), rng.uniform(-1, 1, count).astype(dtype)
            options: dict[str, Any] = {"shuffle": False, "num_threads": 1, "backend": context.backend}
            loss = (left.index(i).vector_dot(right.index(j)) - y).square()
            wyrm.fit(loss, {i: rows[0], j: rows[1], y: ys}, SGD(0.1, [left, right]), **options)
            loss = (single.index(k).vector_dot(x) - y).square()
            wyrm.fit(loss, {k: rows[2], x: xs, y: ys}, SGD(0.1, [single]), **options)
            u, v, w = exact
            for a, b, c, given, wanted in zip(*rows, xs.astype(np.float64), ys.astype(np.float64), strict=True):
                error = 0.2 * (u[a] @ v[b] - wanted)
                u[a], v[b] = u[a] - error * v[b], v[b] - error * u[a]
                w[c] -= 0.2 * (w[c] @ given - wanted) * given
            for table, value in zip((left, right, single), exact, strict=True):
                context.compare(f"a table of width {width} in {dtype}", table.value, value, tolerance)


@check("training/errors far on", "training", "what is wrong in the middle of a feed ends training right there", at_least=400)
def check_errors_far_on(context: Context) -> None:
    """Indices that are changed to ones outside of the table, and infinite numbers: all before has been done, nothing behind."""
    count = COUNTS[-1]
    for place in (0, 6, 8, 31, 32, 100, count - 1):
        for wrong, dtype, spread in ((7, "int32", False), (-1, "int64", False), (7, "int64", True)):
            indices = context.rng.integers(0, 7, count).astype(dtype)
            indices = _column(indices) if spread else indices
            table, index = wyrm.ParameterNode(np.zeros((7, 3))), wyrm.IndexInputNode()
            counts = np.bincount(indices, minlength=7) + np.bincount(indices[:place], minlength=7)
            options: dict[str, Any] = {"shuffle": False, "num_threads": 1, "backend": context.backend}
            change = [lambda epoch, place=place, wrong=wrong, to=indices: to.__setitem__(place, wrong)]
            try:
                loss = table.index(index).scalar_sum()
                wyrm.fit(loss, {index: indices}, SGD(1.0, [table]), num_epochs=2, callbacks=change, **options)
            except wyrm.OutOfRangeError:
                pass
            else:
                raise Failure(f"index {wrong} of example {place} was not noticed")
            context.compare(f"rows up to example {place}", table.value, np.broadcast_to(-counts[:, None], (7, 3)), 0)
        w, x = wyrm.ParameterNode(0.0), wyrm.InputNode((1, 1))
        numbers = np.where(np.arange(count) == place, np.inf, context.rng.integers(-8, 9, count))
        try:
            with context.oracle():  # which explains the infinite loss by computing the example again
                wyrm.fit(w + x, {x: numbers}, SGD(1.0, [w]), **options)
        except wyrm.NotFiniteError as error:
            context.require(f"the message names example {place}: {error}", f"example {place}" in str(error))
        else:
            raise Failure(f"an infinite loss at example {place} was not noticed")
        context.compare(f"steps up to example {place}", w.value, np.full((1, 1), -float(place)), 0)
