"""Optimizers against their formulas, dense and row-sparse, over many steps."""

import numpy as np
import pytest

import wyrm
from wyrm.frontend.lowering.updates import Training, lower_update
from wyrm.memory import Memory
from wyrm.optim import FTRL, SGD, Adagrad, Adam, Optimizer, RowwiseAdagrad, State

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


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("cols", [1, 7, 16, 37])
@pytest.mark.variants
def test_adagrad_on_rows(backend, rng, cols, l2):
    start = rng.standard_normal((5, cols))
    table = wyrm.ParameterNode(start, dtype="float64")
    index, x = wyrm.IndexInputNode(2), wyrm.InputNode((2, cols), dtype="float64")
    loss = (table.index(index) * x).scalar_sum()
    optimizer = Adagrad(0.1, [table], l2=l2, initial_accumulator_value=0.5)
    expected, total = start.copy(), np.full_like(start, 0.5)
    for rows in ([0, 3], [3, 3], [4, 0]):
        given = rng.standard_normal((2, cols))
        index.set_value(rows)
        x.set_value(given)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
        for row in set(rows):
            gradient = given[[r == row for r in rows]].sum(axis=0) + l2 * expected[row]
            total[row] += gradient**2
            expected[row] -= 0.1 * gradient / (np.sqrt(total[row]) + 1e-10)
        np.testing.assert_allclose(table.value, expected, rtol=1e-12, atol=1e-13)


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


class _SignedMomentum(Optimizer):
    """A rule that no backend knows: state for each element and for each row, literals, kernels of several kinds."""

    name = "signed-momentum"
    states = (State("average", initial=0.25), State("steps", per="row"))

    @staticmethod
    def update(k, value, gradient, state, scalar):
        steps = k.add(state.steps, k.literal(1.0))
        average = k.add(k.multiply(k.literal(0.5), state.average), gradient)
        push = k.subtract(k.multiply(k.sigmoid(average), k.literal(2.0)), k.literal(1.0))
        scale = k.multiply(scalar.learning_rate, steps)
        return k.add(value, k.negate(k.multiply(scale, push))), {"average": average, "steps": steps}


RULE = _SignedMomentum.rule(frozenset({"learning_rate"}))


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
    state = table.storage.state(RULE)
    np.testing.assert_allclose(state["average"], formula.average, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state["steps"], formula.steps)


def test_state_is_kept_by_rule():
    w = wyrm.ParameterNode(np.ones((3, 2)))
    state = w.storage.state(RULE)
    assert state["average"].shape == (3, 2)
    assert state["steps"].shape == (3, 1)
    assert np.all(state["average"] == 0.25)
    again = w.storage.state(RULE)
    assert all(again[name] is array for name, array in state.items())
    assert w.storage.state(SGD.rule(frozenset({"learning_rate"}))) == {}


def test_a_rule_that_is_too_long_is_refused_or_run(backend):
    """A hundred steps: more registers than some backends have."""

    class Long(Optimizer):
        name = "long"

        @staticmethod
        def update(k, value, gradient, state, scalar):
            for _ in range(100):
                value = k.subtract(value, k.multiply(scalar.learning_rate, gradient))
            return value, {}

    w = wyrm.ParameterNode(1.0, dtype="float64")
    optimizer = Long(0.001, [w])
    (w * 1.0).backward(1.0)
    try:
        optimizer.step()
    except wyrm.CapabilityError as error:
        assert "'long'" in str(error)
        assert w.value == 1
    else:
        np.testing.assert_allclose(w.value, 0.9)


def test_a_step_is_a_program_of_updates_alone():
    rule = SGD.rule(frozenset({"learning_rate"}))
    program = lower_update([(2, 3), (4, 1)], [Training(rule, 0)] * 2, "float32", frozenset())
    assert [i.kernel for i in program.update] == ["update_gradient"] * 2
    assert program.forward == program.backward == ()
    assert sum(len(array) for array in Memory.own(program)) == 0


def test_repr():
    w = wyrm.ParameterNode(1.0)
    assert repr(SGD(0.5, [w], l2=0.25)) == "SGD(1 parameters: learning_rate=0.5, l2=0.25)"


@pytest.mark.parametrize(
    "options", [{"weight_decay": 0.02}, {"momentum": 0.9}, {"momentum": 0.95, "weight_decay": 0.05}], ids=str
)
def test_rows_that_miss_steps_follow_the_dense_algorithm(backend, rng, options):
    """Over 1,500 steps, each of which touches one row of 40, one of them hardly ever; read but twice."""
    start = rng.standard_normal((40, 4))
    table, index = wyrm.ParameterNode(start, dtype="float64"), wyrm.IndexInputNode()
    x = wyrm.InputNode((1, 4), dtype="float64")
    loss = (table.index(index) * x).scalar_sum()
    optimizer = SGD(0.01, [table], **options)
    value, velocity = start.copy(), np.zeros_like(start)
    for n in range(1500):
        row = 39 if n == 1250 else int(rng.integers(39))
        x.set_value(gradient := rng.standard_normal((1, 4)))
        index.set_value(row)
        loss.forward()
        np.testing.assert_allclose(loss.value, (value[row] * gradient).sum(), rtol=1e-9, atol=1e-9)  # a read row is caught up
        loss.backward(1.0)
        optimizer.step()
        velocity *= options.get("momentum", 0)
        velocity[row] += gradient[0]
        value = (1 - 0.01 * options.get("weight_decay", 0)) * value - 0.01 * velocity
        if n in (1150, 1499):
            np.testing.assert_allclose(table.value, value, rtol=1e-10, atol=1e-11)
    assert not np.allclose(value[39], start[39])


def test_what_is_behind_is_caught_up_wherever_it_is_read(backend, rng):
    """By evaluate, by another graph, by a dense use, by set_value of others, by state_dict, by fit."""
    expected = np.full((3, 2), 0.9**5)

    def behind():
        table = wyrm.ParameterNode(np.ones((3, 2)), dtype="float64")
        optimizer = SGD(0.5, [table], weight_decay=0.2)
        for _ in range(5):
            optimizer.step()
        return table, optimizer

    table, _ = behind()
    index = wyrm.IndexInputNode()
    np.testing.assert_allclose(wyrm.evaluate(table.index(index), {index: [0, 2]})[:, 0], expected[:2])
    table, optimizer = behind()
    looked_up, whole = table.index(wyrm.IndexInputNode(1, 1)), table * 1.0
    for _ in range(2):  # a graph that was run before the rows fell behind, and one that was not
        for node in (looked_up, whole, table * 1.0):
            node.forward()
            np.testing.assert_allclose(node.value, expected[: node.shape[0]])
        optimizer.step()
        expected *= 0.9
    optimizer.learning_rate = 0.25  # what was missed counts at the old rate
    optimizer.step()
    np.testing.assert_allclose(table.value, expected * 0.95)
    table, optimizer = behind()
    optimizer.state_dict()
    np.testing.assert_array_equal(table.storage._array, 1.0)  # whoever looks gets a copy


def test_l2_leaves_untouched_rows_to_the_bit(backend, rng):
    start = rng.standard_normal((6, 5))
    for optimizer_class in (SGD, Adagrad, RowwiseAdagrad, Adam, FTRL):
        table, index = wyrm.ParameterNode(start, dtype="float64"), wyrm.IndexInputNode(2, [1, 4])
        loss = table.index(index).square().scalar_sum()
        optimizer = optimizer_class(0.1, [table], l2=0.5)
        for _ in range(3):
            loss.forward()
            loss.backward(1.0)
            optimizer.step()
        moved = (table.value != start).any(axis=1)
        assert moved.tolist() == [False, True, False, False, True, False]


def test_a_row_that_is_seen_seldom_is_corrected_by_how_often(backend):
    """Adam's first step on a row goes as far as the learning rate, whenever it comes."""
    table, index = wyrm.ParameterNode(np.zeros((2, 1)), dtype="float64"), wyrm.IndexInputNode(1, 0)
    loss = table.index(index) * 3.0
    optimizer = Adam(0.1, [table])
    for n in range(100):
        index.set_value(int(n == 99))
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
    assert abs(table.value[1, 0] + 0.1) < 1e-6
