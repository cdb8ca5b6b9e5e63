"""A life of each optimizer, in which all changes that can: rates, orders, batches, calls, groups, and who makes the steps.

What is to come of it is computed by the steps of the rule, in float64, for the rows that each step touches and for those that
it does not. So whatever is kept from one step, epoch or call to the next, and should not be, shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import wyrm
from wyrm.frontend.lowering.updates import GRADIENT_SCALE
from wyrm.optim import Group
from wyrm.philox import draw
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.optimizers import CASES, TOLERANCE
from wyrm_conformance.updates import results

#: Rows of the tables.
ROWS = 7
#: The optimizers, by their names in :data:`.optimizers.CASES`: each algorithm, and each option with one of them at least.
TRIED = (
    *("sgd", "sgd, clipped", "sgd, l1", "momentum, everything"),
    *("adagrad, l1", "rowwise-adagrad", "adam, everything", "ftrl"),
)
#: Of the numbers that are drawn.
SEED = 5
Rates = Callable[[Any], Any]


def falling(steps: Any) -> Any:
    """A schedule of which each step has a rate of its own."""
    return 0.1 / (1 + 0.07 * np.asarray(steps))


def waving(steps: Any) -> Any:
    """Another, which is 0 now and then."""
    return 0.03 * (np.asarray(steps) % 5)


class Exact:
    """One parameter, and what a group of an optimizer does to it."""

    def __init__(self, node: wyrm.ParameterNode, group: Any, rates: Rates) -> None:
        self.rule, self.options, self.rates = group.rule, group.options, rates
        self.value = node.value.astype(np.float64)
        shapes = [(len(self.value), 1 if state.per == "row" else self.value.shape[1]) for state in self.rule.states]
        self.states = [np.full(shape, state.initial) for shape, state in zip(shapes, self.rule.states, strict=True)]

    def step(self, step: int, gradient: Array, touched: Array, scale: float) -> None:
        """A step by its number: of the rows that are touched by the rule, of the others by what it does to rows it misses."""
        rate = float(self.rates(step))
        given = {**self.options, "learning_rate": rate, GRADIENT_SCALE: scale}
        scalars = [given[name] for name in self.rule.scalars]
        with np.errstate(all="ignore"):
            found = results(self.rule, self.value[touched], gradient[touched], [s[touched] for s in self.states], scalars)
        caught, missed = self.rule.catch_up, ~touched
        if caught is not None:
            moving = np.zeros_like(self.value) if caught.state is None else self.states[caught.state]
            moving[missed] *= 0.0 if caught.momentum is None else scalars[caught.momentum]
            self.value[missed] *= 1 - rate * (0.0 if caught.decay is None else scalars[caught.decay])
            self.value[missed] -= rate * moving[missed]
        for array, result in zip((self.value, *self.states), found, strict=True):
            array[touched] = result


class Life:
    """A model with an optimizer of two groups, and what should come of its steps.

    The loss is linear in the parameters: rows that an index names, rows that are drawn, and a row that all examples have.
    """

    def __init__(self, context: Context, name: str, dtype: str, cols: int) -> None:
        self.context, self.rng, self.cols, case = context, context.rng, cols, CASES[name]
        self.name, self.dtype, self.clip = f"{name} in {dtype}", dtype, case.options.get("clip_norm", np.inf)
        shapes = ((ROWS, cols), (ROWS, cols), (1, cols))
        self.nodes = [wyrm.ParameterNode(self.rng.uniform(-1, 1, shape), dtype=dtype) for shape in shapes]
        table, noise, bias = self.nodes
        self.index, self.x = wyrm.IndexInputNode(2), wyrm.InputNode((2, cols), dtype=dtype)
        drawn = noise.index(wyrm.SampledIndexNode(ROWS, seed=SEED))
        self.loss = ((table.index(self.index) + bias) * self.x).scalar_sum() + (drawn * self.x[:1]).scalar_sum()
        whole = ("clip_norm", "initial_accumulator_value")
        other = {option: value / 2 for option, value in case.options.items() if option not in whole}
        groups = [Group([table, noise]), Group([bias], learning_rate=waving, **other)]
        self.optimizer = case.optimizer(falling, groups, **case.options)
        first, second = self.optimizer.groups
        rates = ((first, falling), (first, falling), (second, waving))
        self.exact = [Exact(node, group, rate) for node, (group, rate) in zip(self.nodes, rates, strict=True)]
        self.steps = 0

    def _data(self, count: int) -> tuple[Array, Array]:
        return self.rng.integers(0, ROWS, (count, 2)), self.rng.uniform(-1, 1, (count, 2, self.cols))

    def _expect(self, data: tuple[Array, Array], examples: list[int], first_step: int) -> None:
        """One step by the mean gradient of examples; the numbers drawn follow from the first step of the epoch."""
        gradients = [np.zeros(exact.value.shape) for exact in self.exact]
        touched = [np.zeros(len(exact.value), bool) for exact in self.exact]
        for example in examples:
            index, x = data[0][example], data[1][example] / len(examples)
            row = draw((SEED, 0, first_step + example), 0, ROWS)
            np.add.at(gradients[0], index, x)
            gradients[1][row] += x[0]
            gradients[2] += x.sum(0)
            touched[0][index] = touched[1][row] = touched[2][:] = True
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        for exact, gradient, rows in zip(self.exact, gradients, touched, strict=True):
            exact.step(self.steps, gradient, rows, min(1.0, self.clip / norm))
        self.steps += 1

    def fit(self, count: int, epochs: int = 1, batch_size: int = 1, seed: int | None = None) -> None:
        """A call of ``fit``; in order if there is no seed."""
        data = self._data(count)
        options: dict[str, Any] = {"num_epochs": epochs, "batch_size": batch_size, "seed": seed, "shuffle": seed is not None}
        feed = {self.index: data[0], self.x: data[1]}
        wyrm.fit(self.loss, feed, self.optimizer, num_threads=1, backend=self.context.backend, **options)
        for epoch in range(1, epochs + 1):
            order = list(range(count)) if seed is None else np.random.default_rng([seed, 0, epoch]).permutation(count).tolist()
            first_step = self.steps * batch_size
            for begin in range(0, count, batch_size):
                self._expect(data, order[begin : begin + batch_size], first_step)
        self._compare(f"fit of {count} examples, {batch_size} a step, in {epochs} epochs")

    def step(self) -> None:
        """A step that is driven from Python."""
        data = self._data(1)
        self.index.set_value(data[0][0])
        self.x.set_value(data[1][0])
        self.loss.forward(backend=self.context.backend)
        self.loss.backward(1.0)
        self.optimizer.step()
        self._expect(data, [0], self.steps)

    def set_rate(self, rate: float) -> None:
        """Another rate from now on, of both groups."""
        self.optimizer.learning_rate = rate
        for exact in self.exact:
            exact.rates = lambda step: rate

    def _compare(self, what: str) -> None:
        self.context.case(f"{self.steps} steps of {self.name}, the last of them by {what}")
        for node, exact, of in zip(self.nodes, self.exact, ("table", "rows drawn", "bias"), strict=True):
            self.context.compare(
                f"the {of} after {self.steps} steps of {self.name}", node.value, exact.value, TOLERANCE[self.dtype]
            )


@check(
    "optimizers/changes",
    "training",
    "each step has the rate, the order, the batch, the draws and the group's options of its own, whoever makes it",
    at_least=500,
)
def check_changes(context: Context) -> None:
    """Options of every kind: steps, calls of one run, shuffled epochs, batches, rates by schedule and by hand, in turns."""
    for number, name in enumerate(TRIED):
        life = Life(context, name, context.dtypes[number % len(context.dtypes)], int(context.rng.choice((1, 5, 17))))
        life.fit(1)
        life.step()
        life.step()
        life.fit(1)
        life.fit(7, epochs=3, seed=int(context.rng.integers(2**31)))
        life.step()
        life.fit(5, batch_size=2)
        life.fit(4)
        life.set_rate(0.05)
        life.fit(3)
        life.step()
        life.set_rate(0.02)
        life.step()
        life.fit(4, epochs=2, batch_size=3, seed=int(context.rng.integers(2**31)))
