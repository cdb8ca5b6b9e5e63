"""Dropout: how much is kept, when it changes, and where it is left out."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD

pytestmark = pytest.mark.variants


def ones(shape=(40, 50), **options):
    return wyrm.ParameterNode(np.ones(shape), **options)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elements_are_kept_with_the_probability_that_is_left(backend, rate, dtype):
    node = ones(dtype=dtype).dropout(rate, seed=3)
    node.forward()
    kept = node.value != 0
    np.testing.assert_allclose(node.value[kept], 1 / (1 - rate), rtol=1e-6)
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / kept.size)
    for axis in (0, 1):  # and no row or column is treated otherwise
        share = kept.mean(axis=axis)
        assert abs(share - (1 - rate)).max() < 6 * np.sqrt(rate * (1 - rate) / kept.shape[axis])


def test_every_backend_draws_the_same(backend):
    for shape in ((1, 1), (3, 7), (5, 8), (2, 33)):
        node = ones(shape).dropout(0.4, seed=12)
        node.forward()
        expected = ones(shape).dropout(0.4, seed=12)
        expected.forward(backend="reference")
        np.testing.assert_array_equal(node.value, expected.value)


def test_the_same_until_the_next_step(backend):
    w = ones()
    node = w.dropout(0.5, seed=1)
    loss = node.scalar_sum()
    optimizer = SGD(0.0, [w])
    masks = []
    for _ in range(3):
        for _ in range(2):
            loss.forward()
            masks.append(node.value.copy())
        loss.backward(1.0)
        np.testing.assert_array_equal(w.gradient.to_dense(), masks[-1])  # the gradient passes where the element did
        optimizer.step()
    for n in (0, 2, 4):
        np.testing.assert_array_equal(masks[n], masks[n + 1])
    assert (masks[0] != masks[2]).any()
    assert (masks[2] != masks[4]).any()


def test_two_in_one_graph_are_independent(backend):
    w = ones()
    a, b = w.dropout(0.5, seed=1), w.dropout(0.5, seed=1)
    both = a * b
    both.forward()
    assert abs((both.value != 0).mean() - 0.25) < 0.05
    other = w.dropout(0.5)
    once_more = w.dropout(0.5)
    assert (other.value != once_more.value).any()  # without a seed, another one each time


def test_off_when_evaluating(backend):
    w, x = ones((8, 9)), wyrm.InputNode((8, 9))
    numbers = np.arange(72).reshape(8, 9)
    node = (w * x).dropout(0.5, seed=1)
    x.set_value(numbers)
    with wyrm.evaluating():
        node.forward()
        np.testing.assert_array_equal(node.value, numbers)
        node.scalar_sum().backward(1.0)
        np.testing.assert_array_equal(w.gradient.to_dense(), numbers)
    node.forward()
    assert (node.value == 0).sum() > 20
    np.testing.assert_array_equal(wyrm.evaluate(node, {x: np.ones((4, 8, 9))}), np.ones((4, 8, 9)))


def test_fit_draws_anew_for_each_example_and_epoch(backend):
    """A seed of fit's is the seed of dropout that has none; one of its own stays."""

    def losses(own, seed):
        w, x = ones((1, 64)), wyrm.InputNode((1, 1))
        loss = (w * x).dropout(0.5, seed=own).scalar_sum()
        return wyrm.fit(loss, {x: np.ones(3)}, SGD(0.0, [w]), num_epochs=3, seed=seed, shuffle=False).losses

    assert losses(None, 1) == losses(None, 1)
    assert losses(None, 1) != losses(None, 2)
    assert losses(5, 1) == losses(5, 2)
    assert len(set(losses(5, 1))) > 1


def test_bad_arguments():
    for rate in (-0.1, 1.0, "0.5", True, np.nan):
        with pytest.raises(wyrm.OptionError, match="rate"):
            ones().dropout(rate)
    for seed in (-1, 1.5, 2**63, True):
        with pytest.raises(wyrm.OptionError, match="seed"):
            ones().dropout(0.5, seed=seed)


def test_streams_do_not_depend_on_what_else_the_graph_of_an_input_has():
    """Keys that are not behind a function's result leave its random numbers as they are."""

    def losses(dropped):
        wyrm.InputNode((1, 1), 1.0).square().forward()  # closes its graph
        scale = wyrm.InputNode((1, 1), 1.0, constant=True)
        for _ in range(dropped):
            scale.dropout(0.5, seed=1)
        weights = wyrm.ParameterNode(np.ones((3, 1)))

        def loss(x):
            return ((x * scale).dropout(0.5, seed=3).dot(weights)).square()

        return wyrm.fit(loss, {"x": np.ones((8, 3))}, SGD(0.1, [weights]), seed=4).losses

    assert losses(0) == losses(1) == losses(2)
