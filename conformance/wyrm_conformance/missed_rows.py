"""Rows that steps miss: at rates that change they equal the dense algorithm, and reading leaves no trace."""

from __future__ import annotations

from typing import Any

import numpy as np

import wyrm
from wyrm import optim
from wyrm_conformance.check import Array, Context, check

#: More than rates are kept for of so few rows; what thousands of steps come to, `kernels/idle rows` looks at.
STEPS = 1500
#: In float64, where catching up is as exact as doing step after step; in float32, steps and stretches round apart.
TOLERANCE = {"float64": 1e-10, "float32": 2e-3}
OPTIONS: tuple[dict[str, float], ...] = (
    {"weight_decay": 0.2},
    {"momentum": 0.9, "weight_decay": 0.05},
    {"momentum": 0.99},
    {"momentum": 0.5, "weight_decay": 12.0},  # factors below 0
)
#: How many of them are tried over thousands of steps: what the steps come to is computed in float64 whatever the dtype.
TRIED = {"float64": 4, "float32": 2}


def rates(steps: Array) -> Array:
    """A cosine that begins anew, is 0 for a while each time, and warms up."""
    place = np.asarray(steps) % 700
    return np.where(place < 100, 0.001 * place, np.maximum(0.1 * np.cos((place - 100) / 300), 0.0))


class _Model:
    """A table with a gradient that is given in one row, and in the rows of a bag."""

    def __init__(self, start: Array, dtype: str, options: dict[str, float]) -> None:
        cols = start.shape[1]
        self.table = wyrm.ParameterNode(start, dtype=dtype)
        self.index, self.bag = wyrm.IndexInputNode(), wyrm.BagInputNode(1)
        self.x = wyrm.InputNode((1, cols), dtype=dtype)
        self.loss = ((self.table.index(self.index) + self.table.index_sum(self.bag)) * self.x).scalar_sum()
        self.optimizer = optim.SGD(rates, [self.table], **options)

    def set(self, row: int, bag: Array, x: Array) -> None:
        """Set the inputs."""
        self.index.set_value(row)
        self.bag.set_value([bag])
        self.x.set_value(x)


def _data(rng: Any, steps: int, rows: int, cols: int) -> tuple[Array, list[Array], Array]:
    """Rows, of which most are touched seldom and the last never, bags that are mostly empty, and gradients."""
    index = rng.integers(0, 2, steps)
    seldom = rng.choice(steps, 12, replace=False)
    index[seldom] = rng.integers(2, rows - 1, len(seldom))
    bags = [rng.integers(0, rows - 1, int(rng.random() < 0.004)) for _ in range(steps)]
    return index, bags, rng.uniform(-1, 1, (steps, 1, cols))


@check(
    "optimizers/missed rows",
    "training",
    "rows that more than a thousand steps do not touch decay and move at the learning rate of each of them",
    at_least=9 * TRIED["float32"],
)
def check_missed_rows(context: Context) -> None:
    """By fit, in two epochs; some rows are not touched for a thousand steps and more."""
    for dtype in context.dtypes:
        for options in OPTIONS[: TRIED[dtype]]:
            cols = int(context.rng.integers(1, 19))
            start = context.rng.uniform(-1, 1, (9, cols))
            index, bags, x = _data(context.rng, STEPS, 9, cols)
            w, velocity = start.copy(), np.zeros_like(start)
            for n, rate in enumerate(rates(np.arange(STEPS))):
                velocity *= options.get("momentum", 0.0)
                velocity[index[n]] += x[n, 0]
                np.add.at(velocity, bags[n], x[n, 0])
                w = (1 - rate * options.get("weight_decay", 0.0)) * w - rate * velocity
            model = _Model(start, dtype, options)
            for part in (slice(0, 200), slice(200, STEPS)):
                feed = {model.index: index[part], model.bag: [list(bag) for bag in bags[part]], model.x: x[part]}
                wyrm.fit(model.loss, feed, model.optimizer, shuffle=False, num_threads=1, backend=context.backend)
            scale = max(1.0, float(np.abs(w).max()))
            context.compare(f"table in {dtype} with {options}", model.table.value / scale, w / scale, TOLERANCE[dtype])


@check("optimizers/looking", "training", "whoever reads rows that are behind, in a forward pass or otherwise, changes nothing")
def check_looking(context: Context) -> None:
    """Two models of which one is looked at."""
    for dtype in context.dtypes:
        for options in OPTIONS[:3]:
            start = context.rng.uniform(-1, 1, (9, 5))
            index, bags, x = _data(context.rng, 80, 9, 5)
            models = [_Model(start, dtype, options) for _ in range(2)]
            for n in range(80):
                for model, looks in zip(models, (False, True), strict=True):
                    if looks:
                        model.set(int(index[n - 1]), np.arange(2, 8), x[n])
                        model.index.set_value(3 + n % 5)
                        model.loss.forward(backend=context.backend)
                        model.table.value.sum()
                        model.optimizer.state_dict()
                    model.set(int(index[n]), bags[n], x[n])
                    model.loss.forward(backend=context.backend)
                    model.loss.backward(1.0)
                    model.optimizer.step()
            context.identical(f"table in {dtype} with {options}", models[1].table.value, models[0].table.value)


@check(
    "optimizers/evaluated rows", "training", "rows that are behind are evaluated as they would be, and stay as they are kept"
)
def check_evaluated(context: Context) -> None:
    """Looked up, pooled and as a whole, after steps that missed most of them."""
    for dtype in context.dtypes:
        for options in OPTIONS[:3]:
            start = context.rng.uniform(-1, 1, (9, 5))
            index, bags, x = _data(context.rng, 60, 9, 5)
            model = _Model(start, dtype, options)
            for n in range(60):
                model.set(int(index[n]), bags[n], x[n])
                model.loss.forward(backend=context.backend)
                model.loss.backward(1.0)
                model.optimizer.step()
                if n % 7 == 0:
                    _compare_evaluated(context, model)
            kept = model.optimizer.state_dict()
            _compare_evaluated(context, model)
            for name, array in model.optimizer.state_dict().items():
                context.identical(f"{name} in {dtype} with {options}", array, kept[name])


def _compare_evaluated(context: Context, model: _Model) -> None:
    value, row = model.table.value, int(context.rng.integers(9))
    bag, x = context.rng.integers(0, 9, 3), context.rng.uniform(-1, 1, (1, 5))
    for node, feed, expected in (
        (model.table.index(model.index), {model.index: [row]}, value[row]),
        (model.table.index_sum(model.bag), {model.bag: [bag.tolist()]}, value[bag].sum(0)),
        (model.table * model.x, {model.x: x}, value * x),
    ):
        context.compare(repr(node), wyrm.evaluate(node, feed, backend=context.backend)[0], expected.reshape(node.shape), 1e-5)
