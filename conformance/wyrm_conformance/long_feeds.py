"""Feeds so long that a backend may compile a step anew: it computes what the formulas say, all the same."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD, Adagrad
from wyrm_conformance.check import Context, check

#: Examples of a short feed, and of one so long that a backend may compile the step anew; seconds of the processor in which the
#: short one is run by backends that do.
SHORT, LONG, QUICK = 500, 24_000, 0.01


@check(
    "training/long feeds", "training", "what is compiled for long feeds alone computes what everything else does", at_least=100
)
def check_long_feeds(context: Context) -> None:
    """Small models, step by step as their formulas say. A backend that is slow on the short feed gets no long one."""
    for dtype in context.dtypes:
        tolerance = 1e-11 if dtype == "float64" else 1e-4
        for model in (_line, _factors, _bounded):
            model(context, SHORT, dtype, tolerance)  # whatever is compiled once, is now
            began = time.process_time()
            model(context, SHORT, dtype, tolerance)
            if time.process_time() - began < QUICK:
                model(context, LONG, dtype, tolerance)


def _line(context: Context, examples: int, dtype: str, tolerance: float) -> None:
    """Linear regression: numbers alone."""
    xs = context.rng.uniform(-1, 1, examples).astype(dtype)
    ys = (3 * xs + 5 + 0.1 * context.rng.normal(size=examples)).astype(dtype)
    a, b = (wyrm.ParameterNode(0.0, dtype=dtype) for _ in range(2))
    x, y = (wyrm.InputNode((1, 1), dtype=dtype) for _ in range(2))
    history = _fit(context, (a * x + b - y).square(), {x: xs, y: ys}, SGD(0.1, [a, b]))
    slope = offset = total = 0.0
    for one, wanted in zip(xs.tolist(), ys.tolist(), strict=True):
        error = slope * one + offset - wanted
        total += error * error
        slope, offset = slope - 0.2 * error * one, offset - 0.2 * error
    what = f"linear regression on {examples} examples in {dtype}"
    context.compare(what, np.array([a.value[0, 0], b.value[0, 0]]), np.array([slope, offset]), tolerance)
    context.compare(f"the loss of {what}", np.array(history.losses), np.array([total / examples]), tolerance)


def _factors(context: Context, examples: int, dtype: str, tolerance: float) -> None:
    """Factorization: two rows, where they stand."""
    rng = context.rng
    left, right = rng.normal(size=(40, 8)).astype(dtype) * 0.3, rng.normal(size=(50, 8)).astype(dtype) * 0.3
    i, j = rng.integers(0, 40, examples), rng.integers(0, 50, examples)
    ys = rng.integers(1, 6, examples).astype(dtype)
    tables = [wyrm.ParameterNode(value, dtype=dtype) for value in (left, right)]
    first, second, y = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype=dtype)
    loss = (tables[0].index(first).vector_dot(tables[1].index(second)) - y).square()
    history = _fit(context, loss, {first: i, second: j, y: ys}, SGD(0.01, tables))
    u, v, total = left.astype(np.float64), right.astype(np.float64), 0.0
    for one, other, wanted in zip(i.tolist(), j.tolist(), ys.tolist(), strict=True):
        error = float(u[one] @ v[other]) - wanted
        total += error * error
        u[one], v[other] = u[one] - 0.02 * error * v[other], v[other] - 0.02 * error * u[one]
    for table, exact in zip(tables, (u, v), strict=True):
        context.compare(f"factors of {examples} examples in {dtype}", table.value, exact, tolerance)
    context.compare("their loss", np.array(history.losses), np.array([total / examples]), tolerance)


def _bounded(context: Context, examples: int, dtype: str, tolerance: float) -> None:
    """A row and an input, by way of tanh; Adagrad."""
    rng = context.rng
    start, x = rng.normal(size=(30, 5)).astype(dtype) * 0.3, rng.uniform(-1, 1, (examples, 5)).astype(dtype)
    rows, ys = rng.integers(0, 30, examples), rng.uniform(-0.9, 0.9, examples).astype(dtype)
    table = wyrm.ParameterNode(start, dtype=dtype)
    index, given, y = wyrm.IndexInputNode(), wyrm.InputNode((1, 5), dtype=dtype), wyrm.InputNode((1, 1), dtype=dtype)
    loss = (table.index(index).vector_dot(given).tanh() - y).square()
    _fit(context, loss, {index: rows, given: x, y: ys}, Adagrad(0.05, [table]))
    w, squares = start.astype(np.float64), np.zeros(start.shape)
    for row, one, wanted in zip(rows.tolist(), x.astype(np.float64), ys.tolist(), strict=True):
        t = np.tanh(w[row] @ one)
        g = 2 * (t - wanted) * (1 - t * t) * one
        squares[row] += g * g
        w[row] -= 0.05 * g / (np.sqrt(squares[row]) + 1e-10)
    context.compare(f"rows of {examples} examples in {dtype}", table.value, w, tolerance)


def _fit(context: Context, loss: wyrm.Node, feed: dict[Any, Any], optimizer: Any) -> wyrm.History:
    return wyrm.fit(loss, feed, optimizer, shuffle=False, num_threads=1, backend=context.backend)
