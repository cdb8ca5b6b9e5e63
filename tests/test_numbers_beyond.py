"""Numbers that a model cannot hold are refused by name where they enter, and nothing has changed."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD

HUGE = 1e300


@pytest.mark.parametrize("make", [lambda value: value, np.longdouble, lambda value: np.array(value, ">f8")])
def test_feeds_beyond_float32(backend, make):
    x = wyrm.InputNode((1, 2), name="x")
    w = wyrm.ParameterNode(np.ones((1, 2)))
    loss = (w * x).mean()
    data = np.array([[1.0, 2.0], [3.0, make(HUGE)], [0.0, -HUGE]])
    for act in (
        lambda: wyrm.evaluate(loss, {x: data}),
        lambda: wyrm.fit(loss, {x: data}, SGD(0.1, [w])),
        lambda: wyrm.fit(lambda x: (w * x).mean(), {"x": data}, SGD(0.1, [w])),
    ):
        with pytest.raises(wyrm.FeedError, match=r"feed for .*x'.*: example 1 holds 1e\+300, which is beyond .*float32"):
            act()
    np.testing.assert_array_equal(w.value, 1.0)
    data[1:] = np.inf  # which is said, and not a number that became it
    assert np.isinf(wyrm.evaluate(loss, {x: data})[1])


def test_feeds_that_take_the_place_of_others_in_memory(backend):
    x, w = wyrm.InputNode((1, 1), name="x"), wyrm.ParameterNode(1.0)
    optimizer = SGD(0.0, [w])
    for _ in range(3):
        wyrm.fit(w * x, {x: [1.0, 2.0]}, optimizer, seed=1)
        wyrm.evaluate(w * x, {x: [1.0, 2.0]})
    with pytest.raises(wyrm.FeedError, match="beyond"):
        wyrm.fit(w * x, {x: [1.0, HUGE]}, optimizer, seed=1)
    with pytest.raises(wyrm.FeedError, match="beyond"):
        wyrm.evaluate(w * x, {x: [1.0, HUGE]})


def test_numbers_of_sequences_weights_and_bags(backend):
    w, table = wyrm.ParameterNode(1.0), wyrm.ParameterNode(np.ones((3, 1)))
    with pytest.raises(wyrm.FeedError, match=r"example 1, position 0, holds"):
        wyrm.evaluate(lambda x: w * sum(x), {"x": wyrm.Ragged.of([[1.0, 2.0], [HUGE, 1.0]])})
    with pytest.raises(wyrm.FeedError, match=r"weights: example 1 holds"):
        wyrm.fit(lambda x: w * x, {"x": [1.0, 2.0]}, SGD(0.1, [w]), weights=[1.0, HUGE])
    bag = wyrm.BagInputNode(name="bag")
    bags = wyrm.Bags.from_lists([[0], [1, 2]], [[1.0], [1.0, HUGE]])
    with pytest.raises(wyrm.FeedError, match=r"'bag': example 1, as a weight, holds"):
        wyrm.evaluate(table.index_sum(bag), {bag: bags})


def test_models_of_float64_take_them(backend):
    x, w = wyrm.InputNode((1, 1), dtype="float64"), wyrm.ParameterNode(2.0, dtype="float64")
    assert wyrm.evaluate(w * x, {x: [1.0, HUGE]})[1, 0, 0] == 2 * HUGE


def test_parameters():
    for value in (HUGE, [[1.0, -HUGE]], np.longdouble("1e400")):
        with pytest.raises(wyrm.DTypeError, match=r"beyond what float32 holds"):
            wyrm.ParameterNode(value)
    node = wyrm.ParameterNode([[1.0, 2.0]], name="w")
    with pytest.raises(wyrm.DTypeError, match=r"'w': 1e\+300 is beyond"):
        node.set_value([[0.0, HUGE]])
    np.testing.assert_array_equal(node.value, [[1.0, 2.0]])
    largest = float(np.finfo(np.float32).max)
    node.set_value([[largest * (1 + 2**-26), np.inf]])  # which is rounded down, and which is infinite anyway
    np.testing.assert_array_equal(node.value, [[largest, np.inf]])


def test_whole_numbers_beyond_floats():
    node = wyrm.InputNode((1, 1), 3.0, name="x")
    for act in (lambda: node.set_value(10**400), lambda: wyrm.InputNode((1, 1), 10**400, name="x")):
        with pytest.raises(wyrm.DTypeError, match=r"'x': got a whole number that is beyond what float32 holds"):
            act()
    assert node.value == 3.0
    with pytest.raises(wyrm.DTypeError, match="a whole number is beyond 64 bits"):
        node * (10**400)


def test_indices_of_any_floats():
    table = wyrm.ParameterNode(np.arange(6.0).reshape(6, 1))
    index = wyrm.IndexInputNode(2)
    for dtype in ("f2", "f4", "f8", "g", ">f8"):
        found = wyrm.evaluate(table.index(index), {index: np.array([[0, 5], [2, 1]], dtype)})
        np.testing.assert_array_equal(found[..., 0], [[0, 5], [2, 1]])
