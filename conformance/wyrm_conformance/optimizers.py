"""Optimizers against their formulas in NumPy: dense and row-sparse, by steps and by fit, with every option."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

import wyrm
from wyrm import optim
from wyrm_conformance.check import Array, Context, check

#: Over 40 steps, by dtype; in float64 the closed forms by which rows are caught up are as exact as the steps.
TOLERANCE = {"float64": 1e-10, "float32": 2e-4}
STEPS = 40
#: Columns, around the widths of vector registers; each check takes some of them at random.
WIDTHS, TAKEN = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33), 5


class Formula:
    """The algorithm on a whole matrix: what a step does to every row, touched or not."""

    #: Options that are 0 unless they are given.
    defaults: ClassVar[dict[str, float]] = {}

    def __init__(self, value: Array, options: dict[str, Any]) -> None:
        self.w = value.astype(np.float64)
        self.o = {"l1": 0.0, "l2": 0.0, "weight_decay": 0.0, "momentum": 0.0, **self.defaults, **options}
        self.rate = 0.1
        self.states: dict[str, Array] = {}

    def state(self, name: str, cols: int | None = None, first: float = 0.0) -> Array:
        """A state, and what it begins with."""
        shape = len(self.w), self.w.shape[1] if cols is None else cols
        return self.states.setdefault(name, np.full(shape, first))

    def step(self, gradient: Array, touched: Array) -> None:
        """A step by a gradient that is zero but in the rows that are touched."""
        clip = self.o.get("clip_value")
        g = gradient if clip is None else np.clip(gradient, -clip, clip)
        g = g + self.o["l2"] * self.w * touched[:, None]
        self.w *= 1 - self.rate * self.o["weight_decay"]
        self.move(g, touched)

    def move(self, g: Array, touched: Array) -> None:
        """What is the optimizer's own."""
        raise NotImplementedError("each formula has its own")

    def shrink(self, rows: Array, threshold: Any) -> None:
        """The proximal step of L1."""
        w = self.w[rows]
        self.w[rows] = np.sign(w) * np.maximum(np.abs(w) - threshold, 0)


class SGD(Formula):
    """Plain, or with momentum, which moves every row."""

    def move(self, g: Array, touched: Array) -> None:
        """A step."""
        if self.o["momentum"]:
            velocity = self.state("velocity")
            velocity[...] = self.o["momentum"] * velocity + g
            self.w -= self.rate * velocity
        else:
            self.w[touched] -= self.rate * g[touched]
            self.shrink(touched, self.rate * self.o["l1"])


class Adagrad(Formula):
    """With an accumulator for each element."""

    defaults: ClassVar[dict[str, float]] = {"initial_accumulator_value": 0.0}

    def move(self, g: Array, touched: Array) -> None:
        """A step."""
        total = self.state("sum", first=self.o["initial_accumulator_value"])
        total[touched] += self.squares(g)[touched]
        rate = self.rate / (np.sqrt(total[touched]) + 1e-10)
        self.w[touched] -= rate * g[touched]
        self.shrink(touched, rate * self.o["l1"])

    def squares(self, g: Array) -> Array:
        """What is accumulated."""
        return g**2


class RowwiseAdagrad(Adagrad):
    """With an accumulator for each row."""

    def squares(self, g: Array) -> Array:
        """The same for all elements of a row."""
        return np.broadcast_to((g**2).mean(1, keepdims=True), g.shape)


class Adam(Formula):
    """With steps counted by row."""

    def move(self, g: Array, touched: Array) -> None:
        """A step."""
        mean, square, steps = self.state("mean"), self.state("square"), self.state("steps", 1)
        steps[touched] += 1
        mean[touched] = 0.9 * mean[touched] + 0.1 * g[touched]
        square[touched] = 0.999 * square[touched] + 0.001 * g[touched] ** 2
        corrected = mean[touched] / (1 - 0.9 ** steps[touched])
        self.w[touched] -= self.rate * corrected / (np.sqrt(square[touched] / (1 - 0.999 ** steps[touched])) + 1e-8)


class AdamW(Adam):
    """With weight decay."""

    defaults: ClassVar[dict[str, float]] = {"weight_decay": 0.01}


class FTRL(Formula):
    """McMahan et al. 2013, algorithm 1; z begins such that the weights that are there follow from it."""

    def step(self, gradient: Array, touched: Array) -> None:
        """A step; l2 is part of the closed form."""
        l1, l2 = self.o["l1"], self.o["l2"]
        first = -self.w * (1.0 / self.rate + l2) - np.sign(self.w) * l1
        z, n = self.states.setdefault("z", first), self.state("n")
        g, w = gradient[touched], self.w[touched]
        sigma = (np.sqrt(n[touched] + g**2) - np.sqrt(n[touched])) / self.rate
        z[touched] += g - sigma * w
        n[touched] += g**2
        zt, nt = z[touched], n[touched]
        weight = -(zt - np.sign(zt) * l1) / ((1.0 + np.sqrt(nt)) / self.rate + l2)
        self.w[touched] = np.where(np.abs(zt) <= l1, 0, weight)


class Case(NamedTuple):
    """An optimizer with options, and its formula; rows of the table that are frozen, and their greatest norm."""

    optimizer: Any
    formula: type[Formula]
    options: dict[str, Any]
    frozen: tuple[int, ...] = ()
    max_norm: float | None = None

    def step(self, exact: Formula, gradient: Array, touched: Array) -> None:
        """A step on the table: rows that it leaves too long are scaled back, and frozen ones are as they were."""
        frozen, before = list(self.frozen), exact.w.copy()
        kept = {name: state.copy() for name, state in exact.states.items()}
        exact.step(gradient, touched)
        norms = np.linalg.norm(exact.w, axis=1)
        long = touched & (norms > (self.max_norm or np.inf))
        exact.w[long] *= (self.max_norm or 1.0) / norms[long, None]
        exact.w[frozen] = before[frozen]
        for name, state in kept.items():
            exact.states[name][frozen] = state[frozen]


CASES: dict[str, Case] = {
    "sgd": Case(optim.SGD, SGD, {}),
    "sgd, l2": Case(optim.SGD, SGD, {"l2": 0.3}),
    "sgd, weight_decay": Case(optim.SGD, SGD, {"weight_decay": 0.3}),
    "sgd, l1": Case(optim.SGD, SGD, {"l1": 0.2}),
    "sgd, clipped": Case(optim.SGD, SGD, {"clip_norm": 1.5, "clip_value": 0.5, "l2": 0.1}),
    "momentum": Case(optim.SGD, SGD, {"momentum": 0.9}),
    "momentum, weight_decay": Case(optim.SGD, SGD, {"momentum": 0.7, "weight_decay": 0.5, "l2": 0.1}),
    "momentum, everything": Case(
        optim.SGD, SGD, {"momentum": 0.5, "weight_decay": 0.1, "l2": 0.1, "clip_norm": 1.0, "clip_value": 0.5}
    ),
    "adagrad": Case(optim.Adagrad, Adagrad, {}),
    "adagrad, l1": Case(optim.Adagrad, Adagrad, {"l1": 0.2, "l2": 0.1, "weight_decay": 0.1, "clip_value": 1.0}),
    "adagrad, from 1": Case(optim.Adagrad, Adagrad, {"initial_accumulator_value": 1.0}),
    "rowwise-adagrad": Case(optim.RowwiseAdagrad, RowwiseAdagrad, {"l2": 0.1, "initial_accumulator_value": 0.5}),
    "adam": Case(optim.Adam, Adam, {}),
    "adam, everything": Case(optim.Adam, Adam, {"l2": 0.1, "weight_decay": 0.2, "clip_norm": 1.0, "clip_value": 0.5}),
    "adamw": Case(optim.AdamW, AdamW, {}),
    "ftrl": Case(optim.FTRL, FTRL, {"l1": 0.3, "l2": 0.2}),
    "momentum, frozen rows": Case(optim.SGD, SGD, {"momentum": 0.7, "weight_decay": 0.5, "clip_norm": 1.0}, (2, 5, 6)),
    "rowwise-adagrad, max_norm": Case(optim.RowwiseAdagrad, RowwiseAdagrad, {"l2": 0.1}, (0, 10), 1.0),
}


class Model:
    """A loss that is linear in its parameters, so that its gradients can be written down: look-ups, bags and a dense row."""

    def __init__(self, table: Array, bias: Array, dtype: str, **constraints: Any) -> None:
        cols = table.shape[1]
        self.table = wyrm.ParameterNode(table, dtype=dtype, **constraints)
        self.bias = wyrm.ParameterNode(bias, dtype=dtype)
        self.index, self.bag = wyrm.IndexInputNode(3), wyrm.BagInputNode(1)
        self.x, self.z = wyrm.InputNode((3, cols), dtype=dtype), wyrm.InputNode((1, cols), dtype=dtype)
        self.rows, self.pooled = self.table.index(self.index), self.table.index_mean(self.bag)
        self.loss = ((self.rows + self.bias) * self.x).scalar_sum() + (self.pooled * self.z).scalar_sum()
        self.inputs = [self.index, self.bag, self.x, self.z]


def gradients(shape: tuple[int, ...], index: Array, bag: Array, x: Array, z: Array) -> tuple[Array, Array, Array]:
    """The gradients of table and bias for one example, and which rows of the table it touches."""
    table = np.zeros(shape)
    np.add.at(table, index, x)
    for row in bag:
        table[row] += z[0] / len(bag)
    touched = np.zeros(shape[0], bool)
    touched[index] = touched[bag] = True
    return table, x.sum(0, keepdims=True), touched


def check_optimizer(context: Context, name: str) -> None:
    """Forty steps, driven from Python and by fit; values are read now and then, so that rows fall behind in between.

    Rows that are looked up have caught up before they are read.
    """
    case = CASES[name]
    optimizer, formula, options, frozen, max_norm = case
    constraints = {"frozen_rows": frozen, "max_norm": max_norm}
    rng = context.rng
    for dtype in context.dtypes:
        for cols in rng.permutation(WIDTHS)[:TAKEN].tolist():
            table, bias = rng.uniform(-1, 1, (11, cols)), rng.uniform(-1, 1, (1, cols))
            index = rng.integers(0, 11, (STEPS, 3))
            bags = [rng.integers(0, 11, int(rng.integers(0, 5))) for _ in range(STEPS)]
            x, z = rng.uniform(-1, 1, (STEPS, 3, cols)), rng.uniform(-1, 1, (STEPS, 1, cols))
            stepped, fitted = Model(table, bias, dtype, **constraints), Model(table, bias, dtype, **constraints)
            by_steps = optimizer(0.1, [stepped.table, stepped.bias], **options)
            exact = formula(stepped.table.value, options), formula(bias, options)
            for n in range(STEPS):
                for node, value in zip(stepped.inputs, (index[n], bags[n], x[n], z[n]), strict=True):
                    node.set_value(value)  # type: ignore[attr-defined]
                stepped.loss.forward(backend=context.backend)
                read, pooled = exact[0].w[index[n]], exact[0].w[bags[n]].sum(0, keepdims=True) / max(1, len(bags[n]))
                context.compare(f"rows read in step {n + 1} in {dtype}", stepped.rows.value, read, TOLERANCE[dtype])
                context.compare(f"rows pooled in step {n + 1} in {dtype}", stepped.pooled.value, pooled, TOLERANCE[dtype])
                stepped.loss.backward(1.0)
                by_steps.step()
                of_table, of_bias, touched = gradients(table.shape, index[n], bags[n], x[n], z[n])
                of_table[list(frozen)] = 0
                norm = np.sqrt((of_table**2).sum() + (of_bias**2).sum())
                scale = min(1.0, options.get("clip_norm", np.inf) / norm)
                case.step(exact[0], scale * of_table, touched)
                exact[1].step(scale * of_bias, np.ones(1, bool))
                if n in (7, 20, STEPS - 1):
                    context.compare(f"table after {n + 1} steps in {dtype}", stepped.table.value, exact[0].w, TOLERANCE[dtype])
                    context.compare(f"bias after {n + 1} steps in {dtype}", stepped.bias.value, exact[1].w, TOLERANCE[dtype])
            feed = dict(zip(fitted.inputs, (index, [list(bag) for bag in bags], x, z), strict=True))
            by_fit = optimizer(0.1, [fitted.table, fitted.bias], **options)
            wyrm.fit(fitted.loss, feed, by_fit, shuffle=False, num_threads=1, backend=context.backend)
            context.compare(f"table after fit in {dtype}", fitted.table.value, exact[0].w, TOLERANCE[dtype])
            context.compare(f"bias after fit in {dtype}", fitted.bias.value, exact[1].w, TOLERANCE[dtype])


for _name in CASES:
    check(
        f"optimizers/{_name}",
        "training",
        f"{_name} follows its formula, on rows that steps touch and on those that they do not",
    )(partial(check_optimizer, name=_name))
