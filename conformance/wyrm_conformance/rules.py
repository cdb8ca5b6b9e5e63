"""Rules that no backend can know: one of its own kind, and relatives of those that a backend may have code of its own for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

import wyrm
from wyrm import optim
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.formulas import ELEMENTWISE
from wyrm_conformance.optimizers import TOLERANCE


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
    """Dense and by rows, in ten steps of one example each, by fit and driven from Python."""
    for dtype in context.dtypes:
        for cols in (1, 3, 8, 17, 33, 64, 128):
            table, matrix = context.rng.uniform(-1, 1, (5, cols)), context.rng.uniform(-1, 1, (2, cols))
            rows = context.rng.permutation(np.repeat(np.arange(4), 3))[:10]
            x, z = context.rng.uniform(-1, 1, (10, 1, cols)), context.rng.uniform(-1, 1, (10, 2, cols))
            nodes, stepped = ([wyrm.ParameterNode(value, dtype=dtype) for value in (table, matrix)] for _ in range(2))
            index = wyrm.IndexInputNode()
            xs, zs = wyrm.InputNode((1, cols), dtype=dtype), wyrm.InputNode((2, cols), dtype=dtype)
            feed = {index: rows, xs: x, zs: z}
            loss = (nodes[0].index(index) * xs).scalar_sum() + (nodes[1] * zs).scalar_sum()
            wyrm.fit(loss, feed, Unseen(0.1, nodes), shuffle=False, num_threads=1, backend=context.backend)
            loss = (stepped[0].index(index) * xs).scalar_sum() + (stepped[1] * zs).scalar_sum()
            by_steps = Unseen(0.1, stepped)
            for n in range(10):
                for fed, values in feed.items():
                    fed.set_value(values[n])  # type: ignore[attr-defined]
                loss.forward(backend=context.backend)
                loss.backward(1.0)
                by_steps.step()
            exact = [value.astype(np.float64) for value in (table, matrix)]
            traces, levels = [np.zeros_like(value) for value in exact], [np.full((len(value), 1), 0.25) for value in exact]
            for row, a, b in zip(rows, x, z, strict=True):
                part = slice(row, row + 1)
                moved = unseen_step(exact[0][part], traces[0][part], levels[0][part], a)
                exact[0][part], traces[0][part], levels[0][part] = moved
                exact[1], traces[1], levels[1] = unseen_step(exact[1], traces[1], levels[1], b)
            for node, value in zip(nodes + stepped, exact * 2, strict=True):
                context.compare(f"after ten steps in {dtype}", node.value, value, TOLERANCE[dtype])


class Alteration(NamedTuple):
    """What is changed in a rule: ``step(k, gradient, *operands)`` in the place of a step; or a result, which is that step's."""

    base: type[optim.Optimizer]
    options: dict[str, float]
    place: int
    step: Callable[..., Any] | None = None
    result: str = ""


class Altered:
    """What rules are written with, one step changed; keeps what each step came to."""

    def __init__(self, k: Any, gradient: Any, alteration: Alteration) -> None:
        self.k, self.gradient, self.alteration = k, gradient, alteration
        self.results: list[Any] = []

    def __getattr__(self, kernel: str) -> Callable[..., Any]:
        def call(*operands: Any) -> Any:
            step = self.alteration.step if len(self.results) == self.alteration.place else None
            done = getattr(self.k, kernel)(*operands) if step is None else step(self.k, self.gradient, *operands)
            self.results.append(done)
            return done

        return call


ADAGRAD = {"eps": 0.25}
WITH_L2 = {**ADAGRAD, "l2": 0.125}
RELATIVES = {
    "descent by a sum": Alteration(optim.SGD, {}, 0, lambda k, g, a, b: k.add(a, b)),
    "descent, the gradient first": Alteration(optim.SGD, {}, 0, lambda k, g, a, b: k.multiply(b, a)),
    "descent by the gradient's square": Alteration(optim.SGD, {}, 0, lambda k, g, a, b: k.multiply(b, b)),
    "ascent": Alteration(optim.SGD, {}, 1, lambda k, g, a, b: k.add(a, b)),
    "what is left of the move": Alteration(optim.SGD, {}, 1, lambda k, g, a, b: k.subtract(b, a)),
    "what is left of the gradient": Alteration(optim.SGD, {}, 1, lambda k, g, a, b: k.subtract(g, b)),
    "the move itself": Alteration(optim.SGD, {}, 0, result="value"),
    "adagrad of doubles": Alteration(optim.Adagrad, ADAGRAD, 0, lambda k, g, a, b: k.add(a, b)),
    "adagrad of the largest": Alteration(optim.Adagrad, ADAGRAD, 1, lambda k, g, a, b: k.maximum(a, b)),
    "adagrad without roots": Alteration(optim.Adagrad, ADAGRAD, 2, lambda k, g, a: k.absolute(a)),
    "adagrad, bounded": Alteration(optim.Adagrad, ADAGRAD, 3, lambda k, g, a, b: k.maximum(a, b)),
    "adagrad upside down": Alteration(optim.Adagrad, ADAGRAD, 4, lambda k, g, a, b: k.divide(b, a)),
    "adagrad by a difference": Alteration(optim.Adagrad, ADAGRAD, 5, lambda k, g, a, b: k.subtract(a, b)),
    "adagrad ascending": Alteration(optim.Adagrad, ADAGRAD, 6, lambda k, g, a, b: k.add(a, b)),
    "adagrad that moves there": Alteration(optim.Adagrad, ADAGRAD, 5, result="value"),
    "adagrad that keeps the last square": Alteration(optim.Adagrad, ADAGRAD, 0, result="sum"),
    "adagrad with l2 that keeps the gradient": Alteration(optim.Adagrad, WITH_L2, 1, result="sum"),
    "adagrad with l2 of the gradient": Alteration(optim.Adagrad, WITH_L2, 0, lambda k, g, a, b: k.multiply(a, g)),
}


def relative(name: str) -> type[optim.Optimizer]:
    """An optimizer whose rule is that of another one but for a step or a result."""
    alteration = RELATIVES[name]

    def whole_step(cls: Any, k: Any, value: Any, gradient: Any, state: Any, scalar: Any) -> Any:
        altered = Altered(k, gradient, alteration)
        value, states = alteration.base._step_of(altered, value, gradient, state, scalar)
        if alteration.result == "value":
            value = altered.results[alteration.place]
        elif alteration.result:
            states = {**states, alteration.result: altered.results[alteration.place]}
        return value, states

    return type("Relative", (alteration.base,), {"name": name, "_step_of": classmethod(whole_step)})


@check(
    "optimizers/relatives", "training", "a rule is taken for a known one only if each of its steps is the same", at_least=500
)
def check_relatives(context: Context) -> None:
    """Gradient descent and Adagrad with one step or result changed, on rows and densely, each rule in one dtype."""
    kernels = SimpleNamespace(**ELEMENTWISE)
    for n, (name, alteration) in enumerate(RELATIVES.items()):
        dtype, options = context.dtypes[n % len(context.dtypes)], alteration.options
        optimizer = relative(name)
        table, matrix = context.rng.uniform(0.5, 1, (6, 17)), context.rng.uniform(0.5, 1, (2, 17))
        rows = np.array([[1, 4], [4, 3], [1, 3]])
        x, z = context.rng.uniform(0.5, 1, (3, 2, 17)), context.rng.uniform(0.5, 1, (3, 2, 17))
        nodes = [wyrm.ParameterNode(value, dtype=dtype) for value in (table, matrix)]
        index, inputs = wyrm.IndexInputNode(2), [wyrm.InputNode((2, 17), dtype=dtype) for _ in range(2)]
        loss = (nodes[0].index(index) * inputs[0]).scalar_sum() + (nodes[1] * inputs[1]).scalar_sum()
        by_steps = optimizer(0.1, nodes, **options)
        scalar = SimpleNamespace(learning_rate=0.1, **options)
        sums = [np.zeros_like(table), np.zeros_like(matrix)]
        for touched, *gradients in zip(rows, x, z, strict=True):
            index.set_value(touched)
            for given, gradient in zip(inputs, gradients, strict=True):
                given.set_value(gradient)
            loss.forward(backend=context.backend)
            loss.backward(1.0)
            by_steps.step()
            for value, total, which, gradient in zip((table, matrix), sums, (touched, slice(None)), gradients, strict=True):
                state = SimpleNamespace(sum=total[which])
                value[which], states = optimizer._step_of(kernels, value[which], gradient, state, scalar)
                total[which] = states.get("sum", 0)
        context.case(f"three steps of {name}, a relative of {optimizer.__mro__[1].__name__}")
        for node, value in zip(nodes, (table, matrix), strict=True):
            context.compare(f"{name} in {dtype}", node.value, value, TOLERANCE[dtype])
