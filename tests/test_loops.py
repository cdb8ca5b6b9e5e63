"""Runs as steps of one loop: what is taken from rings and registers is what stands in memory."""

import numpy as np
import pytest
from conftest import SEED

import wyrm
from wyrm import nn
from wyrm.native_chains import Step
from wyrm.native_products import Products
from wyrm.optim import SGD, Adagrad
from wyrm.program import Buffer, InputSlot, Instruction, Program, Slot

#: More than rings have room for, and no multiple of the examples that are added at a time.
COUNT = 157


def _indices(rng, rows, dtype=np.int32):
    return rng.integers(0, rows, COUNT).astype(dtype)


def _biased(rng, dtype="float32", width=5):
    """Factorization with biases: rows of one column, constants, a step of two rows."""

    def table(*shape):
        return wyrm.ParameterNode(0.3 * rng.standard_normal(shape), dtype=dtype)

    users, items, user_biases, item_biases = table(7, width), table(9, width), table(7, 1), table(9, 1)
    mean = wyrm.ParameterNode(0.5, dtype=dtype)
    user, item = wyrm.IndexInputNode(), wyrm.IndexInputNode()
    rating = wyrm.InputNode((1, 1), dtype=dtype)
    score = users.index(user).vector_dot(items.index(item)) + user_biases.index(user) + item_biases.index(item) + mean
    feed = {user: _indices(rng, 7), item: _indices(rng, 9, np.int64), rating: rng.standard_normal(COUNT).astype(dtype)}
    return (score - rating).square(), feed


def _called(rng):
    """A row that is looked up is read by an instruction that is called, and so are an index and a number."""
    table = wyrm.ParameterNode(rng.standard_normal((6, 4)))
    weights = wyrm.ParameterNode(rng.standard_normal((4, 3)))
    word, label, scale = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    loss = nn.losses.sparse_categorical_crossentropy((table.index(word) * scale).dot(weights), label)
    return loss, {word: _indices(rng, 6), label: _indices(rng, 3), scale: rng.random(COUNT)}


def _same_table(rng):
    """Two rows of one table: gradients are gathered first."""
    table = wyrm.ParameterNode(rng.standard_normal((8, 6)))
    a, b, target = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    loss = (table.index(a).vector_dot(table.index(b)) - target).square()
    return loss, {a: _indices(rng, 8), b: _indices(rng, 8), target: rng.standard_normal(COUNT)}


def _trained(build, backend, make, **options):
    loss, feed = build(np.random.default_rng(SEED))
    history = wyrm.fit(loss, feed, make(loss.parameters()), num_epochs=2, seed=SEED, num_threads=1, backend=backend, **options)
    return [*(parameter.value for parameter in loss.parameters()), np.array(history.losses)]


MODELS = {
    "biased": _biased,
    "float64": lambda rng: _biased(rng, "float64"),
    "whole vectors": lambda rng: _biased(rng, width=64),
    "called": _called,
    "one table": _same_table,
}


@pytest.mark.variants
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda p: SGD(0.05, p), {}),
        (lambda p: SGD(0.05, p), {"shuffle": False}),
        (lambda p: SGD(0.05, p), {"batch_size": 3}),
        (lambda p: Adagrad(0.1, p), {}),
    ],
    ids=["shuffled", "in order", "batches", "Adagrad"],
)
def test_training_agrees_with_the_reference(backend, name, make, options):
    actual, expected = (_trained(MODELS[name], chosen, make, **options) for chosen in (backend, "reference"))
    for found, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.variants
@pytest.mark.parametrize("bad", [0, 40])
def test_nothing_is_changed_from_a_loss_that_is_not_finite_on(backend, bad):
    values = []
    for length in (COUNT, bad):
        loss, feed = _biased(np.random.default_rng(SEED))
        *_, rating = feed
        if length == COUNT:
            feed[rating][bad] = np.inf
            with pytest.raises(wyrm.NotFiniteError) as caught:
                wyrm.fit(loss, feed, SGD(0.05, loss.parameters()), shuffle=False, num_threads=1, backend=backend)
            assert caught.value.example == bad
        elif length:
            part = {node: array[:length] for node, array in feed.items()}
            wyrm.fit(loss, part, SGD(0.05, loss.parameters()), shuffle=False, num_threads=1, backend=backend)
        values.append([parameter.value.copy() for parameter in loss.parameters()])
    for stopped, short in zip(*values, strict=True):
        np.testing.assert_array_equal(stopped, short)


def _product(*operands, out):
    return Step("multiply", (0, 0), True, out, operands)


def test_constants_are_multiplied_once_and_errors_last():
    """Of rate * (2 * error) * x, one product is made before all examples, and one does not wait for the error."""
    x, two, rate, slope = Slot(0, 0, (1, 1), 1), Slot(0, 1, (1, 1), 1), Slot(2, 0, (1, 1), 1), Slot(3, 0, (1, 1), 1)
    buffers = (Buffer("real"), Buffer("index"), Buffer("scalars"), Buffer("value"))
    program = Program("train", "float32", buffers, 2, inputs=(InputSlot("dense", x),), literals=((2.0, two),))
    error = Step("subtract", (0, 0), True, 0, (slope, x))
    update = Step("multiply_subtract", (0, 0, 0), True, slope, (2, rate, slope))
    made = Products(program, [error, _product(0, two, out=1), _product(x, 1, out=2), update], 3)
    (once,) = made.once
    assert once == _product(two, rate, out=once.out)
    beside = made.items[0].out
    assert made.items == [_product(x, once.out, out=beside), error, update._replace(operands=(0, beside, slope))]

    # What changes meanwhile is read where it was.
    part = Slot(0, 3, (1, 1), 1)
    for changed in (slope, part):
        moved = Instruction("exp", Slot(changed.buffer, 0 if changed is slope else 2, (1, 2), 2), (slope,))
        items = [_product(changed, two, out=0), moved, update._replace(operands=(0, rate, slope))]
        made = Products(program, items, 1)
        assert (made.once, made.items) == ([], items)


def test_losses_are_added_up_one_after_the_other(backend, monkeypatch):
    """Wherever slices end, which depends on how fast the machine is: the same bits."""
    rng, sums = np.random.default_rng(0), set()
    feed = rng.normal(size=(2, 3000 if backend != "reference" else 100))
    for length in (10_000, 97, 1):
        monkeypatch.setattr("wyrm.training.runners.Worker.slice_length", lambda self, remaining, workers=1, n=length: n)
        w, x, y = wyrm.ParameterNode(0.5), wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
        optimizer = SGD(1e-3, [w])
        history = wyrm.fit((w * x - y).square(), {x: feed[0], y: feed[1]}, optimizer, num_threads=1, shuffle=False)
        sums.add(history.losses[0])
    assert len(sums) == 1
