"""Compositions: looked up, they are what the function is, call by call."""

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.frontend.structure import STORE


def counted(function):
    """A composition, and a list of what it was called with."""
    calls = []

    @wyrm.composition
    def composed(*operands):
        calls.append(operands)
        return function(*operands)

    return composed, calls


def test_a_function_is_called_once_for_each_structure(backend):
    composed, calls = counted(lambda a, b: [(a @ b).tanh(), a.sigmoid()])
    weights = wyrm.ParameterNode(np.arange(6.0).reshape(3, 2) / 10)
    for rows in (1, 4, 1, 4, 4):
        x = wyrm.InputNode((rows, 3), np.ones((rows, 3)))
        product, gates = composed(x, weights)
        (product.scalar_sum() + gates.scalar_sum()).forward()
        np.testing.assert_allclose(product.value, np.tanh(np.ones((rows, 3)) @ weights.value), rtol=1e-6)
        np.testing.assert_allclose(gates.value, 1 / (1 + np.exp(-np.ones((rows, 3)))), rtol=1e-6)
    assert len(calls) == 2


def test_results_have_the_structures_and_the_leaves_of_the_function():
    """The parents of a looked-up result lead to the operands that it depends on, and to no others."""

    def function(a, b, c, p, q):
        first = a * p
        second = first + b * q
        return [first, second, c * q, second * p]

    composed, _ = counted(function)
    p, q = wyrm.ParameterNode(2.0, name="p"), wyrm.ParameterNode(3.0, name="q")
    for _ in range(3):
        inputs = [wyrm.InputNode((1, 1), float(n)) for n in range(3)]
        plain, looked_up = function(*inputs, p, q), composed(*inputs, p, q)
        for one, other in zip(plain, looked_up, strict=True):
            assert one._structure is other._structure
            assert set(other._ancestors()) - set(looked_up) == {n for n in one._ancestors() if not n._parents}
        assert [n.parameters() for n in looked_up] == [[p], [p, q], [q], [p, q]]
        looked_up[1].forward()


def test_graphs_that_meet_constants_and_arrays_are_as_without(backend):
    composed, calls = counted(lambda a, b: [a * b + 1.0])
    for n in range(3):
        a = wyrm.InputNode((1, 1), float(n))
        (result,) = composed(a, np.full((1, 1), 5.0))
        assert result.value == 5 * n + 1
        b = wyrm.InputNode((1, 1), 7.0)  # of the next graph
        assert composed(a, b)[0].value == 7 * n + 1
        assert composed(b, b)[0].value == 50
    assert len(calls) == 9  # a constant is data
    product, _ = counted(lambda a, b: [a * b])
    for n in range(3):
        a = wyrm.InputNode((1, 1), float(n))
        assert product(a, a)[0].value == n * n
        b = wyrm.InputNode((1, 1), 7.0)
        assert product(a, b)[0].value == 7 * n
        assert product(b, a)[0].value == 7 * n


def test_what_is_checked_each_time_is_not_looked_up():
    composed, _ = counted(lambda table, index: [table.index(index)])
    table = wyrm.ParameterNode(np.ones((3, 2)))
    composed(table, wyrm.IndexInputNode(1, 2))[0].forward()
    with pytest.raises(wyrm.OutOfRangeError, match="below 3"):
        composed(table, wyrm.IndexInputNode(1, 3))


def test_captured_leaves_are_not_looked_up():
    parameters = [wyrm.ParameterNode(1.0), wyrm.ParameterNode(2.0)]
    current = [parameters[0]]
    composed, _ = counted(lambda a: [a * current[0]])
    for parameter in parameters:
        current[0] = parameter
        assert composed(wyrm.InputNode((1, 1), 3.0))[0].parameters() == [parameter]


def test_errors_of_ops_are_raised_each_time_and_leave_nothing_behind():
    composed, calls = counted(lambda a, b: [a @ b])
    for _ in range(2):
        with pytest.raises(wyrm.ShapeError, match="dot"):
            composed(wyrm.InputNode((1, 2)), wyrm.InputNode((3, 1)))
    assert len(calls) == 2
    with pytest.raises(wyrm.DTypeError, match="list or tuple of nodes"):
        wyrm.composition(lambda a: a + a)(wyrm.InputNode((1, 1)))


@pytest.mark.parametrize("make", ["lstm", "coupled", "gru", "ewma"])
def test_layers_are_as_their_steps(backend, make):
    """Unrolled at once or step by step: the same values and gradients."""
    rng = np.random.default_rng(3)
    layer = {
        "lstm": lambda: nn.lstm.Parameters(4, 4, rng=1).build(),
        "coupled": lambda: nn.lstm.Parameters(4, 4, rng=1).build_coupled(),
        "gru": lambda: nn.GRU(4, 4, rng=1),
        "ewma": lambda: nn.EWMA(4, rng=1),
    }[make]()
    for length in (1, 3, 3, 2):
        values = rng.standard_normal((length, 2, 4))
        inputs = [wyrm.InputNode((2, 4), value) for value in values]
        outputs = layer.forward(inputs)
        state = layer._begin(2)
        for output, x in zip(outputs, inputs, strict=True):
            state = layer.step(state, x)
            both = wyrm.stack([output, state[0]])
            both.forward()
            np.testing.assert_array_equal(*np.split(both.value, 2))
        (outputs[-1].square().scalar_sum()).backward()
        gradients = [parameter.gradient.to_dense() for parameter in layer.parameters()]
        assert any(gradient.any() for gradient in gradients)
        for parameter in layer.parameters():
            parameter.zero_gradient()
        state[0].square().scalar_sum().backward()
        for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
            np.testing.assert_allclose(parameter.gradient.to_dense(), gradient, rtol=1e-5, atol=1e-6)
            parameter.zero_gradient()
        layer.keep_state()
        assert layer.state is not None and len(layer.state) == layer.state_size
        layer.reset_state()


def test_a_step_of_ones_own_is_called():
    class Doubled(nn.EWMA):
        def step(self, state, x):
            return (super().step(state, x)[0] * 2.0,)

    plain, doubled = nn.EWMA(1, rng=1), Doubled(1, rng=1)
    x = wyrm.InputNode((1, 1), 1.0)
    assert doubled.forward([x])[0].value == 2 * plain.forward([x])[0].value


def test_structures_outlive_the_store():
    """Compositions keep their own; emptying the store costs speed and nothing else."""
    composed, _ = counted(lambda a, b: [a * b, a + b])
    for _ in range(3):
        a, b = wyrm.InputNode((1, 1), 3.0), wyrm.InputNode((1, 1), 4.0)
        product, total = composed(a, b)
        (product - total).forward()
        assert (product.value, total.value) == (12, 7)
        STORE.clear()
