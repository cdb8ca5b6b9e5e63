"""Optimizers against their formulas, dense and row-sparse, over many steps."""

import numpy as np
import pytest

import wyrm
from wyrm.memory import Memory
from wyrm.optim import SGD
from wyrm.optim.optimizer import Optimizer
from wyrm.optim.rules import trace_rule
from wyrm.program import State

pytestmark = pytest.mark.variants


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 64), (5, 67), (1, 130)])
def test_sgd_on_a_dense_parameter(backend, rng, shape, l2):
    w = wyrm.ParameterNode(rng.standard_normal(shape), dtype="float64")
    x = wyrm.InputNode(shape, dtype="float64")
    loss = (w * x).scalar_sum()
    optimizer = SGD(0.1, [w], l2=l2)
    expected = w.value.copy()
    for _ in range(10):
        gradient = rng.standard_normal(shape)
        x.set_value(gradient)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
        expected -= 0.1 * (gradient + l2 * expected)
        np.testing.assert_allclose(w.value, expected, rtol=1e-12)
        assert not w.gradient.to_dense().any()


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("cols", [1, 3, 16, 33, 64, 70])
def test_sgd_on_rows(backend, rng, cols, l2):
    table = wyrm.ParameterNode(rng.standard_normal((9, cols)), dtype="float64")
    index, x = wyrm.IndexInputNode(3), wyrm.InputNode((3, cols), dtype="float64")
    loss = (table.index(index) * x).scalar_sum()
    optimizer = SGD(0.1, [table], l2=l2)
    expected = table.value.copy()
    for _ in range(20):
        rows, values = rng.integers(0, 9, 3), rng.standard_normal((3, cols))
        index.set_value(rows)
        x.set_value(values)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
        gradient = np.zeros_like(expected)
        np.add.at(gradient, rows, values)
        touched = np.unique(rows)
        expected[touched] -= 0.1 * (gradient[touched] + l2 * expected[touched])
        np.testing.assert_allclose(table.value, expected, rtol=1e-12)


def test_parameters_without_gradient_stay(backend):
    used, unused = wyrm.ParameterNode(1.0), wyrm.ParameterNode(1.0)
    loss = used.square()
    optimizer = SGD(0.25, [used, unused], l2=1.0)
    loss.forward()
    loss.backward(1.0)
    optimizer.step()
    assert (used.value, unused.value) == (0.25, 1)
    optimizer.step()  # nothing was gathered: nothing moves
    assert (used.value, unused.value) == (0.25, 1)
    unused.square().backward(1.0)  # a graph that comes after the optimizer was bound
    optimizer.step()
    assert unused.value == 0.25


def test_learning_rate_between_steps(backend):
    w = wyrm.ParameterNode(0.0)
    optimizer = SGD(1.0, [w])
    for rate in (1.0, 0.5, 0.25):
        optimizer.learning_rate = rate
        assert optimizer.learning_rate == rate
        (w * 1.0).backward(1.0)
        optimizer.step()
    assert w.value == -1.75


def test_several_optimizers_over_different_parameters(backend):
    a, b = wyrm.ParameterNode(1.0), wyrm.ParameterNode(1.0)
    loss = a + b
    loss.backward(1.0)
    first, second = SGD(0.5, [a]), SGD(0.25, [b])
    first.step()
    assert (a.value, b.value) == (0.5, 1)
    assert b.gradient.to_dense() == 1
    second.step()
    assert b.value == 0.75


def _signed_momentum(k, value, gradient, state, scalar):
    """A rule that no backend knows: state for each element and for each row, literals, every elementwise kernel."""
    steps = k.add(state.steps, k.literal(1.0))
    average = k.add(k.multiply(k.literal(0.5), state.average), gradient)
    push = k.subtract(k.multiply(k.sigmoid(average), k.literal(2.0)), k.literal(1.0))
    scale = k.multiply(scalar.learning_rate, steps)
    return k.add(value, k.negate(k.multiply(scale, push))), {"average": average, "steps": steps}


class _SignedMomentum(Optimizer):
    RULE = trace_rule(
        "signed-momentum", _signed_momentum, [State("average", initial=0.25), State("steps", per="row")], ["learning_rate"]
    )

    def __init__(self, learning_rate, parameters):
        super().__init__(parameters, self.RULE, {"learning_rate": learning_rate})


class _Formula:
    def __init__(self, value):
        self.value = value.copy()
        self.average = np.full_like(value, 0.25)
        self.steps = np.zeros((len(value), 1))

    def update(self, rows, gradient):
        self.steps[rows] += 1
        self.average[rows] = 0.5 * self.average[rows] + gradient[rows]
        push = 2 / (1 + np.exp(-self.average[rows])) - 1
        self.value[rows] -= 0.01 * self.steps[rows] * push


@pytest.mark.parametrize("cols", [1, 5, 65, 130])
def test_a_rule_of_ones_own(backend, rng, cols):
    """With state, dense and row-sparse, by steps and by fit; state is kept with the parameter."""
    start = rng.standard_normal((6, cols))
    table, index = wyrm.ParameterNode(start, dtype="float64"), wyrm.IndexInputNode()
    x = wyrm.InputNode((1, cols), dtype="float64")
    sparse, dense = (table.index(index) * x).scalar_sum(), (table * x).scalar_sum()
    formula, optimizer = _Formula(start), _SignedMomentum(0.01, [table])
    for n in range(12):
        row, value = int(rng.integers(6)), rng.standard_normal((1, cols))
        index.set_value(row)
        x.set_value(value)
        head = dense if n % 4 == 3 else sparse
        head.forward()
        head.backward(1.0)
        optimizer.step()
        gradient = np.zeros_like(start)
        gradient[slice(None) if head is dense else row] += value[0]
        formula.update(slice(None) if head is dense else [row], gradient)
        np.testing.assert_allclose(table.value, formula.value, rtol=1e-10)
    rows, values = rng.integers(0, 6, 20), rng.standard_normal((20, 1, cols))
    wyrm.fit(sparse, {index: rows, x: values}, _SignedMomentum(0.01, [table]), shuffle=False)
    wyrm.fit(dense, {x: values}, optimizer, shuffle=False)
    for row, value in zip(rows, values, strict=True):
        gradient = np.zeros_like(start)
        gradient[row] = value[0]
        formula.update([row], gradient)
    for value in values:
        formula.update(slice(None), np.broadcast_to(value[0], start.shape))
    np.testing.assert_allclose(table.value, formula.value, rtol=1e-9)
    state = table.storage.state(_SignedMomentum.RULE)
    np.testing.assert_allclose(state["average"], formula.average, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state["steps"], formula.steps)


def test_state_is_kept_by_rule():
    w = wyrm.ParameterNode(np.ones((3, 2)))
    state = w.storage.state(_SignedMomentum.RULE)
    assert state["average"].shape == (3, 2)
    assert state["steps"].shape == (3, 1)
    assert np.all(state["average"] == 0.25)
    assert w.storage.state(_SignedMomentum.RULE) is state
    assert w.storage.state(SGD(0.1, [w]).rule) == {}


def test_a_rule_that_is_too_long_is_refused_or_run(backend):
    """A hundred steps: more registers than some backends have."""

    def long(k, value, gradient, state, scalar):
        for _ in range(100):
            value = k.subtract(value, k.multiply(scalar.learning_rate, gradient))
        return value, {}

    w = wyrm.ParameterNode(1.0, dtype="float64")
    optimizer = Optimizer([w], trace_rule("long", long, scalars=["learning_rate"]), {"learning_rate": 0.001})
    (w * 1.0).backward(1.0)
    try:
        optimizer.step()
    except wyrm.CapabilityError as error:
        assert "'long'" in str(error)
        assert w.value == 1
    else:
        np.testing.assert_allclose(w.value, 0.9)


def test_a_step_is_a_program_of_updates_alone():
    from wyrm.frontend.lowering.lower import Training, lower_update

    rule = SGD(0.1, [wyrm.ParameterNode(1.0)]).rule
    program = lower_update([(2, 3), (4, 1)], [Training(rule, 0)] * 2, "float32")
    assert [i.kernel for i in program.update] == ["update_gradient"] * 2
    assert program.forward == program.backward == ()
    assert sum(len(array) for array in Memory.own(program)) == 0


def test_repr():
    w = wyrm.ParameterNode(1.0)
    assert repr(SGD(0.5, [w], l2=0.25)) == "SGD(learning_rate=0.5, l2=0.25, 1 parameters)"
