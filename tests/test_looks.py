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


def factorization(how):
    """Of features of which one alone counts, so that products of two are 0, however large they are."""
    factors, weights = nn.Embedding(9, 3, **how), nn.Embedding(9, 1, **how)
    features, target = wyrm.IndexInputNode(2), wyrm.InputNode((1, 1), dtype=how["dtype"])
    vectors = factors(features) * np.array([[1.0], [0.0]])
    products = vectors.sum(axis=0).square().scalar_sum() - vectors.square().scalar_sum()
    return (weights(features).scalar_sum() + products * 0.5 - target * 1e9).square(), {features: 9, target: None}


MODELS = {
    "factorization": factorization,
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


def by_fit(loss, inputs, parameters):
    feed = {node: node.value[None] if node.value.dtype.kind == "f" else node.value.reshape(1, -1) for node in inputs}
    wyrm.fit(loss, feed, SGD(1e-30, parameters), num_threads=1, backend="reference")


def steps_alone(loss, inputs, parameters):
    loss.forward(backend=wyrm.get_backend().name)
    loss.backward(1.0)
    SGD(1e-30, parameters).step()


def outcomes(make, dtype, trials, largest, step=by_fit):
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
            for p in parameters:
                p._gradient_buffer().header[11] = 0  # of what the reference has done, nothing is left
            try:
                step(loss, inputs, parameters)
                assert finite, trial
            except wyrm.NotFiniteError:
                assert not finite, trial
                for p, value in zip(parameters, before, strict=True):
                    np.testing.assert_array_equal(p.value, value)
    return counts


@pytest.mark.parametrize("model", MODELS)
def test_an_own_step_is_made_if_all_gradients_are_finite(backend, model):
    """By a backend that looks at gradients in passes: steps go over gradients only if a pass is in doubt."""
    if not wyrm.get_backend().looks_at_gradients:
        pytest.skip("steps look at all gradients")
    finite, infinite = outcomes(MODELS[model], "float32", 50, 18, steps_alone)
    assert finite > 5
    assert infinite


def test_which_gradients_are_in_doubt(backend):
    """None, after an ordinary pass; those that are very large, set, or of another backend's passes."""
    if not wyrm.get_backend().looks_at_gradients:
        pytest.skip("steps look at all gradients")

    def doubts():
        return [int(p._gradient_buffer().header[11]) for p in parameters]

    for make in MODELS.values():
        rng = np.random.default_rng(0)
        loss, inputs = make({"rng": rng, "dtype": "float32"})
        for node, limit in inputs.items():
            node.set_value(rng.normal(size=node.shape) if limit is None else rng.integers(0, limit, node.shape))
        parameters = loss.parameters()
        optimizer = SGD(1e-3, parameters)
        loss.forward()
        loss.backward(1.0)
        loss.backward(-0.5)
        assert not any(doubts())
        loss.backward(2.0)
        assert all(doubts())
        optimizer.step()
        assert not any(doubts())
    parameters[0].set_gradient(np.ones(parameters[0].shape))
    parameters[1].backward(1.0)
    assert [bool(doubt) for doubt in doubts()] == [True, True, *[False] * (len(parameters) - 2)]
    optimizer.zero_gradient()
    assert not any(doubts())
    (parameters[1] * 1e30).scalar_sum().backward(1.0)
    assert [bool(doubt) for doubt in doubts()] == [False, True, *[False] * (len(parameters) - 2)]
    optimizer.step()
    (parameters[0] * 2.0).forward(backend="reference")
    optimizer.zero_gradient()
    assert doubts() == [2, *[0] * (len(parameters) - 1)]
