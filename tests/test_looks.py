"""What is looked at says whether gradients are finite: for models and sizes of numbers at random, as NumPy finds it."""

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.optim import SGD


def recurrent(kind, how):
    table, cell, linear = nn.Embedding(5, 3, **how), getattr(nn, kind)(3, 4, **how), nn.Linear(4, 5, **how)
    tokens, following = [wyrm.IndexInputNode() for _ in range(6)], wyrm.IndexInputNode()
    hidden = cell([table(token) for token in tokens])
    return nn.losses.sparse_categorical_crossentropy(linear(hidden[-1]), following), dict.fromkeys((*tokens, following), 5)


def perceptron(act, how, rows=2, classes=False):
    x = wyrm.InputNode((rows, 3), dtype=how["dtype"])
    hidden = x
    for width in (4, 4):
        hidden = getattr(nn.Linear(hidden.shape[1], width, **how)(hidden), act)()
    out = nn.Linear(4, 2, **how)(hidden)
    if classes:
        target = wyrm.IndexInputNode(rows)
        return nn.losses.sparse_categorical_crossentropy(out, target).mean(), {x: None, target: 2}
    target = wyrm.InputNode((rows, 2), dtype=how["dtype"])
    return (out - target).square().mean(), {x: None, target: None}


def attention(how):
    table, linear = nn.Embedding(5, 3, **how), [nn.Linear(3, 3, **how) for _ in range(3)]
    tokens, target = wyrm.IndexInputNode(4), wyrm.IndexInputNode(4)
    embedded = table(tokens)
    query, key, value = (layer(embedded) for layer in linear)
    out = (query.dot(key.t()) * 0.5).softmax().dot(value) + embedded
    return nn.losses.sparse_categorical_crossentropy(out, target).scalar_sum(), {tokens: 5, target: 3}


MODELS = {
    "gru": lambda how: recurrent("GRU", how),
    "lstm": lambda how: recurrent("LSTM", how),
    "relu": lambda how: perceptron("relu", how),
    "relu, one row": lambda how: perceptron("relu", how, rows=1, classes=True),
    "tanh": lambda how: perceptron("tanh", how),
    "attention": attention,
}


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "trials"), [("float32", 50), ("float64", 15)])
@pytest.mark.parametrize("model", MODELS)
def test_a_step_is_made_if_all_gradients_are_finite(model, dtype, trials):
    """And only then: by the reference, with parameters of up to 1e18, or 1e144, and of next to nothing."""
    finite, infinite = outcomes(MODELS[model], dtype, trials, 18 if dtype == "float32" else 144)
    assert finite > 5
    assert infinite or trials < 50


def outcomes(make, dtype, trials, largest):
    counts = [0, 0]
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        loss, inputs = make({"rng": rng, "dtype": dtype})
        scale = wyrm.InputNode((1, 1), 10 ** rng.uniform(largest / 2, largest), dtype=dtype)
        loss, inputs = loss * scale, {**inputs, scale: 0}
        parameters = loss.parameters()
        for p in parameters:
            p.set_value(p.value.astype("float64") * 10 ** (rng.choice([-2, -1, 0, 1, 1]) * rng.uniform(0.3, 1) * largest))
        for node, limit in list(inputs.items())[:-1]:
            shape = node.shape
            node.set_value(
                rng.normal(size=shape) * 10 ** rng.uniform(-1, 1) if limit is None else rng.integers(0, limit, shape)
            )
        with np.errstate(all="ignore"):
            loss.forward(backend="reference")
            if not np.isfinite(loss.value).all():
                continue
            loss.backward(1.0)
            gradients = [p.gradient.to_dense() for p in parameters]
            loss.zero_gradient()
            finite = all(np.isfinite(g).all() for g in gradients)
            if finite and max(np.abs(g).max() for g in gradients) > 0.01 * np.finfo(loss.dtype).max:
                continue  # sums in another order may overflow
            counts[not finite] += 1
            before = [p.value.copy() for p in parameters]
            feed = {node: node.value[None] if node.value.dtype.kind == "f" else node.value.reshape(1, -1) for node in inputs}
            try:
                wyrm.fit(loss, feed, SGD(1e-30, parameters), num_threads=1, backend="reference")
                assert finite, trial
            except wyrm.NotFiniteError:
                assert not finite, trial
                for p, value in zip(parameters, before, strict=True):
                    np.testing.assert_array_equal(p.value, value)
    return counts
