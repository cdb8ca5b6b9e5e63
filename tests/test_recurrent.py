"""Recurrent layers: made in one way, in both directions, from states that are given to states that are returned."""

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.optim import SGD

MAKE = {
    "lstm": lambda **options: nn.LSTM(3, 4, rng=1, dtype="float64", **options),
    "coupled": lambda **options: nn.LSTM(3, 4, coupled=True, rng=1, dtype="float64", **options),
    "gru": lambda **options: nn.GRU(3, 4, rng=1, dtype="float64", **options),
}
LAYERS = {**MAKE, "ewma": lambda **options: nn.EWMA(4, rng=1, dtype="float64")}


def sequence(rng, length=4, rows=2, cols=3):
    return [wyrm.InputNode((rows, cols), rng.standard_normal((rows, cols)), dtype="float64") for _ in range(length)]


def values(nodes):
    return [node.value.copy() for node in nodes]


def assert_equal(found, expected):
    np.testing.assert_allclose(values(found), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("coupled", [False, True])
def test_an_lstm_is_a_layer_of_its_parameters(rng, coupled):
    parameters = nn.lstm.Parameters(3, 4, rng=1, dtype="float64")
    xs = sequence(rng)
    layer = parameters.build_coupled() if coupled else parameters.build()
    assert_equal(MAKE["coupled" if coupled else "lstm"]()(xs), values(layer(xs)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_sequence_goes_on_from_the_state_that_is_returned(backend, rng, name):
    layer = LAYERS[name]()
    xs = sequence(rng, cols=4 if name == "ewma" else 3)
    whole = values(layer(xs))
    first, state = layer(xs[:2], return_state=True)
    assert len(state) == layer.state_size and state[0] is first[-1]
    assert_equal([*first, *layer(xs[2:], state)], whole)
    arrays = values(state)
    assert_equal(layer(xs[2:], arrays), whole[2:])
    if len(state) == 1:
        assert_equal(layer(xs[2:], state[0]), whole[2:])
        assert_equal(layer(xs[2:], arrays[0]), whole[2:])
    assert layer.state is None  # what is given is for this sequence alone
    assert_equal(layer(xs), whole)


@pytest.mark.parametrize("name", MAKE)
def test_both_directions(backend, rng, name):
    """The outputs of a layer, beside those of another over the reversed sequence."""
    layer, xs = MAKE[name](bidirectional=True), sequence(rng)
    one, other = MAKE[name](), MAKE[name]()
    for twin, names in ((one, ""), (other, "reverse.")):
        for path, node in twin.named_parameters().items():
            node.set_value(layer.named_parameters()[names + path].value)
    assert not np.array_equal(one.parameters()[0].value, other.parameters()[0].value)
    assert len(layer.parameters()) == 2 * len(one.parameters())
    ahead, back = values(one(xs)), values(other(xs[::-1]))[::-1]
    expected = np.concatenate([ahead, back], axis=2)
    outputs, last = layer(xs, return_state=True)
    assert_equal(outputs, expected)
    assert len(last) == layer.state_size == 2 * one.state_size
    np.testing.assert_allclose(last[0].value, ahead[-1])
    np.testing.assert_allclose(last[one.state_size].value, back[0])
    state = [rng.standard_normal((2, 4)) for _ in last]
    ahead, back = values(one(xs, state[: len(state) // 2])), values(other(xs[::-1], state[len(state) // 2 :]))[::-1]
    assert_equal(layer(xs, state), np.concatenate([ahead, back], axis=2))
    assert_equal(layer.clone()(xs, state), np.concatenate([ahead, back], axis=2))
    layer.set_state(*state)
    assert_equal(layer(xs), np.concatenate([ahead, back], axis=2))
    layer.reset_state()
    rows = wyrm.InputNode((3, 3), rng.standard_normal((3, 3)), dtype="float64")
    outputs, last = layer(rows, return_state=True)
    listed, expected = layer([rows[n : n + 1] for n in range(3)], return_state=True)
    np.testing.assert_allclose(outputs.value, np.concatenate(values(listed)))
    assert_equal(last, values(expected))
    np.testing.assert_allclose(layer(rows[:1]).value, layer([rows[:1]])[0].value)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_flow_into_a_state(backend, rng, bidirectional):
    """One row of a parameter is for every sequence."""
    layer, xs = nn.GRU(3, 4, bidirectional=bidirectional, rng=1, dtype="float64"), sequence(rng)
    begin = [wyrm.ParameterNode(rng.standard_normal((1, 4)), dtype="float64") for _ in range(layer.state_size)]
    loss = (wyrm.stack(layer(xs, begin)).square()).scalar_sum()
    for parameter in [*begin, *layer.parameters()]:
        difference, gradient = wyrm.finite_difference(parameter, loss)
        np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-8)
        assert difference.any()


def test_a_learned_state_and_both_directions_in_fit(backend, rng):
    class Sum(nn.Module):
        def __init__(self):
            self.begin = [wyrm.ParameterNode(np.zeros((1, 4))) for _ in range(2)]
            self.layer, self.out = nn.GRU(1, 4, bidirectional=True, rng=1), nn.Linear(8, 1, rng=2)

        def forward(self, xs, y):
            return nn.losses.squared(self.out(self.layer(xs, self.begin)[0]), y)

    model = Sum()
    sequences = [rng.standard_normal((n, 1)) for n in (2, 3, 2, 3)]
    feed = {"xs": wyrm.Ragged.of([list(s) for s in sequences]), "y": [[s.sum()] for s in sequences]}
    history = wyrm.fit(model, feed, SGD(0.1, model), rows=2, num_epochs=20, seed=0)
    assert history[-1].loss < history[0].loss / 2 and model.begin[1].value.any()


@pytest.mark.parametrize(
    "state",
    [[np.zeros((2, 4))], [np.zeros((2, 4))] * 3, [np.zeros((3, 4))] * 2, [np.zeros((1, 4))] * 2, np.zeros((2, 4)), []],
)
def test_states_that_do_not_fit(state):
    with pytest.raises(wyrm.ShapeError, match=r"LSTM: expected 2 matrices of shape \(2, 4\) as state, got"):
        nn.LSTM(3, 4)([wyrm.InputNode((2, 3))], state)


@pytest.mark.parametrize("name", MAKE)
def test_gradients_of_any_ordinary_size_are_finite(name):
    """The check of gradients, which scales what it looks at, finds nothing where nothing is."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        layer = type(MAKE[name]())(1, 4, coupled=True, rng=1) if name == "coupled" else type(MAKE[name]())(1, 4, rng=1)
        out = nn.Linear(4, 1, rng=2)
        sequences = [rng.standard_normal((n, 1)) for n in (2, 3)]
        feed = {"xs": wyrm.Ragged.of([list(s) for s in sequences]), "y": [[1e3 * s.sum()] for s in sequences]}

        def loss(xs, y, layer=layer, out=out):
            return nn.losses.squared(out(layer(xs)[-1]), y)

        history = wyrm.fit(loss, feed, SGD(1e-6, [layer, out]), num_epochs=1, seed=0, backend="reference")
        assert np.isfinite(history[0].loss)
