"""What is looked at says whether gradients are finite: for models and sizes of numbers at random, as NumPy finds it."""

import math

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.lowering.updates import Training
from wyrm.optim import SGD


def recurrent(kind, how, times=1):
    wide, hidden = 3 * times, 4 * times
    table, cell, linear = nn.Embedding(5, wide, **how), getattr(nn, kind)(wide, hidden, **how), nn.Linear(hidden, 5, **how)
    tokens, following = [wyrm.IndexInputNode() for _ in range(6)], wyrm.IndexInputNode()
    hidden = cell([table(token) for token in tokens])
    return nn.losses.sparse_categorical_crossentropy(linear(hidden[-1]), following), dict.fromkeys((*tokens, following), 5)


def perceptron(act, how, rows=2, classes=False, times=1):
    x = wyrm.InputNode((rows, 3 * times), dtype=how["dtype"])
    hidden = x
    for width in (4 * times, 4 * times):
        hidden = getattr(nn.Linear(hidden.shape[1], width, **how)(hidden), act)()
    out = nn.Linear(4 * times, 2, **how)(hidden)
    if classes:
        target = wyrm.IndexInputNode(rows)
        return nn.losses.sparse_categorical_crossentropy(out, target).mean(), {x: None, target: 2}
    target = wyrm.InputNode((rows, 2), dtype=how["dtype"])
    return (out - target).square().mean(), {x: None, target: None}


def attention(how, times=1):
    wide = 3 * times
    table, linear = nn.Embedding(5, wide, **how), [nn.Linear(wide, wide, **how) for _ in range(3)]
    tokens, target = wyrm.IndexInputNode(4), wyrm.IndexInputNode(4)
    embedded = table(tokens)
    query, key, value = (layer(embedded) for layer in linear)
    out = (query.dot(key.t()) * 0.5).softmax().dot(value) + embedded
    return nn.losses.sparse_categorical_crossentropy(out, target).scalar_sum(), {tokens: 5, target: 3}


def factorization(how, counts=None, times=1):
    """Of two features; if ``counts`` leaves one alone, products of two are 0, however large they are."""
    factors, weights = nn.Embedding(9, 3 * times, **how), nn.Embedding(9, 1, **how)
    features, target = wyrm.IndexInputNode(2), wyrm.InputNode((1, 1), dtype=how["dtype"])
    vectors = factors(features) if counts is None else factors(features) * np.array(counts)
    products = vectors.sum(axis=0).square().scalar_sum() - vectors.square().scalar_sum()
    return (weights(features).scalar_sum() + products * 0.5 - target * 1e9).square(), {features: 9, target: None}


MODELS = {
    "factorization": lambda how: factorization(how, [[1.0], [0.0]]),
    "gru": lambda how, **size: recurrent("GRU", how, **size),
    "lstm": lambda how, **size: recurrent("LSTM", how, **size),
    "relu": lambda how, **size: perceptron("relu", how, **size),
    "relu, one row": lambda how, **size: perceptron("relu", how, **size, rows=1, classes=True),
    "tanh": lambda how, **size: perceptron("tanh", how, **size),
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


@pytest.mark.parametrize("model", MODELS)
def test_looks_are_a_small_part_of_a_step(model):
    """At most 3 % of what kernels do: elements of products, chains, results and updates, and a few for each instruction."""
    make = {**MODELS, "factorization": factorization}[model]
    loss, _ = make({"dtype": "float32", "rng": np.random.default_rng(0)}, times=10)
    found, _, _ = trace([loss._structure])
    training = (Training(SGD(0.1, loss.parameters()).groups[0].rule, 0),) * len(loss.parameters())
    kernels = frozenset({"lookup", "fused", "row_dot", "lstm_cell", "lstm_cell_vjp", "softmax", "logsumexp"})
    with_looks, without = (work(lower(found, "train", kernels, training, checked=checked)) for checked in (True, False))
    assert with_looks <= 1.03 * without


def work(program):
    total = 0
    for instruction in program.instructions:
        attributes = dict(instruction.attributes)
        sizes = [math.prod(slot.shape) for slot in (instruction.out, *instruction.operands)]
        if instruction.kernel == "matmul":
            sizes = [sizes[0] * instruction.operands[0].shape[0 if attributes["transpose_a"] else 1]]
        elif "chain" in attributes:
            sizes = [sizes[0] * len(attributes["chain"].steps)]
        elif instruction.kernel.startswith(("gather", "update", "accumulate")):  # of a table, some rows
            sizes = sizes[-1:]
        total += max(sizes) + 8 * (1 + len(instruction.operands))
    return total
