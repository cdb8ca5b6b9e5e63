"""Graphs: what is interned, what is live, whose value is whose."""

import gc
import threading
import weakref

import numpy as np
import pytest

import wyrm
from wyrm.frontend import structure
from wyrm.frontend.lowering import lower


def test_a_node_has_its_shape_at_once():
    x, w = wyrm.InputNode((4, 3)), wyrm.ParameterNode(np.zeros((3, 2)))
    assert x.dot(w).shape == (4, 2)
    assert x.dot(w).scalar_sum().shape == (1, 1)
    assert w.index(wyrm.IndexInputNode(5)).shape == (5, 2)


def test_forward_always_executes(backend):
    x, w = wyrm.InputNode((1, 1), 1.0), wyrm.ParameterNode(2.0)
    y = x * w
    assert y.value == 2  # no pass yet: one is run
    x.set_value(5.0)
    y.forward()
    assert y.value == 10
    w.set_value([[3.0]])
    y.forward()
    assert y.value == 15


def test_x_times_y_is_not_x_times_x(backend):
    x, y = wyrm.InputNode((1, 1), 3.0), wyrm.InputNode((1, 1), 5.0)
    product, square = x * y, x * x
    assert (product.value, square.value) == (15, 9)
    assert product._structure is not square._structure


def test_structures_are_interned():
    def build():
        x, y = wyrm.InputNode((2, 2)), wyrm.InputNode((2, 2))
        return ((x + y) * x).sigmoid()

    wyrm.InputNode((1, 1), 0.0).square().forward()  # close the current graph, so that numbers begin at 0
    first = build()
    first._graph.closed = True
    second = build()
    assert first._structure is second._structure
    assert first._graph is not second._graph


def test_interning_survives_a_full_store(backend, monkeypatch):
    """Emptying the store costs time, not correctness."""
    monkeypatch.setattr(structure, "STORE_LIMIT", 3)
    w = wyrm.ParameterNode(2.0)
    for n in range(20):
        x = wyrm.InputNode((1, 1), float(n))
        y = (x * w + x).square() * 0.5
        y.forward()
        y.backward(1.0)
        assert y.value == 0.5 * (3 * n) ** 2
    assert len(structure.STORE) <= 3


def test_programs_are_shared_between_models_of_one_shape(backend):
    lower._CACHE.clear()
    for _ in range(3):
        w, x = wyrm.ParameterNode(np.ones((2, 2))), wyrm.InputNode((1, 2), [[1, 1]])
        x.dot(w).forward()
    assert len(lower._CACHE) == 1


def test_constants_are_data(backend):
    lower._CACHE.clear()
    w = wyrm.ParameterNode(1.0)
    for number in (0.5, 2.0, 3.0):
        assert (w * number).value == number
    assert len(lower._CACHE) == 1


def test_graphs_rebuilt_for_each_example(backend, rng):
    """As many lengths as there are, in any order, each with values of its own."""
    w, table = wyrm.ParameterNode(rng.standard_normal((3, 3))), wyrm.ParameterNode(rng.standard_normal((9, 3)))
    kept = []
    for _ in range(60):
        indices = rng.integers(0, 9, rng.integers(1, 6))
        state, expected = None, np.zeros((1, 3), np.float32)
        for i in indices:
            row = table.index(wyrm.IndexInputNode(1, i))
            state = row if state is None else (state + row).dot(w).sigmoid()
            row = table.value[i : i + 1]
            expected = row if expected is None or not expected.any() else 1 / (1 + np.exp(-(expected + row) @ w.value))
        state.forward()
        kept.append((state, expected))
    for state, expected in kept:
        np.testing.assert_allclose(state.value, expected, rtol=1e-4, atol=1e-5)


def test_backward_differentiates_the_last_forward_pass(backend):
    """Setting an input between the passes mixes nothing: its gradient is asked for in vain."""
    x, w = wyrm.InputNode((1, 1), 2.0), wyrm.ParameterNode(3.0)
    y = (x * w).square()
    y.forward()
    x.set_value(100.0)
    with pytest.raises(wyrm.StaleError):
        y.backward(1.0)
    x.set_value(2.0)
    y.forward()
    y.backward(1.0)
    assert w.gradient.to_dense() == 2 * 6 * 2


def test_backward_runs_forward_where_nothing_ran(backend):
    x, w = wyrm.InputNode((1, 1), 2.0), wyrm.ParameterNode(3.0)
    (x * w).backward(0.5)
    assert w.gradient.to_dense() == 1


@pytest.mark.parametrize("weight", [1, 0.25, -3.0, 0.0, np.float32(2)])
def test_backward_scales_exactly(backend, weight):
    w = wyrm.ParameterNode([[1.5, -2.0]], dtype="float64")
    loss = w.square()
    loss.forward()
    loss.backward(weight)
    np.testing.assert_array_equal(w.gradient.to_dense(), float(weight) * 2 * w.value)


def test_gradients_gather_until_they_are_zeroed(backend):
    w = wyrm.ParameterNode(3.0)
    loss = w.square()
    for times in (1, 2, 3):
        loss.forward()
        loss.backward(1.0)
        assert w.gradient.to_dense() == 6 * times
    loss.zero_gradient()
    assert not w.gradient.to_dense().any()


def test_a_parameter_used_many_ways_adds_up(backend, rng):
    """Transposed twice, on both sides, detached, and by look-up."""
    w, index = wyrm.ParameterNode(rng.standard_normal((4, 4)), dtype="float64"), wyrm.IndexInputNode(3, [1, 1, 3])
    y = (w.t().dot(w) + w.dot(w.t()) + w * w.detach()).scalar_sum() + w.index(index).square().scalar_sum()
    difference, gradient = wyrm.finite_difference(w, y)
    # finite differences see the detached use as well
    np.testing.assert_allclose(gradient, difference - w.value, rtol=1e-6, atol=1e-7)


def test_what_needs_no_gradient_costs_nothing(backend):
    """No backward instruction computes a gradient of an input, of a constant or of a parameter that is not trained."""
    x, w = wyrm.InputNode((1, 2), [[1, 2]]), wyrm.ParameterNode(np.ones((2, 2)))
    frozen = wyrm.ParameterNode(np.ones((2, 2)), trainable=False)
    y = x.dot(frozen).sigmoid().dot(w).scalar_sum()
    y.forward()
    y.backward(1.0)
    program = y._workspace.binding.program
    looks = 0 if program.look is None else 2  # a product of the gradient with itself, and what is made of it
    assert [i.kernel for i in program.backward][: len(program.backward) - looks] == ["copy", "matmul"]
    assert [p.gradient for p in program.parameters] == [None, "dense"]
    assert not frozen.gradient.to_dense().any()
    untrained = x.dot(frozen)
    untrained.forward()
    untrained.backward(1.0)
    assert untrained._workspace.binding.program.backward == ()


def test_a_shared_subgraph_runs_once_in_a_pass(backend):
    x = wyrm.InputNode((1, 1), 1.0)
    y = x
    for _ in range(40):  # 2 ** 40 paths
        y = y + y
    y.forward()
    assert y.value == 2.0**40
    calls = [dict(i.attributes).get("chain") for i in y._workspace.binding.program.forward]
    assert sum(1 if chain is None else len(chain.steps) for chain in calls) == 40


@pytest.mark.slow
def test_a_chain_of_ten_thousand_nodes(backend):
    w = wyrm.ParameterNode(1.0, dtype="float64")
    y = w
    for _ in range(10_000):
        y = y * 1.0001
    y.forward()
    y.backward(1.0)
    np.testing.assert_allclose(y.value, 1.0001**10_000, rtol=1e-9)
    np.testing.assert_allclose(w.gradient.to_dense(), 1.0001**10_000, rtol=1e-9)
    assert len(y.parameters()) == 1


def test_a_graph_with_many_inputs(backend, rng):
    """More than a graph has room for at first, and more while it is in use."""
    values = rng.standard_normal(300)
    total = wyrm.ParameterNode(0.0, dtype="float64")
    nodes = []
    for value in values:
        nodes.append(wyrm.InputNode((1, 1), value, dtype="float64"))
        total = total + nodes[-1]
    total.forward()
    np.testing.assert_allclose(total.value, values.sum())
    scaled = total
    for _ in range(100):  # constants join the graph that has been run
        scaled = scaled * 2.0 * 0.5
    nodes[7].set_value(1000.0)
    total.forward()
    np.testing.assert_allclose(scaled.value, total.value)
    np.testing.assert_allclose(total.value, values.sum() - values[7] + 1000)


def test_a_graph_of_parameters_alone(backend):
    a, b = wyrm.ParameterNode(2.0), wyrm.ParameterNode(5.0)
    y = (a * b).square()
    y.forward()
    y.backward(1.0)
    assert y.value == 100
    assert a.gradient.to_dense() == 2 * 10 * 5


def test_values_are_copies(backend):
    x = wyrm.InputNode((1, 1), 1.0)
    y = x * 2.0
    values = []
    for n in range(3):
        x.set_value(float(n))
        y.forward()
        values.append(y.value)
    assert [float(v[0, 0]) for v in values] == [0, 2, 4]
    values[0][...] = 99
    assert y.value == 4


def test_nothing_keeps_a_table_alive(backend):
    """Dropping the model frees the table, whatever pools and stores there are."""
    table = wyrm.ParameterNode(np.zeros((1000, 8)))
    storage = weakref.ref(table.storage)
    array = weakref.ref(table.storage.value.base)
    for _ in range(5):
        index = wyrm.IndexInputNode(1, 3)
        loss = table.index(index).square().scalar_sum()
        loss.forward()
        loss.backward(1.0)
    optimizer = wyrm.optim.SGD(0.1, loss.parameters())
    optimizer.step()
    del table, loss, index, optimizer
    gc.collect()
    assert storage() is None
    assert array() is None


def test_an_operand_is_kept_alive_by_the_result(backend):
    y = wyrm.ParameterNode(3.0) * wyrm.InputNode((1, 1), 2.0)
    gc.collect()
    assert y.value == 6
    (parameter,) = y.parameters()
    y.backward(1.0)
    assert parameter.gradient.to_dense() == 2


def test_parameters_are_listed_once_in_order():
    a, b, c = (wyrm.ParameterNode(1.0, name=n) for n in "abc")
    assert (b * a + a * c).parameters() == [b, a, c]


def test_threads_build_graphs_of_their_own(backend, rng):
    """Each thread's inputs are its own, however the threads interleave."""
    w = wyrm.ParameterNode(2.0, trainable=False)
    failures = []

    def work(number):
        for n in range(100):
            x, y = wyrm.InputNode((1, 1), float(number)), wyrm.InputNode((1, 1), float(n))
            z = x * w + y
            z.forward(backend=backend)
            if z.value != 2 * number + n:
                failures.append((number, n, z.value))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_one_structure_for_nodes_that_share_storage_is_not_one_gradient(backend):
    """Two nodes over one storage in one graph: each has the gradient of its own use."""
    shared = wyrm.HogwildParameter(3.0)
    a, b = wyrm.ParameterNode.shared(shared), wyrm.ParameterNode.shared(shared)
    y = a.square() + b * 5.0
    y.forward()
    y.backward(1.0)
    assert a.gradient.to_dense() == 6
    assert b.gradient.to_dense() == 5


def test_repr_shows_op_shape_and_name():
    x = wyrm.InputNode((2, 3), name="features")
    assert repr(x) == "<InputNode (2, 3) 'features'>"
    assert repr(x.sigmoid()) == "<sigmoid (2, 3)>"
    assert repr(wyrm.ParameterNode(np.zeros((3, 1)), name="w")) == "<ParameterNode (3, 1) 'w'>"


def test_a_graph_can_change_its_backend():
    x, w = wyrm.InputNode((1, 1), 2.0), wyrm.ParameterNode(3.0)
    y = x * w
    for name in [status.name for status in wyrm.backends()] * 2:
        y.forward(backend=name)
        assert y._workspace.binding.backend.name == name
        y.forward()
        assert y._workspace.binding.backend.name == name
        assert y.value == 6
        y.backward(1.0)
    assert w.gradient.to_dense() == 2 * 2 * len(wyrm.backends())


def test_the_value_of_a_node_over_parameters_alone(backend):
    """It too is what the last pass that held it computed, wherever that was."""
    w = wyrm.ParameterNode(2.0)
    square = w.square()
    loss = square * wyrm.InputNode((1, 1), 3.0)
    loss.forward()
    w.set_value(5.0)
    assert square.value == 25
    loss.forward()
    assert square.value == 25
    wyrm.InputNode((1, 1), 1.0).square().forward()
    later = square + wyrm.InputNode((1, 1), 1.0)
    w.set_value(1.0)
    assert later.value == 2
    assert square.value == 1


def test_backward_of_leaves(backend):
    """A parameter is its own gradient's root; behind an input there is none."""
    w, x = wyrm.ParameterNode([[1.0, 2.0]]), wyrm.InputNode((1, 1), 3.0)
    for node in (w, x):
        node.forward()
        node.backward(0.5)
    np.testing.assert_array_equal(w.gradient.to_dense(), [[0.5, 0.5]])
    frozen = wyrm.ParameterNode(1.0, trainable=False)
    frozen.backward(1.0)
    assert not frozen.gradient.to_dense().any()
