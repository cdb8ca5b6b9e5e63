"""FTRL-Proximal against the paper, from any weights and at rates that change; rules that divide by what is 0 at first."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import FTRL, Adagrad, Adam, Group, RowwiseAdagrad, schedules

OPTIONS = [{}, {"l1": 0.3}, {"l2": 0.4}, {"l1": 0.2, "l2": 0.1}, {"beta": 0.0, "l1": 0.05}]


def published(gradients, rate=0.1, beta=1.0, l1=0.0, l2=0.0):
    """McMahan et al., KDD 2013, algorithm 1: the weights after each step, one coordinate a column."""
    z, n, w = np.zeros((3, gradients.shape[1]))
    after = []
    for g in gradients:
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / rate
        z, n = z + g - sigma * w, n + g**2
        strength = (beta + np.sqrt(n)) / rate + l2
        w = np.where(np.abs(z) <= l1, 0, -(z - np.sign(z) * l1) / strength)
        after.append(w)
    return np.array(after)


def trained(optimizer, start, gradients, dtype="float64", before=lambda n: None):
    """The weights after each step, with gradients that are given."""
    w = wyrm.ParameterNode(np.array(start, ndmin=2), dtype=dtype)
    g = wyrm.InputNode(w.shape, dtype=dtype)
    loss, made, after = (w * g).scalar_sum(), optimizer([w]), []
    for n, gradient in enumerate(gradients):
        if n == len(gradients) // 2:
            before(made)
        g.set_value(gradient.reshape(w.shape))
        loss.forward()
        loss.backward(1.0)
        made.step()
        after.append(w.value[0].copy())
    return np.array(after)


@pytest.mark.parametrize("options", OPTIONS)
def test_ftrl_is_the_published_algorithm(backend, rng, options):
    gradients = rng.normal(0, 1, (300, 7)) * (rng.random((300, 7)) < 0.7) + 0.1
    after = trained(lambda p: FTRL(0.1, p, **options), np.zeros(7), gradients)
    assert (after != 0).any()
    np.testing.assert_allclose(after, published(gradients, **options), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ftrl_goes_on_from_where_it_is(backend, rng, options, dtype):
    """From weights that are there, steps without gradient change nothing, at whatever rate; nor do steps at a rate of 0."""
    start = rng.normal(0, 2, 9) * (np.arange(9) % 3 > 0)
    rates = schedules.cosine(0.5, 10)
    after = trained(lambda p: FTRL(rates, p, **options), start, np.zeros((20, 9)), dtype)
    np.testing.assert_array_equal(after, np.broadcast_to(start.astype(dtype), after.shape))
    after = trained(lambda p: FTRL(0.0, p, **options), start, rng.normal(0, 1, (20, 9)), dtype)
    np.testing.assert_array_equal(after, np.broadcast_to(start.astype(dtype), after.shape))


@pytest.mark.parametrize("options", OPTIONS)
def test_a_rate_of_ftrl_that_changes_moves_the_next_step_alone(backend, rng, options):
    """A step begins where the last one ended, and is as long as its own rate allows, however large the rates were before."""
    gradients = rng.normal(0, 1, (40, 5))

    def fall(optimizer):
        optimizer.learning_rate = 1e-6

    after = trained(lambda p: FTRL(0.5, p, **options), rng.normal(0, 2, 5), gradients, before=fall)
    assert np.abs(np.diff(after[:20], axis=0)).max() > 1e-3
    assert np.abs(np.diff(after[19:], axis=0)).max() < 1e-5


def test_ftrl_forgets_what_it_kept_for_weights_that_were_set(backend):
    """One that is set to 0 stays there, as what had pulled it away is gone; one that was 0 goes on from what it is set to."""
    w, g = wyrm.ParameterNode(np.zeros((1, 2)), dtype="float64"), wyrm.InputNode((1, 2), dtype="float64")
    loss, optimizer = (w * g).scalar_sum(), FTRL(0.1, [w], l1=0.5)

    def step(gradient):
        g.set_value(gradient)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()

    step([[0.4, 5.0]])
    assert w.value[0, 0] == 0 > w.value[0, 1]
    w.set_value([[2.0, 0.0]])
    step([[0.0, 0.1]])
    np.testing.assert_array_equal(w.value, [[2.0, 0.0]])


@pytest.mark.parametrize("optimizer", [Adagrad, RowwiseAdagrad])
def test_l1_leaves_alone_what_has_had_no_gradient(backend, optimizer):
    """Element by element, or row by row, as the sums are."""
    start = np.full((2, 3), 2.0)
    table, index = wyrm.ParameterNode(start, dtype="float64"), wyrm.IndexInputNode()
    x = wyrm.InputNode((1, 3), dtype="float64")
    loss = (table.index(index) * x).scalar_sum()
    feed = {index: [0, 1], x: np.array([[[0, 0, 0]], [[0, 1, 0]]], float)}
    wyrm.fit(loss, feed, optimizer(0.5, [table], l1=0.01), shuffle=False, num_threads=1)
    np.testing.assert_array_equal(table.value[0], 2.0)
    if optimizer is Adagrad:
        np.testing.assert_allclose(table.value[1], [2.0, 2 - 0.5 - 0.005, 2.0])
    else:
        shrink = 0.5 * np.sqrt(3)
        np.testing.assert_allclose(table.value[1], [2 - 0.01 * shrink, 2 - 1.01 * shrink, 2 - 0.01 * shrink])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: Adagrad(0.1, p, l1=0.1),
        lambda p: Adagrad(0.1, p, eps=0.0, initial_accumulator_value=0.5),
        lambda p: RowwiseAdagrad(0.1, p, l1=0.1),
        lambda p: Adam(0.1, p, betas=(0.0, 0.0)),
        lambda p: FTRL(0.1, p, beta=0.0),
    ],
)
def test_gradients_of_zero_change_nothing_at_first(backend, make, dtype):
    after = trained(make, np.ones(4), np.zeros((3, 4)), dtype)
    np.testing.assert_array_equal(after, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda w: Adam(0.1, [w], eps=0.0),
        lambda w: Adam(0.1, [w], eps=1e-60),  # 0 in float32
        lambda w: Adagrad(0.1, [w], eps=0.0),
        lambda w: RowwiseAdagrad(0.1, [Group([w], eps=0.0)]),
    ],
)
def test_what_would_divide_zero_by_zero_is_refused(make):
    with pytest.raises(wyrm.OptionError, match="eps.* above 0 in float32"):
        make(wyrm.ParameterNode(1.0))
