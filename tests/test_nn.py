"""Layers and losses against formulas in NumPy; states, clones, initial values, bad arguments."""

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.nn import losses

pytestmark = pytest.mark.variants


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(layer, hidden, cell, x):
    width = layer.hidden_dim
    weights, biases = layer.cell.shared.weights.value, layer.cell.shared.biases.value
    gates = np.concatenate([hidden, x], axis=1) @ weights + biases
    f, i, o = (sigmoid(gates[:, n * width : (n + 1) * width]) for n in range(3))
    i = 1 - f if layer.cell.coupled else i
    cell = f * cell + i * np.tanh(gates[:, 3 * width :])
    return o * np.tanh(cell), cell


def gru_step(layer, hidden, x):
    a = np.split(x @ layer.input_weights.value + layer.input_biases.value, 3, axis=1)
    b = np.split(hidden @ layer.hidden_weights.value + layer.hidden_biases.value, 3, axis=1)
    r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
    return (1 - z) * np.tanh(a[2] + r * b[2]) + z * hidden


def sequence(rng, length=4, rows=3, cols=5):
    values = rng.standard_normal((length, rows, cols))
    return [wyrm.InputNode((rows, cols), value, dtype="float64") for value in values], values


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(("rows", "hidden"), [(1, 1), (1, 7), (3, 8), (4, 17), (2, 33)])
def test_lstm(backend, rng, coupled, rows, hidden):
    """Any number of rows; each output of a sequence, and the gradient by every weight."""
    parameters = nn.lstm.Parameters(5, hidden, rng=rng, dtype="float64")
    layer = parameters.build_coupled() if coupled else parameters.build()
    inputs, values = sequence(rng, rows=rows)
    outputs = layer.forward(inputs)
    state = np.zeros((2, rows, hidden))
    for output, x in zip(outputs, values, strict=True):
        state = lstm_step(layer, *state, x)
        output.forward()
        np.testing.assert_allclose(output.value, state[0], rtol=1e-12, atol=1e-14)
    loss = (outputs[-1] * rng.standard_normal((rows, hidden)) + outputs[1].square()).scalar_sum()
    loss.forward()
    loss.backward(1.0)
    for parameter in layer.parameters():
        value, gradient = parameter.value.copy(), parameter.gradient.to_dense().copy()
        assert gradient.any()
        for _ in range(12):  # in random directions: there are thousands of weights
            direction, losses = rng.choice([-1e-6, 1e-6], value.shape), []
            for sign in (1, -1):
                parameter.set_value(value + sign * direction)
                loss.forward()
                losses.append(loss.value.item())
            np.testing.assert_allclose(
                (losses[0] - losses[1]) / 2e-6, (gradient * direction).sum() / 1e-6, rtol=1e-6, atol=1e-7
            )
        parameter.set_value(value)


def test_gru(backend, rng):
    layer = nn.GRU(5, 6, rng=rng, dtype="float64")
    inputs, values = sequence(rng)
    hidden = np.zeros((3, 6))
    for output, x in zip(layer.forward(inputs), values, strict=True):
        hidden = gru_step(layer, hidden, x)
        output.forward()
        np.testing.assert_allclose(output.value, hidden, rtol=1e-12, atol=1e-14)


def test_ewma(backend, rng):
    layer = nn.EWMA(5, rng=rng, dtype="float64")
    inputs, values = sequence(rng)
    average, decay = np.zeros((3, 5)), sigmoid(layer.alpha.value)
    for output, x in zip(layer.forward(inputs), values, strict=True):
        average = decay * average + (1 - decay) * x
        np.testing.assert_allclose(output.value, average, rtol=1e-12)


@pytest.mark.parametrize("make", [lambda: nn.lstm.Parameters(5, 6, rng=1).build(), lambda: nn.GRU(5, 6, rng=1)])
def test_state(backend, make):
    """Kept from one sequence to the next; reset in every element, also in graphs that exist already."""
    layer = make()
    inputs = [wyrm.InputNode((2, 5), np.full((2, 5), 0.1 * n)) for n in range(4)]
    whole = layer.forward(inputs)[-1]
    whole.forward()
    fresh = whole.value
    first = layer.forward(inputs[:2])
    first[-1].forward()
    layer.keep_state()
    assert all(matrix.all() for matrix in layer.state)
    second = layer.forward(inputs[2:])[-1]
    second.forward()
    np.testing.assert_allclose(second.value, fresh, rtol=1e-5)
    whole.forward()
    assert not np.allclose(whole.value, fresh)  # the older graph begins with the kept state as well
    layer.reset_state()
    assert layer.state is None
    whole.forward()
    np.testing.assert_array_equal(whole.value, fresh)
    layer.set_state(*np.ones((layer.state_size, 2, 6)))
    whole.forward()
    assert not np.allclose(whole.value, fresh)
    with pytest.raises(wyrm.ShapeError, match="rows"):
        layer.forward([wyrm.InputNode((3, 5))])


class Doubling(nn.EWMA):
    """A layer with a step of its own."""

    def step(self, state, x):
        return (state[0] + 2.0 * x,)


ROWS = {
    "lstm": lambda: nn.lstm.Parameters(5, 6, rng=1, dtype="float64").build(),
    "coupled": lambda: nn.lstm.Parameters(5, 6, rng=1, dtype="float64").build_coupled(),
    "LSTM": lambda: nn.LSTM(5, 6, rng=1, dtype="float64"),
    "gru": lambda: nn.GRU(5, 6, rng=1, dtype="float64"),
    "ewma": lambda: nn.EWMA(5, rng=1, dtype="float64"),
    "own step": lambda: Doubling(5, rng=1, dtype="float64"),
}


@pytest.mark.parametrize("make", ROWS)
def test_a_sequence_may_be_the_rows_of_a_node(backend, rng, make):
    """So are the outputs then; values, gradients and states are those of as many inputs."""
    layer, table = ROWS[make](), wyrm.ParameterNode(rng.standard_normal((9, 5)), dtype="float64")
    parameters = [*layer.parameters(), table]
    for length in (1, 4, 4, 7):
        tokens, found = rng.integers(0, 9, length).tolist(), []
        for inputs in (
            table.index(wyrm.IndexInputNode(length, tokens)),
            [table.index(wyrm.IndexInputNode(1, token)) for token in tokens],
        ):
            outputs = layer.forward(inputs)
            assert isinstance(outputs, wyrm.Node) == isinstance(inputs, wyrm.Node)
            rows = outputs if isinstance(outputs, wyrm.Node) else wyrm.stack(outputs)
            assert rows.shape == (length, layer.hidden_dim)
            loss = (rows * np.arange(1.0, length + 1).reshape(-1, 1)).square().scalar_sum()
            loss.forward()
            loss.backward(1.0)
            layer.keep_state()
            gradients = [p.gradient.to_dense() for p in parameters]
            found.append([loss.value, *layer.state, *gradients])
            layer.reset_state()
            for parameter in parameters:
                parameter.zero_gradient()
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert any(gradient.any() for gradient in gradients[:-1]) or make == "own step"
    assert gradients[-1].any()


def test_zeros_that_states_begin_with_stay_zeros(backend):
    """They are shared by graphs and layers until a state is set; what is read of them is a copy."""
    layer, other = nn.EWMA(2, rng=1), nn.EWMA(2, rng=2)
    nodes = [a_layer.forward([wyrm.InputNode((3, 2), np.zeros((3, 2)))])[0] for a_layer in (layer, other)]
    states = [node for root in nodes for node in root._ancestors() if getattr(node, "name", None) == "state"]
    assert len(states) == 2
    states[1].value[...] = 9.0
    layer.set_state(np.ones((3, 2)))
    assert states[0].value.all() and not states[1].value.any()
    for node, first in zip(nodes, states, strict=True):
        node.forward()
        assert node.value.any() == first.value.any()
    layer.reset_state()
    nodes[0].forward()
    assert not nodes[0].value.any()


def test_fit_takes_the_state_that_is_set(backend):
    layer = nn.EWMA(1, rng=1)
    x = wyrm.InputNode((1, 1))
    layer.set_state([[4.0]])
    node = layer.forward([x])[0]
    decay = float(sigmoid(layer.alpha.value[0, 0]))
    np.testing.assert_allclose(wyrm.evaluate(node, {x: [2.0]})[:, 0, 0], 4 * decay + 2 * (1 - decay), rtol=1e-6)
    with pytest.raises(wyrm.FeedError, match="missing"):
        wyrm.evaluate(node, {})


def test_clones_share_parameters_and_nothing_else(backend):
    """Training a clone trains the original; neither's gradient, nor state, is the other's."""
    layer = nn.lstm.Parameters(3, 4, rng=1).build()
    clone = layer.clone()
    assert [p.name for p in clone.parameters()] == [p.name for p in layer.parameters()]
    x = wyrm.InputNode((1, 3), [[1.0, 2.0, 3.0]])
    loss = clone.forward([x])[0].square().scalar_sum()
    loss.forward()
    loss.backward(1.0)
    for mine, theirs in zip(layer.parameters(), clone.parameters(), strict=True):
        assert mine is not theirs
        assert mine.storage is theirs.storage
        assert theirs.gradient.to_dense().any()
        assert not mine.gradient.to_dense().any()
    before = layer.cell.shared.weights.value.copy()
    wyrm.optim.SGD(0.1, clone.parameters()).step()
    assert (layer.cell.shared.weights.value != before).any()
    clone.set_state([[1.0] * 4], [[1.0] * 4])
    assert layer.state is None


def test_layers_that_share_parameters_keep_sharing_them():
    parameters = nn.lstm.Parameters(3, 4, rng=1)

    class Two(nn.Module):
        def __init__(self):
            self.a, self.b = parameters.build(), parameters.build_coupled()

    assert len(Two().parameters()) == 2
    clone = Two().clone()
    assert clone.a.cell.shared.weights is clone.b.cell.shared.weights
    assert clone.a.cell.shared.weights is not parameters.weights


def test_initial_values_follow_the_seed():
    np.testing.assert_array_equal(nn.xavier_normal(4, 5, rng=3), nn.xavier_normal(4, 5, rng=3))
    assert (nn.xavier_normal(4, 5, rng=3) != nn.xavier_normal(4, 5, rng=4)).any()
    assert (nn.xavier_normal(4, 5) != nn.xavier_normal(4, 5)).any()
    values = nn.xavier_normal(300, 500, rng=1)
    np.testing.assert_allclose([values.mean(), values.var()], [0, 2 / 800], atol=2e-4)
    values = nn.uniform(300, 500, -1, 3, rng=np.random.default_rng(1))
    np.testing.assert_allclose([values.min(), values.max(), values.mean()], [-1, 3, 1], atol=0.02)
    for make in (
        lambda seed: nn.lstm.Parameters(3, 4, rng=seed),
        lambda seed: nn.GRU(3, 4, rng=seed),
        lambda seed: nn.EWMA(3, rng=seed),
        lambda seed: nn.Linear(3, 4, rng=seed),
        lambda seed: nn.Embedding(3, 4, rng=seed),
    ):
        a, b, c = (make(seed).parameters() for seed in (1, 1, 2))
        assert all((x.value == y.value).all() for x, y in zip(a, b, strict=True))
        assert any((x.value != y.value).any() for x, y in zip(a, c, strict=True))


LOSSES = {
    "absolute": (losses.absolute, lambda s, t: abs(s - t)),
    "squared": (losses.squared, lambda s, t: (s - t) ** 2),
    "huber": (losses.huber, lambda s, t: np.where(abs(s - t) <= 1, (s - t) ** 2 / 2, abs(s - t) - 0.5)),
    "hinge": (losses.hinge, lambda s, t: np.maximum(0, 1 - t * s)),
    "bpr": (losses.bpr, lambda s, t: -np.log(sigmoid(s - t))),
    "binary_cross_entropy": (
        losses.binary_cross_entropy,
        lambda s, t: -t * np.log(sigmoid(s)) - (1 - t) * np.log(1 - sigmoid(s)),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(backend, rng, name):
    """By row, with weights for each example, in every reduction; targets as arrays and as nodes."""
    loss, formula = LOSSES[name]
    scores, targets, weights = rng.standard_normal((5, 3)), rng.uniform(0, 1, (5, 3)), rng.uniform(0.5, 2, (5, 1))
    if name == "hinge":
        targets = np.where(targets < 0.5, -1.0, 1.0)
    node = wyrm.ParameterNode(scores, dtype="float64")
    by_row = formula(scores, targets).sum(1, keepdims=True)
    np.testing.assert_allclose(loss(node, targets).value, by_row, rtol=1e-12)
    np.testing.assert_allclose(loss(node, targets, reduction="sum").value, by_row.sum(keepdims=True), rtol=1e-12)
    fed = wyrm.InputNode((5, 3), targets, dtype="float64"), wyrm.InputNode((5, 1), weights, dtype="float64")
    weighted = loss(node, fed[0], weights=fed[1], reduction="mean")
    np.testing.assert_allclose(weighted.value, (weights * by_row).mean(keepdims=True), rtol=1e-12)
    difference, gradient = wyrm.finite_difference(node, weighted)
    np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-9)
    with pytest.raises(wyrm.OptionError, match="'sum', 'mean' or 'none'"):
        loss(node, targets, reduction="max")


def test_cross_entropy_by_row(backend, rng):
    """Each row has its class; the incoming gradient counts; predictions are those of the last pass."""
    logits, classes = rng.standard_normal((4, 5)), np.array([3, 0, 4, 3])
    node, index = wyrm.ParameterNode(logits, dtype="float64"), wyrm.IndexInputNode(4, classes)
    loss = losses.sparse_categorical_crossentropy(node, index, reduction="sum")
    loss.forward()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(loss.value, -np.log(probabilities[range(4), classes]).sum(keepdims=True)[None], rtol=1e-12)
    np.testing.assert_allclose(loss.predictions(), probabilities, rtol=1e-12)
    loss.backward(2.5)
    np.testing.assert_allclose(node.gradient.to_dense(), 2.5 * (probabilities - np.eye(5)[classes]), rtol=1e-12, atol=1e-12)
    node.set_value(np.zeros((4, 5)))
    loss.forward()
    np.testing.assert_allclose(loss.predictions(), np.full((4, 5), 0.2), rtol=1e-12)
    extreme = losses.sparse_categorical_crossentropy(node * 0.0 + np.array([[1e4, 0, 0, 0, -1e4]]), index)
    np.testing.assert_allclose(extreme.value[:, 0], [1e4, 0, 2e4, 1e4], rtol=1e-12, atol=1e-8)


def test_binary_cross_entropy_at_any_logit(backend):
    logits = wyrm.InputNode((1, 3), [[-1000.0, 0.0, 1000.0]])
    loss = losses.binary_cross_entropy(logits, np.array([[1.0, 0.5, 0.0]]))
    np.testing.assert_allclose(loss.value, 2000 + np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "kind", "pattern"),
    [
        (lambda: nn.lstm.Parameters(3, 4).build().forward([]), wyrm.OptionError, "at least one"),
        (lambda: nn.EWMA(3).forward(wyrm.InputNode((0, 3))), wyrm.OptionError, "at least one input.*no rows"),
        (lambda: nn.EWMA(3).forward(wyrm.InputNode((2, 4))), wyrm.ShapeError, "4"),
        (lambda: nn.EWMA(3).forward([wyrm.InputNode((1, 3)), wyrm.InputNode((2, 3))]), wyrm.ShapeError, r"\[1, 2\]"),
        (
            lambda: nn.lstm.Parameters(3, 4).build().forward([wyrm.InputNode((1, 5))]),
            wyrm.ShapeError,
            "inputs of 3 columns, got 5",
        ),
        (lambda: nn.EWMA(3).set_state(np.zeros((2, 4))), wyrm.ShapeError, "3"),
        (lambda: nn.EWMA(3).keep_state(), wyrm.OptionError, "forward"),
        (lambda: nn.xavier_normal(-1, 3), wyrm.ShapeError, "-1"),
        (lambda: nn.uniform(2, 3, 1.0, -1.0), wyrm.OptionError, "low"),
        (lambda: losses.huber(wyrm.InputNode((1, 1)), 1.0, delta=0.0), wyrm.OptionError, "delta"),
        (lambda: wyrm.Node.of(wyrm.InputNode((1, 1))), wyrm.DTypeError, "result of an op"),
    ],
)
def test_bad_arguments(make, kind, pattern):
    with pytest.raises(kind, match=pattern):
        make()


def test_layers_of_constants():
    """An array has a method dot of its own, which would make an array of nodes."""
    x = np.array([[1.0, 2.0]], "float32")
    node = wyrm.InputNode((1, 2), x)
    for layer in (nn.Linear(2, 3, rng=0), nn.Linear(2, 3, bias=False, rng=0)):
        np.testing.assert_array_equal(layer(x).value, layer(node).value)
    for recurrent in (nn.LSTM(2, 3, rng=0), nn.GRU(2, 3, rng=0)):
        np.testing.assert_array_equal(recurrent([x, x])[-1].value, recurrent([node, node])[-1].value)


def test_no_arrays_are_made_of_nodes():
    weights = wyrm.ParameterNode(np.ones((2, 3)), name="weights")
    for make in (np.asarray, np.ones((4, 2)).dot, lambda node: np.array([node, node]), lambda node: np.stack([node, node])):
        with pytest.raises(wyrm.DTypeError, match="'weights' is no array.*value"):
            make(weights)
    with pytest.raises(wyrm.DTypeError, match="'weights' is no array"):
        wyrm.InputNode((2, 3)).set_value(weights)
    assert (np.ones((4, 2)) @ weights).shape == (4, 3)
