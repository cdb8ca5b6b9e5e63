"""What was wrong in this library's predecessor, the Rust crate wyrm 0.9.1: a test for each that would have caught it.

Those that have tests of their own elsewhere: initial values from seeds, ``clone`` and ``reset_state`` of the LSTM
(test_nn), sigmoid beyond 10 (test_ops), Adam's correction of rows seen seldom (test_optimizers), gradient checks with loose
tolerances (the conformance suite finds derivatives that are off by a thousandth: test_conformance).
"""

import sys
import time

import numpy as np
import pytest

import wyrm
from wyrm.nn import losses
from wyrm.optim import SGD

pytestmark = pytest.mark.variants


def test_clip_is_not_scaled_and_has_a_gradient(backend):
    w = wyrm.ParameterNode([[-3.0, -0.5, 0.25, 2.0]])
    node = w.clip(-1.0, 1.0)
    node.backward(2.0)
    np.testing.assert_array_equal(node.value, [[-1, -0.5, 0.25, 1]])
    np.testing.assert_array_equal(w.gradient.to_dense(), [[0, 2, 2, 0]])


def test_row_sparse_gradients_can_be_clamped(backend):
    table, index = wyrm.ParameterNode(np.zeros((4, 2))), wyrm.IndexInputNode(2, [1, 1])
    loss = (table.index(index) * np.array([[10.0, -0.25]])).scalar_sum()
    optimizer = SGD(1.0, [table], clip_value=0.75)
    loss.forward()
    loss.backward(1.0)
    assert isinstance(table.gradient, wyrm.RowSparseGradient)
    optimizer.step()
    np.testing.assert_array_equal(table.value, [[0, 0], [-0.75, 0.5], [0, 0], [0, 0]])  # the sum is clamped, not its parts


def test_dense_and_looked_up_uses_of_one_parameter_add_up(backend):
    table, index = wyrm.ParameterNode(np.ones((3, 2))), wyrm.IndexInputNode(1, 2)
    (table.index(index).scalar_sum() * 5.0 + table.scalar_sum()).backward(1.0)
    np.testing.assert_array_equal(table.gradient.to_dense(), [[1, 1], [1, 1], [6, 6]])


def test_a_transpose_that_is_used_twice(backend, rng):
    w = wyrm.ParameterNode(rng.standard_normal((2, 3)), dtype="float64")
    t = w.t()
    difference, gradient = wyrm.finite_difference(w, t.dot(w) + t.dot(w * 2.0) + (t * 3.0).dot(w))
    np.testing.assert_allclose(gradient, difference, rtol=1e-6)


def test_cross_entropy_takes_batches_and_weighs_its_gradient(backend):
    logits, classes = wyrm.ParameterNode(np.zeros((2, 4)), dtype="float64"), wyrm.IndexInputNode(2, [1, 3])
    loss = losses.sparse_categorical_crossentropy(logits, classes)
    loss.forward()
    loss.backward(3.0)
    np.testing.assert_allclose(logits.gradient.to_dense(), 3 * (np.full((2, 4), 0.25) - np.eye(4)[[1, 3]]))


def test_softmax_is_by_row(backend, rng):
    x = wyrm.InputNode((3, 5), rng.standard_normal((3, 5)), dtype="float64")
    np.testing.assert_allclose(x.softmax().value.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(np.exp(x.log_softmax().value).sum(axis=1), 1, rtol=1e-14)


def test_what_needs_no_gradient_costs_none(backend):
    """Nothing is computed backwards for inputs, nor for what depends on them alone."""
    x, w = wyrm.InputNode((1, 3), [[1.0, 2.0, 3.0]]), wyrm.ParameterNode(np.ones((1, 3)))
    lengths = []
    for start in (x, wyrm.ParameterNode(np.ones((1, 3)))):
        node = start.exp().exp() * w
        node.backward(1.0)
        calls = []
        for instruction in node._workspace.binding.program.backward:
            chain = dict(instruction.attributes).get("chain")
            calls += [instruction.kernel] if chain is None else [kernel for kernel, _ in chain.steps]
        lengths.append([kernel for kernel in calls if kernel in ("multiply", "multiply_add", "exp")])
    assert [len(calls) for calls in lengths] == [1, 4]
    np.testing.assert_allclose(w.gradient.to_dense(), np.exp(np.exp([[1.0, 2, 3]])) + np.exp(np.exp(1.0)), rtol=1e-5)


def test_two_heads_on_one_graph(backend):
    """Both have their gradients, in any order, and values of what they share are never stale."""
    w, x = wyrm.ParameterNode(2.0), wyrm.InputNode((1, 1))
    shared = w * x
    heads = shared.square(), shared * 3.0
    for n in range(3):
        x.set_value(float(n))
        w.zero_gradient()
        for head in heads[:: 1 if n % 2 else -1]:
            head.forward()
            head.backward(1.0)
        assert (heads[0].value, heads[1].value, shared.value) == (4 * n * n, 6 * n, 2 * n)
        assert w.gradient.to_dense() == 4 * n * n + 3 * n


def test_two_graphs_of_one_shape_interleaved(backend):
    def graph():
        w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
        return w, x, (w * x).square()

    (w1, x1, loss1), (w2, x2, loss2) = graph(), graph()
    x1.set_value(2.0)
    loss1.forward()
    x2.set_value(5.0)
    loss2.forward()
    loss1.backward(1.0)
    loss2.backward(1.0)
    assert (loss1.value, loss2.value) == (4, 25)
    assert (w1.gradient.to_dense(), w2.gradient.to_dense()) == (8, 50)


def test_shapes_are_checked_always():
    a, b = wyrm.ParameterNode(np.ones((2, 3)), name="left"), wyrm.ParameterNode(np.ones((2, 4)), name="right")
    for make in (lambda: a + b, lambda: a.dot(b), lambda: a.vector_dot(b), lambda: a.stack(b)):
        with pytest.raises(wyrm.ShapeError, match=r"left.*right"):
            make()


def test_broadcasting_sums_what_it_repeated(backend, rng):
    row, column = wyrm.ParameterNode(np.ones((1, 3))), wyrm.ParameterNode(np.ones((2, 1)))
    (row * column).backward(1.0)
    np.testing.assert_array_equal(row.gradient.to_dense(), [[2, 2, 2]])
    np.testing.assert_array_equal(column.gradient.to_dense(), [[3], [3]])


def test_threads_that_share_parameters_end_and_leave_nothing_out(backend):
    """Examples that no number of threads divides: each is visited once an epoch."""
    if "hogwild" not in wyrm.get_backend(backend).capabilities.schedules:
        pytest.skip(f"{backend} runs on one thread")
    table, index = wyrm.ParameterNode(np.zeros((1009, 1))), wyrm.IndexInputNode()
    wyrm.fit(table.index(index) * 1.0, {index: np.arange(1009)}, SGD(1.0, [table]), num_epochs=3, num_threads=2)
    np.testing.assert_array_equal(table.value, np.full((1009, 1), -3.0))


def test_deep_graphs(backend):
    """Ten thousand nodes in a chain: no recursion, and twice the nodes take about twice the time."""

    def seconds(length):
        began = time.process_time()
        w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1), 0.5)
        node = w * x
        for _ in range(length):
            node = node + x
        node.forward()
        node.backward(1.0)
        assert node.value == 0.5 + 0.5 * length
        assert w.gradient.to_dense() == 0.5
        return time.process_time() - began

    assert sys.getrecursionlimit() <= 10_000
    if wyrm.get_backend(backend).name == "reference":
        short, long = seconds(5_000), seconds(20_000)
        assert long < 12 * short  # quadratic: 16 times
    else:
        seconds(10_000)


def test_a_shared_part_runs_backward_once():
    """A ladder, in which each rung uses the one before twice: paths double with each rung, instructions do not."""
    w = wyrm.ParameterNode(1.0, dtype="float64")
    node = w * 1.0
    for _ in range(60):
        node = (node + node) * 0.5
    node.backward(1.0)
    assert w.gradient.to_dense() == 1
    program = node._workspace.binding.program
    assert len(program.backward) < 4 * 60 + 10
