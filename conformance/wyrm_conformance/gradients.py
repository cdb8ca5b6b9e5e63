"""Values and gradients of every op: values against the reference, gradients against finite differences."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

import wyrm
from wyrm.frontend.op import OPS
from wyrm.program import Shape
from wyrm_conformance.cases import CASES, Case
from wyrm_conformance.check import Array, Context, Failure, check

#: How many random shapes an op is tried on.
TRIALS = 12
#: Of values, relative to the largest, by dtype.
VALUE_TOLERANCE = {"float64": 1e-13, "float32": 1e-5}
#: Of gradients against finite differences, which are what is inexact in float64.
GRADIENT_TOLERANCE = {"float64": 1e-6, "float32": 1e-4}
#: Of gradients against the reference's in float64.
REFERENCE_TOLERANCE = {"float64": 1e-11, "float32": 1e-4}
#: A trial with at most so many elements is put to finite differences.
FEW = 150
#: A parameter with at most so many is moved element by element; a larger one in so many directions, by all elements at once.
EACH, DIRECTIONS = 12, 6
#: By how much an element is moved.
MOVE = 1e-6


def build(
    case: Case, seed: int, values: list[Array], dtype: str, upstream: Array | None = None
) -> tuple[wyrm.Node, wyrm.Node, list[wyrm.ParameterNode]]:
    """The op on parameters of these values, and its sum weighted by an upstream gradient."""
    parameters = [wyrm.ParameterNode(value, dtype=dtype) for value in values]
    result = case.build(np.random.default_rng(seed), parameters)
    weights = np.ones(result.shape) if upstream is None else upstream
    return result, (result * weights).scalar_sum(), parameters


class Slope(NamedTuple):
    """What finite differences give for the gradient by one parameter.

    Attributes
    ----------
    directions
        Those in which the parameter was moved, of elements 1 and -1; ``None`` if each element was moved by itself.
    values
        The slope in each direction, or by each element.
    """

    directions: Array | None
    values: Array

    def along(self, gradient: Array) -> Array:
        """What a gradient says the slopes are."""
        if self.directions is None:
            return gradient
        slopes: Array = np.tensordot(self.directions, gradient.astype(np.float64), 2)
        return slopes[None]


def differences(total: wyrm.Node, parameters: list[wyrm.ParameterNode], seed: int, backend: str) -> list[Slope]:
    """The slopes of a sum by central differences; parameters are as they were afterwards."""

    def moved_to(parameter: wyrm.ParameterNode, value: Array) -> float:
        parameter.set_value(value)
        total.forward(backend=backend)
        return float(total.value[0, 0])

    rng, slopes = np.random.default_rng(seed), []
    for parameter in parameters:
        value = parameter.value.copy()
        if value.size <= EACH:
            directions, shape = np.eye(value.size).reshape(-1, *value.shape), value.shape
        else:
            directions, shape = rng.choice([-1.0, 1.0], (DIRECTIONS, *value.shape)), (1, DIRECTIONS)
        pairs = [[moved_to(parameter, value + step * d) for step in (MOVE, -MOVE)] for d in directions]
        found = np.array([(up - down) / (2 * MOVE) for up, down in pairs]).reshape(shape)
        parameter.set_value(value)
        slopes.append(Slope(None if value.size <= EACH else directions, found))
    return slopes


class Trial(NamedTuple):
    """An op on operands of some shapes, and what should come of it.

    Attributes
    ----------
    slopes
        By finite differences; ``None`` if there are too many elements.
    gradients
        Those of the reference, for an upstream gradient that is multiplied by 1.
    """

    seed: int
    values: list[Array]
    value: Array
    upstream: Array
    slopes: list[Slope] | None
    gradients: list[Array]


def make_trials(context: Context, case: Case, trials: int) -> list[Trial]:
    """Random trials, small ones first: the first to fail is the one to look at. Everything expected is computed here."""
    rng = context.rng
    drawn = [case.shapes(rng) for _ in range(trials)]
    # Of many draws the smallest: shapes that finite differences can afford, whatever the op.
    drawn += [min((case.shapes(rng) for _ in range(20)), key=_elements) for _ in range(trials // 2)]
    result = []
    with context.oracle() as reference:
        for shapes in sorted(drawn, key=_elements):
            seed = int(rng.integers(2**31))
            values = [np.round(rng.uniform(-2, 2, shape), 3) for shape in shapes]
            upstream = rng.uniform(-2, 2, build(case, seed, values, "float64")[0].shape)
            node, total, parameters = build(case, seed, values, "float64", upstream)
            total.forward(backend=reference)
            total.backward(1.0)
            value, gradients = node.value.copy(), [parameter.gradient.to_dense().copy() for parameter in parameters]
            slopes = differences(total, parameters, seed, reference) if _elements(shapes) <= FEW else None
            if slopes is not None and not case.differentiable:  # a detached product: half of the slope is cut off
                slopes = [slope._replace(values=slope.values / 2) for slope in slopes]
            result.append(Trial(seed, values, value, upstream, slopes, gradients))
    return result


def _elements(shapes: list[Shape]) -> int:
    return sum(rows * cols for rows, cols in shapes)


def check_op(context: Context, name: str, case: Case | None, trials: int = TRIALS) -> None:
    """One op, layer or loss on random shapes, by random upstream gradients, in every declared dtype."""
    if case is None:
        raise Failure(f"the op {name!r} of the op table has no case in wyrm_conformance.cases")
    expected = 0
    made = make_trials(context, case, trials)
    if not any(trial.slopes is not None for trial in made):
        raise Failure(f"{name}: no trial was small enough for finite differences")
    for trial in made:
        for dtype in context.dtypes:
            result, total, parameters = build(case, trial.seed, trial.values, dtype, trial.upstream)
            weight = float(context.rng.uniform(0.5, 2))
            label = f"{name} of {' and '.join(str(value.shape) for value in trial.values)} in {dtype}"
            operands = {f"operand {n}": value for n, value in enumerate(trial.values)}
            context.case(f"{name}: the reference's value in float64", **operands)
            total.forward(backend=context.backend)
            context.compare(f"value of {label}", result.value, trial.value, VALUE_TOLERANCE[dtype])
            context.case(
                f"{weight!r} * d sum({name} * upstream) / d operand, by central differences and by the reference in float64",
                **operands,
                upstream=trial.upstream,
            )
            total.backward(weight)
            found = [parameter.gradient.to_dense() for parameter in parameters]
            expected += trial.value.size + sum(value.size for value in trial.values)
            for n, (gradient, wanted) in enumerate(zip(found, trial.gradients, strict=True)):
                what, tolerance = f"gradient of {label} by operand {n}", GRADIENT_TOLERANCE[dtype]
                if trial.slopes is not None:
                    slope = trial.slopes[n]
                    along = "" if slope.directions is None else ", in random directions"
                    context.compare(what + along, slope.along(gradient), weight * slope.values, tolerance)
                    expected += slope.values.size
                    if not gradient.any() and np.abs(slope.values).max(initial=0) > tolerance:
                        raise context.failure(f"{what} is zero and should not be")
                context.compare(f"{what}, against the reference", gradient, weight * wanted, REFERENCE_TOLERANCE[dtype])
    if context.compared != expected:
        raise Failure(f"{name}: {context.compared} numbers were compared, not {expected}")


for _name in OPS:
    check(f"gradients/{_name}", "core", f"the value and derivative of {_name} are right at any shape")(
        partial(check_op, name=_name, case=CASES.get(_name))
    )


#: Ops of one operand, on what has no rows or no columns.
_EMPTY = ("neg", "exp", "ln", "sigmoid", "softplus", "relu", "t", "sum", "mean", "logsumexp", "softmax", "log_softmax")


@check("gradients/empty", "core", "matrices without rows or columns give empty results, sums of 0 and no gradient")
def check_empty(context: Context) -> None:
    """Ops on nothing, products over nothing, look-ups of nothing; what is beside is left alone."""
    for dtype in context.dtypes:
        for name in _EMPTY:
            for shape in [(0, 3), (0, 17)] + [(3, 0)] * (name not in ("logsumexp", "softmax", "log_softmax")):
                p = wyrm.ParameterNode(np.zeros(shape), dtype=dtype)
                node: wyrm.Node = getattr(p, name)()
                total = node.scalar_sum()
                total.forward(backend=context.backend)
                total.backward(1.0)
                context.require(f"{name} of {shape} in {dtype}: {node.value.shape}", node.value.shape == node.shape)
                if name != "mean":  # the mean of nothing is NaN, as in NumPy
                    context.compare(f"the sum of {name} of {shape}", total.value, np.zeros((1, 1)), 0)
                context.require(f"the gradient by {shape}", p.gradient.shape == shape)
        left, right = (wyrm.ParameterNode(np.zeros(shape), dtype=dtype) for shape in ((4, 0), (0, 5)))
        product = left.dot(right)
        product.forward(backend=context.backend)
        product.backward(1.0)
        context.compare("a product over nothing", product.value, np.zeros((4, 5)), 0)
        table, index = wyrm.ParameterNode(np.ones((3, 5)), dtype=dtype), wyrm.IndexInputNode(0, [])
        total = (table.index(index) + 1.0).scalar_sum() + table.index_sum(wyrm.BagInputNode(2, [[], []])).scalar_sum()
        total.forward(backend=context.backend)
        total.backward(1.0)
        context.compare("looking up nothing", total.value, np.zeros((1, 1)), 0)
        context.compare("its gradient", table.gradient.to_dense(), np.zeros((3, 5)), 0)


@check("gradients/accumulation", "core", "several uses, passes and heads add up, and zeroing starts anew")
def check_accumulation(context: Context) -> None:
    """A parameter used in two heads, run twice, then zeroed."""
    for dtype in context.dtypes:
        value = context.rng.uniform(-2, 2, (3, 9))
        w = wyrm.ParameterNode(value, dtype=dtype)
        heads = [(w * w).scalar_sum(), (w.t().dot(w) * 0.5).scalar_sum()]
        expected = 2 * value + value @ np.ones((9, 9))
        for passes in (1, 2):
            for head in heads:
                head.forward(backend=context.backend)
            for head in heads:
                head.backward(1.0)
            context.compare(f"gradient after {passes} passes", w.gradient.to_dense(), passes * expected, VALUE_TOLERANCE[dtype])
        heads[0].zero_gradient()
        context.require("the gradient is zero after zero_gradient", not w.gradient.to_dense().any())


@check("gradients/two graphs", "core", "two live graphs of one structure share no values")
def check_two_graphs(context: Context) -> None:
    """Passes of one graph between the passes of another."""
    graphs = []
    for _ in range(3):
        w, x = wyrm.ParameterNode(context.rng.uniform(-2, 2, (2, 5))), wyrm.InputNode((2, 5))
        x.set_value(context.rng.uniform(-2, 2, (2, 5)))
        y = (w * x).square().scalar_sum()
        y.forward(backend=context.backend)
        graphs.append((w, x, y))
    for w, x, y in graphs:
        y.backward(1.0)
        product = w.value * x.value
        context.compare("value", y.value, np.array([[np.square(product).sum()]]), 1e-5)
        context.compare("gradient", w.gradient.to_dense(), 2 * product * x.value, 1e-5)
