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
    """McMahan et al. 2013, algorithm 1."""

    def step(self, gradient: Array, touched: Array) -> None:
        """A step; l2 is part of the closed form."""
        z, n = self.state("z"), self.state("n")
        g, w = gradient[touched], self.w[touched]
        sigma = (np.sqrt(n[touched] + g**2) - np.sqrt(n[touched])) / self.rate
        z[touched] += g - sigma * w
        n[touched] += g**2
        zt, nt = z[touched], n[touched]
        weight = -(zt - np.sign(zt) * self.o["l1"]) / ((1.0 + np.sqrt(nt)) / self.rate + self.o["l2"])
        self.w[touched] = np.where(np.abs(zt) <= self.o["l1"], 0, weight)


class Case(NamedTuple):
    """An optimizer with options, and its formula."""

    optimizer: Any
    formula: type[Formula]
    options: dict[str, Any]


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
}


class Model:
    """A loss that is linear in its parameters, so that its gradients can be written down: look-ups, bags and a dense row."""

    def __init__(self, table: Array, bias: Array, dtype: str) -> None:
        cols = table.shape[1]
        self.table, self.bias = wyrm.ParameterNode(table, dtype=dtype), wyrm.ParameterNode(bias, dtype=dtype)
        self.index, self.bag = wyrm.IndexInputNode(3), wyrm.BagInputNode(1)
        self.x, self.z = wyrm.InputNode((3, cols), dtype=dtype), wyrm.InputNode((1, cols), dtype=dtype)
        looked_up = (self.table.index(self.index) + self.bias) * self.x
        self.loss = looked_up.scalar_sum() + (self.table.index_mean(self.bag) * self.z).scalar_sum()
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
    """Forty steps, driven from Python and by fit; values are read now and then, so that rows fall behind in between."""
    optimizer, formula, options = CASES[name]
    rng = context.rng
    for dtype in context.dtypes:
        for cols in rng.permutation(WIDTHS)[:TAKEN].tolist():
            table, bias = rng.uniform(-1, 1, (11, cols)), rng.uniform(-1, 1, (1, cols))
            index = rng.integers(0, 11, (STEPS, 3))
            bags = [rng.integers(0, 11, int(rng.integers(0, 5))) for _ in range(STEPS)]
            x, z = rng.uniform(-1, 1, (STEPS, 3, cols)), rng.uniform(-1, 1, (STEPS, 1, cols))
            stepped, fitted = Model(table, bias, dtype), Model(table, bias, dtype)
            by_steps = optimizer(0.1, [stepped.table, stepped.bias], **options)
            exact = formula(table, options), formula(bias, options)
            for n in range(STEPS):
                for node, value in zip(stepped.inputs, (index[n], bags[n], x[n], z[n]), strict=True):
                    node.set_value(value)  # type: ignore[attr-defined]
                stepped.loss.forward(backend=context.backend)
                stepped.loss.backward(1.0)
                by_steps.step()
                of_table, of_bias, touched = gradients(table.shape, index[n], bags[n], x[n], z[n])
                norm = np.sqrt((of_table**2).sum() + (of_bias**2).sum())
                scale = min(1.0, options.get("clip_norm", np.inf) / norm)
                exact[0].step(scale * of_table, touched)
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


class Unseen(optim.Optimizer):
    """A rule that no backend can know: most elementwise kernels, a mean over the row, states per element and per row."""

    name = "unseen"
    states = (optim.State("trace"), optim.State("level", per="row", initial=0.25))
    always = frozenset({"learning_rate"})

    @staticmethod
    def update(k: Any, value: Any, gradient: Any, state: Any, scalar: Any) -> tuple[Any, dict[str, Any]]:
        """One step of one row."""
        half, small = k.literal(0.5), k.literal(0.0625)
        trace = k.add(k.multiply(half, state.trace), k.tanh(gradient))
        level = k.add(k.row_mean(k.absolute(gradient)), k.multiply(half, state.level))
        size = k.sqrt(k.add(k.multiply(trace, trace), small))
        bent = k.divide(k.minimum(trace, k.softplus(gradient)), k.maximum(size, level))
        kept = k.select(k.greater(value, gradient), bent, k.sigmoid(k.negate(value)))
        grown = k.add(k.log(k.add(k.exp(kept), half)), k.power(k.add(k.absolute(value), half), small))
        return k.subtract(value, k.multiply(scalar.learning_rate, k.multiply(grown, half))), {"trace": trace, "level": level}


def unseen_step(w: Array, trace: Array, level: Array, g: Array) -> tuple[Array, Array, Array]:
    """The same in NumPy."""
    trace = 0.5 * trace + np.tanh(g)
    level = np.abs(g).mean(1, keepdims=True) + 0.5 * level
    bent = np.minimum(trace, np.logaddexp(g, 0)) / np.maximum(np.sqrt(trace * trace + 0.0625), level)
    kept = np.where(w > g, bent, 1 / (1 + np.exp(w)))
    grown = np.log(np.exp(kept) + 0.5) + (np.abs(w) + 0.5) ** 0.0625
    return w - 0.1 * grown * 0.5, trace, level


@check("optimizers/unseen rule", "training", "a rule that the backend has never seen runs as its formula says", at_least=500)
def check_unseen(context: Context) -> None:
    """Dense and by rows, in ten steps of one example each."""
    for dtype in context.dtypes:
        for cols in (1, 3, 8, 17, 33, 64, 128):
            table, matrix = context.rng.uniform(-1, 1, (5, cols)), context.rng.uniform(-1, 1, (2, cols))
            rows = context.rng.permutation(np.repeat(np.arange(4), 3))[:10]
            x, z = context.rng.uniform(-1, 1, (10, 1, cols)), context.rng.uniform(-1, 1, (10, 2, cols))
            nodes = [wyrm.ParameterNode(value, dtype=dtype) for value in (table, matrix)]
            index = wyrm.IndexInputNode()
            xs, zs = wyrm.InputNode((1, cols), dtype=dtype), wyrm.InputNode((2, cols), dtype=dtype)
            loss = (nodes[0].index(index) * xs).scalar_sum() + (nodes[1] * zs).scalar_sum()
            feed = {index: rows, xs: x, zs: z}
            wyrm.fit(loss, feed, Unseen(0.1, nodes), shuffle=False, num_threads=1, backend=context.backend)
            exact = [value.astype(np.float64) for value in (table, matrix)]
            traces, levels = [np.zeros_like(value) for value in exact], [np.full((len(value), 1), 0.25) for value in exact]
            for row, a, b in zip(rows, x, z, strict=True):
                part = slice(row, row + 1)
                moved = unseen_step(exact[0][part], traces[0][part], levels[0][part], a)
                exact[0][part], traces[0][part], levels[0][part] = moved
                exact[1], traces[1], levels[1] = unseen_step(exact[1], traces[1], levels[1], b)
            for node, value in zip(nodes, exact, strict=True):
                context.compare(f"after ten steps in {dtype}", node.value, value, TOLERANCE[dtype])
