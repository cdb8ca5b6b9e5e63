"""What runs give back: several outputs of one shape, each in its own place, and losses that are no numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD
from wyrm_conformance.check import Context, Failure, check
from wyrm_conformance.schedules import _fit


@check("training/outputs", "training", "each output goes to its own place, however many there are of one shape", at_least=1000)
def check_outputs(context: Context) -> None:
    """Two to five nodes of one shape beside one of another; of functions, one example a run and several; on two threads."""
    rng = context.rng
    for dtype in context.dtypes:
        table, index = wyrm.ParameterNode(rng.integers(-9, 10, (7, 3)), dtype=dtype), wyrm.IndexInputNode()
        x = wyrm.InputNode((1, 3), dtype=dtype)
        row = table.index(index)
        nodes = [row + x, row - x, row * x, row * 2.0, x + 1.0]
        indices, xs = rng.integers(0, 7, 31), rng.integers(-5, 6, (31, 1, 3)).astype(float)
        rows = table.value[indices][:, None].astype(float)
        exact = [rows + xs, rows - xs, rows * xs, rows * 2, xs + 1]
        threads = [1, 2] if "hogwild" in context.backend.capabilities.schedules else [1]
        for count in range(2, 6):
            order, other = rng.permutation(5)[:count].tolist(), int(rng.integers(count + 1))
            chosen, wanted = [nodes[n] for n in order], [exact[n] for n in order]
            chosen.insert(other, (row * x).scalar_sum())
            wanted.insert(other, (rows * xs).sum(2, keepdims=True))
            for number in threads:
                found = wyrm.evaluate(chosen, {index: indices, x: xs}, num_threads=number, backend=context.backend)
                for n, (one, value) in enumerate(zip(found, wanted, strict=True)):
                    context.compare(f"output {n} of {count + 1} in {dtype} on {number} threads", one, value, 0)

        def several(i: Any, x: Any, table: wyrm.ParameterNode = table) -> list[Any]:
            row = table.index(i)
            return [row + x, row - x, row * x]

        for size in (1, 4, 9):
            feed = {"i": indices, "x": xs[:, 0]}
            found = wyrm.evaluate(several, feed, rows=size, dtype=dtype, backend=context.backend)
            for n, (one, value) in enumerate(zip(found, exact[:3], strict=True)):
                context.compare(f"output {n} of a function in {dtype}, {size} a run", one.reshape(-1, 3), value[:, 0], 0)


#: The ways in which runs are made: options of ``fit``, and how many examples a run takes.
WAYS: dict[str, dict[str, Any]] = {
    "single runs": {},
    "batches": {"batch_size": 2},
    "runs of three": {"rows": 3},
    "a team": {"batch_size": 3, "schedule": "synchronized", "num_threads": 2},
}


@check(
    "training/not finite",
    "training",
    "a loss that is NaN, infinite or negative and infinite ends training before its step, whatever makes the runs",
    at_least=40,
)
def check_not_finite(context: Context) -> None:
    """In single runs, batches, runs of several examples and teams; in the first and in another structure."""
    for dtype in context.dtypes:
        for way, options in WAYS.items():
            if options.get("schedule", "") not in ("", *context.backend.capabilities.schedules):
                continue
            for bad in (np.nan, np.inf, -np.inf):
                for example in (0, 7):  # of one structure, and of the other
                    _check_one(context, dtype, way, bad, example)
        for bad in (np.nan, np.inf, -np.inf):
            _check_step(context, dtype, bad)


def _check_one(context: Context, dtype: str, way: str, bad: float, example: int) -> None:
    table = wyrm.ParameterNode(np.zeros((9, 1)), dtype=dtype)
    words = [[e % 9] * (1 + e % 2) for e in range(12)]
    added = wyrm.ParameterNode([[1.0], [bad]], dtype=dtype, trainable=False)  # as no feed may hold NaN

    def loss(words: Any, which: Any) -> Any:
        return sum(table.index(word) for word in words) + added.index(which)

    options: dict[str, Any] = {"shuffle": False, "num_threads": 1, **WAYS[way]}
    what = f"{bad} at example {example} in {dtype}, in {way}"
    model: Callable[..., Any] = loss
    feed = {"words": wyrm.Ragged.of(words), "which": (np.arange(12) == example).astype(np.int64)}
    try:
        with context.oracle():  # which explains the loss by computing the example again
            _fit(model, feed, SGD(1.0, [table]), context, **options)  # type: ignore[arg-type]
    except wyrm.NotFiniteError:
        context.require(f"{what}: the parameter is finite", bool(np.isfinite(table.value).all()))
    else:
        raise Failure(f"{what} was not noticed")
    if way == "single runs":
        exact = np.zeros((9, 1))
        for e in range(example):
            np.add.at(exact, words[e], -1.0)
        context.compare(f"{what}: the steps before", table.value, exact, 0)
    elif example == 0:
        context.compare(f"{what}: no step was made", table.value, np.zeros((9, 1)), 0)


def _check_step(context: Context, dtype: str, bad: float) -> None:
    """A step that is driven from Python, by gradients of rows and of a matrix, of which one is bad."""
    table, matrix = wyrm.ParameterNode(np.ones((4, 3)), dtype=dtype), wyrm.ParameterNode(np.ones((2, 3)), dtype=dtype)
    index, graphs = wyrm.IndexInputNode(2, [1, 3]), list[wyrm.Node]()
    for factors in (([[1.0, 1.0, bad]], [[1.0] * 3] * 2), ([[1.0] * 3], [[1.0] * 3, [1.0, bad, 1.0]])):
        of_rows, of_matrix = (wyrm.ParameterNode(value, dtype=dtype, trainable=False) for value in factors)
        loss = (table.index(index) * of_rows).scalar_sum() + (matrix * of_matrix).scalar_sum()
        graphs.append(loss)
        loss.forward(backend=context.backend)
        loss.backward(1.0)
        optimizer = SGD(0.5, [table, matrix])
        try:
            with context.oracle():  # which explains the gradient by computing it again
                optimizer.step()
        except wyrm.NotFiniteError:
            pass
        else:
            raise Failure(f"a gradient of {bad} in {dtype} was not noticed")
        for node in (table, matrix):
            context.compare(f"a parameter beside a gradient of {bad} in {dtype}", node.value, np.ones(node.shape), 0)
        optimizer.zero_gradient()
