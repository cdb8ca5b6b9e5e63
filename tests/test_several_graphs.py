"""Several graphs, or several results of one: of one structure, side by side, joined later, gone."""

import numpy as np
import pytest

import wyrm


def test_two_live_graphs_of_one_structure_do_not_share_values(backend):
    w = wyrm.ParameterNode(2.0)
    graphs = []
    for n in range(5):
        x = wyrm.InputNode((1, 1), float(n))
        graphs.append((x, (x * w).square()))
        graphs[-1][1].forward()
    for n, (x, y) in enumerate(graphs):
        assert y.value == (2 * n) ** 2
        x.set_value(n + 1.0)
        y.forward()
    assert [float(y.value[0, 0]) for _, y in graphs] == [4.0, 16.0, 36.0, 64.0, 100.0]


def test_two_graphs_of_one_shape_interleaved(backend):
    """Passes of one between the passes of the other: each differentiates its own values."""
    u, v = wyrm.ParameterNode(3.0), wyrm.ParameterNode(5.0)
    x, y = wyrm.InputNode((1, 1), 2.0), wyrm.InputNode((1, 1), 7.0)
    a, b = (u * x).square(), (v * y).square()
    a.forward()
    b.forward()
    a.backward(1.0)
    b.backward(1.0)
    assert u.gradient.to_dense() == 2 * 3 * 2 * 2
    assert v.gradient.to_dense() == 2 * 5 * 7 * 7


def test_two_heads_on_one_graph(backend):
    """In any order; a parameter gathers its gradient from both."""
    x, w = wyrm.InputNode((1, 1), 2.0), wyrm.ParameterNode(3.0)
    hidden = x * w
    first, second = hidden.square(), hidden + 1.0
    for order in ((first, second), (second, first)):
        w.zero_gradient()
        for head in order:
            head.forward()
        for head in order:
            head.backward(1.0)
        assert w.gradient.to_dense() == 2 * 6 * 2 + 2
    x.set_value(4.0)
    second.forward()
    assert hidden.value == 12  # the last pass that held it
    assert first.value == 144  # its own last pass was before the input was set: another one is run


def test_graphs_that_meet_later(backend):
    x, w = wyrm.InputNode((1, 1), 2.0), wyrm.ParameterNode(3.0)
    hidden = x * w
    hidden.forward()
    z = wyrm.InputNode((1, 2), [[1.0, 10.0]])  # in a graph of its own: the first has been run
    joined = hidden * z
    assert joined._graph is not hidden._graph
    np.testing.assert_array_equal(joined.value, [[6, 60]])
    x.set_value(5.0)
    z.set_value([[1.0, 1.0]])
    joined.forward()
    np.testing.assert_array_equal(joined.value, [[15, 15]])
    assert hidden.value == 15  # the last pass that held it was the joined one
    x.set_value(1.0)
    hidden.forward()
    assert hidden.value == 3
    with pytest.raises(wyrm.StaleError):  # its own last pass was with another value
        joined.backward(1.0)
    joined.forward()
    joined.backward(1.0)
    assert w.gradient.to_dense() == 2
    third = wyrm.InputNode((1, 1), 1.0)
    third.square().forward()
    np.testing.assert_array_equal((joined * third + hidden).value, [[6, 6]])


def test_values_of_a_graph_that_is_gone_are_not_read(backend):
    """A workspace that another graph has taken over says nothing about this one."""
    x, w = wyrm.InputNode((1, 1), 2.0), wyrm.ParameterNode(3.0)
    hidden = x * w
    hidden.forward()

    def head(number):
        z = wyrm.InputNode((1, 1), number)
        result = hidden * z
        result.forward()
        return float(result.value[0, 0])

    assert head(10.0) == 60
    x.set_value(7.0)
    assert head(10.0) == 210
    assert hidden.value in (6, 21)
    hidden.forward()
    assert hidden.value == 21


def test_weights_and_validation_leave_a_graph_that_was_run_as_it_was(backend):
    """The node of the weights belongs to a graph of its own then; the loss does not take over what it is not made of."""
    x, w = wyrm.InputNode((1, 1), 2.0), wyrm.ParameterNode(3.0)
    loss = (x * w).square()
    loss.forward()
    feed = {x: np.ones(4)}
    optimizer = wyrm.optim.SGD(0.1, [w])
    for _ in range(2):
        wyrm.fit(loss, feed, optimizer, weights=np.full(4, 0.5), validation=feed, seed=0)
        assert not loss._graph.imports
        loss.forward()
        np.testing.assert_allclose(loss.value, np.square(2 * w.value))


def test_graphs_that_take_each_others_inputs_over(backend):
    """Inputs that come home by way of another graph are the same inputs, and an input has one number by every way."""
    a = wyrm.InputNode((1, 1), 1.0)
    p = a.square()
    p.forward()
    b = wyrm.InputNode((1, 1), 2.0)
    q = b.square()
    q.forward()
    c = p + q
    d = wyrm.InputNode((1, 1), 3.0)
    e, f = c + d, d * c
    e.forward()
    f.forward()
    assert (e.value, f.value, c.value, p.value) == (8, 15, 5, 1)
    a.set_value(5.0)
    assert (e.value, f.value, c.value, p.value) == (32, 87, 29, 25)
    d.set_value(2.0)
    assert (e.value, f.value, c.value, p.value) == (31, 58, 29, 25)
    np.testing.assert_array_equal(np.ravel(wyrm.evaluate([p, c], {a: [3.0], b: [4.0]})), [9, 25])
    e.forward()
    assert e.value == 31


def test_any_nodes_of_any_graphs_meet(backend, rng):
    """Random expressions over inputs of several graphs, some of which have been run: always what NumPy computes."""
    for _ in range(20):
        w = wyrm.ParameterNode(rng.normal(), dtype="float64")
        inputs, nodes = [], []
        for step in range(25):
            kind = rng.integers(5) if nodes else 0
            if kind == 0:
                node = wyrm.InputNode((1, 1), rng.normal(), dtype="float64")
                inputs.append(node)
                nodes.append((node, lambda v, node=node: v[node]))
            elif kind == 1:
                node, exact = nodes[rng.integers(len(nodes))]
                node.forward()
            else:
                (x, f), (y, g) = (nodes[rng.integers(len(nodes))] for _ in range(2))
                if kind == 2:
                    nodes.append((x + y * 0.5, lambda v, f=f, g=g: f(v) + g(v) * 0.5))
                elif kind == 3:
                    nodes.append(((x * y).tanh(), lambda v, f=f, g=g: np.tanh(f(v) * g(v))))
                else:
                    nodes.append((x * w, lambda v, f=f, w=w: f(v) * v[w]))
            if step % 6 == 5:
                inputs[rng.integers(len(inputs))].set_value(rng.normal())
                values = {node: float(node.value[0, 0]) for node in [*inputs, w]}
                for place in rng.permutation(len(nodes))[:4]:
                    node, exact = nodes[place]
                    np.testing.assert_allclose(node.value, exact(values), rtol=1e-12, atol=1e-12)
