"""Inputs that were made without a dtype: they take that of what they meet first, whatever they are set to."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD


def weights(dtype="float64"):
    return wyrm.ParameterNode(np.array([[0.1, 0.7]]), dtype=dtype, name="weights")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("when", ["at first", "before", "after"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2)])
def test_an_input_takes_the_dtype_of_what_it_meets(backend, first, when, shape):
    """To the last digit, whenever it is set: a value that float32 has not is not rounded."""
    value = np.full(shape, 1 / 3)
    x, w = wyrm.InputNode(shape, value if when == "at first" else None), weights()
    if when == "before":
        x.set_value(value)
    y = x * w if first else w * x
    if when == "after":
        x.set_value(value)
    y.forward()
    assert (x.dtype, y.dtype) == ("float64", "float64")
    np.testing.assert_array_equal(y.value, value * w.value)
    x.set_value(np.full(shape, 2 / 3))
    np.testing.assert_array_equal(y.value, 2 / 3 * w.value)


def test_what_it_meets_may_be_of_another_graph(backend):
    other = wyrm.InputNode((1, 2), [[1.0, 2.0]], dtype="float64")
    made = other * 2.0
    made.forward()
    x = wyrm.InputNode((1, 2), [[3.0, 4.0]])
    y = made + x
    np.testing.assert_array_equal(y.value, [[5.0, 8.0]])
    assert y.dtype == "float64"


def test_several_at_once_and_in_ops_of_several_operands(backend):
    a, b, w = wyrm.InputNode((1, 2), [[1.0, 0.0]]), wyrm.InputNode((1, 2), [[5.0, 6.0]]), weights()
    y = wyrm.where(a, w, b)
    np.testing.assert_array_equal(y.value, [[0.1, 6.0]])
    assert a.dtype == b.dtype == "float64"


def test_graphs_that_are_rebuilt(backend):
    w = weights()

    @wyrm.composition
    def layer(x, w):
        return [x * w]

    for n in range(3):
        for product in (lambda x: x * w, lambda x: layer(x, w)[0]):
            x = wyrm.InputNode((1, 2), [[1.0, n]])
            np.testing.assert_array_equal(product(x).value, [[0.1, 0.7 * n]])


def test_fit_feeds_it(backend):
    x, w = wyrm.InputNode((1, 2)), weights()
    loss = (w.vector_dot(x) - 1.0).square()
    data = np.random.default_rng(0).normal(size=(50, 2))
    wyrm.fit(loss, {x: data[:, None]}, SGD(0.1, [w]), shuffle=False, num_threads=1)
    exact = np.array([0.1, 0.7])
    for row in data:
        exact -= 0.2 * (exact @ row - 1) * row
    np.testing.assert_allclose(w.value[0], exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (lambda: wyrm.InputNode((1, 2), dtype="float32"), weights),
        (lambda: wyrm.InputNode((1, 2), dtype="float64"), lambda: weights("float32")),
        (lambda: weights("float32"), weights),
        (lambda: wyrm.InputNode((1, 2)) * 2.0, weights),
    ],
    ids=["float32 given", "float64 given", "parameters", "a result"],
)
def test_what_has_a_dtype_keeps_it(x, w):
    x, w = x(), w()
    before = x.dtype
    with pytest.raises(wyrm.DTypeError, match="operands of float32 and float64 meet"):
        x * w
    assert x.dtype == before


def test_an_input_that_was_run_keeps_its_dtype():
    x = wyrm.InputNode((1, 2), [[1.0, 2.0]])
    y = x * 2.0
    y.forward(backend="reference")
    with pytest.raises(wyrm.DTypeError, match="meet"):
        x * weights()
    np.testing.assert_array_equal(y.value, [[2.0, 4.0]])


def test_what_was_made_of_it_before_is_told(backend):
    """Never the value of before, nor memory that is not there."""
    x = wyrm.InputNode((1, 2), [[1.0, 2.0]])
    before = x * 2.0
    after = x * weights()
    with pytest.raises(wyrm.MissingValueError, match="another dtype by now.*`dtype=`"):
        before.forward()
    np.testing.assert_array_equal(after.value, [[0.1, 1.4]])
    with pytest.raises(wyrm.WyrmError):
        wyrm.evaluate(before, {x: np.ones((3, 1, 2))})


def test_functions_are_evaluated_in_the_dtype_of_their_parameters(backend):
    """Also by the dtype that is asked for, which another one of the parameters contradicts."""
    weight, table = (wyrm.ParameterNode(np.full((3, 1), 1 / 3), dtype="float64") for _ in range(2))

    def function(x, row):
        return x @ weight * table.index(row)

    feed = {"x": np.full((4, 3), 1 / 3), "row": [0, 1, 2, 0]}
    for options in ({}, {"rows": 3}, {"dtype": "float64"}):
        found = wyrm.evaluate(function, feed, **options)
        assert found.dtype == "float64"
        np.testing.assert_allclose(found, 1 / 9, rtol=1e-15)
    with pytest.raises(wyrm.DTypeError, match="float32 and float64"):
        wyrm.evaluate(function, feed, dtype="float32")
    assert wyrm.evaluate(lambda x: x.square(), {"x": feed["x"]}).dtype == "float32"


@pytest.mark.parametrize("given", [[[0.1, 0.7]], np.array([[0.1, 0.7]])])
def test_arrays_keep_their_digits_until_the_dtype_is_known(given):
    weight = wyrm.ParameterNode(np.ones((1, 2)), dtype="float64")
    x = wyrm.InputNode((1, 2), [[3.0, 4.0]])
    x.set_value(given)
    if isinstance(given, np.ndarray):
        borrowed, given = given.copy(), given.tolist()
        x.set_value(borrowed)
        borrowed[...] = 0  # whoever set it may go on with the array
    np.testing.assert_array_equal((x * weight).value, given)
    empty = wyrm.InputNode((0, 2), np.zeros((0, 2)))
    assert (empty * weight).value.shape == (0, 2)
