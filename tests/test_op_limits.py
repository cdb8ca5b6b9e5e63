"""Ops at the limits: far from 0, at kinks, outside of domains, and of numbers that are not finite."""

import numpy as np
import pytest

import wyrm

pytestmark = pytest.mark.variants


def test_sigmoid_at_any_argument(backend):
    """Against NumPy in float64, from where it vanishes to where it is 1, and at what is no number."""
    x = np.concatenate([np.linspace(-110, 110, 2001), [0.0, -0.0, 1e30, -1e30, np.inf, -np.inf, np.nan]])
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-14)):
        a = wyrm.ParameterNode(x.reshape(1, -1), dtype=dtype)
        exact = a.value.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            expected = np.where(exact < 0, np.exp(exact) / (1 + np.exp(exact)), 1 / (1 + np.exp(-exact)))
        expected[0, -3:] = 1, 0, np.nan
        tiny = float(np.finfo(dtype).tiny)
        np.testing.assert_allclose(a.sigmoid().value, expected, rtol=tolerance, atol=tiny)


@pytest.mark.parametrize("x", [-1e4, -700.0, -20.0, 0.0, 20.0, 700.0, 1e4])
def test_softplus_and_log_sigmoid_at_any_argument(backend, x):
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-14)):
        a = wyrm.ParameterNode(x, dtype=dtype)
        for sign, node in ((1, a.softplus()), (-1, -(-a).log_sigmoid())):
            exact = np.log1p(np.exp(-abs(sign * x))) + max(x, 0.0)
            node.forward()
            np.testing.assert_allclose(node.value, exact, rtol=tolerance, atol=float(np.finfo(dtype).tiny))
            a.zero_gradient()
            node.backward(1.0)
            with np.errstate(over="ignore"):
                slope = 1 / (1 + np.exp(-x))
            np.testing.assert_allclose(a.gradient.to_dense(), slope, rtol=tolerance, atol=float(np.finfo(dtype).tiny))


def test_rows_are_normalised_without_overflow(backend, rng):
    """Softmax and its kind work row by row, far from 0, and where one element outweighs all."""
    values = np.array([[1e4, 1e4 + 1, 1e4 - 1], [-1e4, -1e4, -1e4], [0, 500, -500], [1e-3, 0, 2e-3]])
    a = wyrm.ParameterNode(values, dtype="float64")
    shifted = np.exp(values - values.max(1, keepdims=True))
    softmax = shifted / shifted.sum(1, keepdims=True)
    np.testing.assert_allclose(a.softmax().value, softmax, rtol=1e-13)
    np.testing.assert_allclose(a.logsumexp().value, values.max(1, keepdims=True) + np.log(shifted.sum(1, keepdims=True)))
    expected = values - values.max(1, keepdims=True) - np.log(shifted.sum(1, keepdims=True))
    np.testing.assert_allclose(a.log_softmax().value, expected, rtol=1e-13)
    np.testing.assert_allclose(a.softmax().sum(axis=1).value, np.ones((4, 1)), rtol=1e-13)


def test_functions_outside_their_domains_give_what_numpy_gives(backend):
    values = np.array([[-1.0, -0.0, 0.0, np.inf, -np.inf, np.nan, 1e-45, 1e38]])
    for dtype in ("float32", "float64"):
        a = wyrm.ParameterNode(values, dtype=dtype)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(a.ln().value, np.log(a.value), rtol=1e-6)
            np.testing.assert_allclose(a.sqrt().value, np.sqrt(a.value), rtol=1e-6)
            np.testing.assert_allclose((1.0 / a).value, 1 / a.value, rtol=1e-6)
            np.testing.assert_allclose(a.exp().value, np.exp(a.value), rtol=1e-6)
            np.testing.assert_allclose(a.tanh().value, np.tanh(a.value), rtol=1e-6)
            np.testing.assert_allclose((a**2.0).value, np.power(a.value, 2), rtol=1e-6)
            np.testing.assert_allclose((a**0.5).value, np.power(a.value, np.full_like(a.value, 0.5)), rtol=1e-6)
            np.testing.assert_array_equal(a.maximum(0.5).value, np.maximum(a.value, 0.5))
            np.testing.assert_array_equal(a.minimum(0.5).value, np.minimum(a.value, 0.5))
            np.testing.assert_array_equal(a.relu().value, np.maximum(a.value, 0))
            np.testing.assert_array_equal(abs(a).value, np.abs(a.value))
            assert np.all(np.signbit(abs(a).value) == 0)


def test_kinks(backend):
    """Where elements are equal, each has half of the gradient; at the bounds of clip it passes whole."""
    a, b = wyrm.ParameterNode([[1.0, 2.0, 3.0]]), wyrm.ParameterNode([[2.0, 2.0, 2.0]])
    for node, slope_a, slope_b in ((a.maximum(b), [0, 0.5, 1], [1, 0.5, 0]), (a.minimum(b), [1, 0.5, 0], [0, 0.5, 1])):
        a.zero_gradient()
        b.zero_gradient()
        node.backward(1.0)
        np.testing.assert_array_equal(a.gradient.to_dense(), [slope_a])
        np.testing.assert_array_equal(b.gradient.to_dense(), [slope_b])
    c = wyrm.ParameterNode([[-1.0, 0.0, 1.0]])
    for node, slope in ((c.clip(-1.0, 0.0), [1, 1, 0]), (c.relu(), [0, 0, 1]), (abs(c), [-1, 0, 1])):
        c.zero_gradient()
        node.backward(1.0)
        np.testing.assert_array_equal(c.gradient.to_dense(), [slope])


def test_masks_stop_what_is_not_finite(backend):
    """A gradient that is infinite on the side that is not chosen does not become NaN."""
    a = wyrm.ParameterNode([[0.0, 4.0]], dtype="float64")
    y = wyrm.where(np.array([[False, True]]), a.sqrt(), a * 2.0)
    y.forward()
    y.backward(1.0)
    np.testing.assert_array_equal(y.value, [[0, 2]])
    upstream = (a.relu() * np.array([[np.inf, 1.0]])).scalar_sum()
    upstream.backward(1.0)
    assert a.gradient.to_dense()[0, 1] == 0.25 + 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_infinities_are_their_limits(backend, dtype):
    """Masks of -infinity weigh nothing, and have a gradient of 0 however many there are; what has no limit is NaN."""
    low, high, nan = -np.inf, np.inf, np.nan
    for row, total, weights, softmax in (
        ([low, 1.0, low], 1.0, [0, 1, 0], [0, 1, 0]),
        ([low, low, low], low, [0, 0, 0], [nan] * 3),
        ([high, 0.0, 1.0], high, None, [nan] * 3),
        ([high, high, low], high, None, [nan] * 3),
        ([nan, low, 1.0], nan, [nan] * 3, [nan] * 3),
    ):
        for count in (1, 20):  # within a vector, and beyond
            a = wyrm.ParameterNode(np.tile(row, (2, count)), dtype=dtype)
            node = a.logsumexp()
            np.testing.assert_allclose(node.value, np.full((2, 1), total + np.log(count)), rtol=1e-6)
            node.backward(1.0)
            if weights is not None:
                np.testing.assert_allclose(a.gradient.to_dense(), np.tile(weights, (2, count)) / count, rtol=1e-6)
            probabilities = np.tile(softmax, (2, count)) / count
            np.testing.assert_allclose(a.softmax().value, probabilities, rtol=1e-6)
            with np.errstate(divide="ignore"):
                np.testing.assert_allclose(a.log_softmax().value, np.log(probabilities), rtol=1e-6)


def test_sums_of_masked_logarithms_have_gradients(backend):
    """As in the forward algorithm of a hidden Markov model: a state that cannot be reached stays without weight."""
    a = wyrm.ParameterNode([[0.5, 1.0]])
    unreachable = (a * np.zeros((1, 2)) + np.full((1, 2), -np.inf)).logsumexp()
    node = wyrm.stack([unreachable, a.logsumexp()], axis=1).logsumexp()
    node.forward()
    node.backward(1.0)
    np.testing.assert_allclose(a.gradient.to_dense(), np.exp(a.value) / np.exp(a.value).sum(), rtol=1e-6)
    masked = wyrm.ParameterNode([[0.5, -np.inf, 1.0]])
    for loss, expected in (
        (wyrm.nn.losses.sparse_categorical_crossentropy(masked, wyrm.IndexInputNode(1, 0)), True),
        (masked.softmax()[:, :1].scalar_sum(), True),
    ):
        masked.zero_gradient()
        loss.forward()
        loss.backward(1.0)
        assert np.isfinite(loss.value).all() and np.isfinite(masked.gradient.to_dense()).all() == expected


def test_powers_at_the_edges(backend):
    """The derivatives of a ** b: for a, b a ** (b - 1), 0 of b = 0; for b, a ** b ln a, and of a = 0 the limit from above."""
    for a, b, slope_a, slope_b in (
        (2.0, 3.0, 12.0, 8 * np.log(2)),
        (0.0, 2.0, 0.0, 0.0),
        (0.0, 1.0, 1.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 0.5, np.inf, 0.0),
        (0.0, -1.0, -np.inf, -np.inf),
        (-2.0, 3.0, 12.0, np.nan),
        (-2.0, 0.0, 0.0, np.nan),
        (-2.0, 0.5, np.nan, np.nan),
        (3.0, 0.0, 0.0, np.log(3)),
    ):
        base, exponent = wyrm.ParameterNode(a, dtype="float64"), wyrm.ParameterNode(b, dtype="float64")
        for node, parts in ((base**exponent, (base, exponent)), (base**b, (base,)), (a**exponent, (exponent,))):
            base.zero_gradient()
            exponent.zero_gradient()
            node.forward()
            node.backward(1.0)
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(node.value, np.float64(a) ** np.float64(b))
            for part in parts:
                expected = slope_a if part is base else slope_b
                np.testing.assert_allclose(part.gradient.to_dense(), [[expected]], err_msg=f"{a} ** {b}")


def test_bounds_of_clip_are_trained(backend):
    """Each element has the gradient, or the bound beyond which it lies; if bounds cross, the upper one, as in the value."""
    values = [[-2.0, -1.0, 0.0, 1.0, 2.0, np.nan]]
    a = wyrm.ParameterNode(values)
    for low, high, expected in (
        (-1.0, 1.0, ([0, 1, 1, 1, 0, 1], 1, 1)),
        (1.0, 1.0, ([0, 0, 0, 1, 0, 1], 3, 1)),
        (1.0, -1.0, ([0] * 6, 0, 6)),
    ):
        bounds = [wyrm.ParameterNode(low), wyrm.ParameterNode(high)]
        node = a.clip(*bounds)
        a.zero_gradient()
        node.forward()
        node.backward(1.0)
        found = a.gradient.to_dense()[0, :5].tolist(), *(bound.gradient.to_dense()[0, 0] for bound in bounds)
        assert found == (expected[0][:5], *expected[1:])
