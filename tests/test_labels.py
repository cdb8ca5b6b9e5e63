"""What losses take as targets: shapes that are never broadcast, labels that are refused where they enter."""

import gc

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.nn import losses
from wyrm.optim import SGD

LOSSES = [losses.squared, losses.absolute, losses.huber, losses.hinge, losses.binary_cross_entropy, losses.bpr]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "make", [np.ones, lambda shape: np.ones(shape).tolist(), lambda shape: wyrm.InputNode((1, 1, *shape)[-2:])]
)
def test_targets_are_not_broadcast(loss, make):
    """Neither a row beside a column nor a vector, nor one node beside several; a number stands for all."""
    column, row = wyrm.ParameterNode(np.zeros((3, 1))), wyrm.ParameterNode(np.zeros((1, 3)))
    for node, shapes in ((column, [(3,), (1, 3), (1, 1), (3, 3), (1,), (4, 1)]), (row, [(3, 1), (1, 1), (2, 3)])):
        for shape in shapes:
            with pytest.raises(wyrm.ShapeError, match=rf"{loss.__name__}: expected targets of the shape of .*or a number"):
                loss(node, make(shape))
        assert loss(node, make(node.shape), reduction="none").shape == (node.shape[0], 1)
        for number in (1, 1.0, np.float32(1), np.array(1)):
            np.testing.assert_array_equal(loss(node, number).value, loss(node, np.ones(node.shape)).value)


def test_weights_are_one_for_each_row():
    node = wyrm.ParameterNode(np.zeros((3, 2)))
    for weights in (2.0, np.full((3, 1), 2.0), np.full((1, 1), 2.0), wyrm.InputNode((3, 1), np.full((3, 1), 2.0))):
        assert losses.squared(node, 1.0, weights=weights, reduction="sum").value == 12
    for weights in (np.ones(3), np.ones((1, 3)), np.ones((3, 2)), wyrm.InputNode((1, 3))):
        with pytest.raises(wyrm.ShapeError, match=r"weights of shape \(3, 1\).*got shape"):
            losses.squared(node, 1.0, weights=weights)


def test_scores_of_warp_have_one_shape():
    node, sample = wyrm.ParameterNode(np.zeros((4, 1))), wyrm.SampledIndexNode(4)
    with pytest.raises(wyrm.ShapeError, match="warp"):
        losses.warp(wyrm.InputNode((1, 2)), node.index(sample), sample)


def test_row_numbers_are_no_targets():
    with pytest.raises(wyrm.DTypeError, match="binary_cross_entropy.*IndexInputNode.*wyrm.Dense"):
        losses.binary_cross_entropy(wyrm.ParameterNode(0.0), wyrm.IndexInputNode())
    w = wyrm.ParameterNode(0.0)
    feed = {"y": [0, 1]}
    with pytest.raises(wyrm.DTypeError, match="wyrm.Dense"):
        wyrm.fit(lambda y: losses.binary_cross_entropy(w + 1.0, y), feed, SGD(0.1, [w]), backend="reference")
    for dense in (wyrm.Dense([0, 1]), [False, True]):
        wyrm.fit(lambda y: losses.binary_cross_entropy(w + 1.0, y), {"y": dense}, SGD(0.1, [w]), backend="reference")


# -- labels


#: A loss, how it is made from what is fed, what may be fed, and what may not.
LABELS = {
    "probabilities": (losses.binary_cross_entropy, lambda y: y, [0, 1, 0.25, 1 + 1e-7], [-1, 2, 1.01, np.inf]),
    "signs": (losses.hinge, lambda y: y, [-1, 1], [0, 0.5, 2, -np.inf]),
    "signs of labels": (losses.hinge, lambda y: 2 * y - 1, [0, 1], [-1, 0.5]),
    "labels of signs": (losses.binary_cross_entropy, lambda y: (y + 1) / 2, [-1, 1, 0], [-2, 3]),
    "the contrary": (losses.binary_cross_entropy, lambda y: 1 - y, [0, 1, 0.5], [-1, 2]),
    "ratings": (losses.binary_cross_entropy, lambda y: (-(y - 5)) * 0.25, [1, 2, 5], [0, 6]),
    "another shape": (losses.hinge, lambda y: -y.t().reshape(1, 1), [-1, 1], [0]),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_outside_are_refused_where_they_are_set(name):
    loss, made, good, bad = LABELS[name]
    y, w = wyrm.InputNode((1, 1), name="y"), wyrm.ParameterNode(0.5)
    node = loss(w, made(y))
    for value in good:
        for form in (value, np.array([[value]]), np.float32(value), [[value]]):
            y.set_value(form)
    before = float(y.value[0, 0])
    for value in bad:
        for form in (value, np.array([[value]]), np.float32(value), [[value]]):
            with pytest.raises(wyrm.LabelError, match=f"InputNode 'y'.*{loss.__name__} takes labels"):
                y.set_value(form)
    assert y.value == before and np.isfinite(node.value).all()
    with pytest.raises(wyrm.LabelError, match="'z'"):
        loss(w, made(wyrm.InputNode((1, 1), bad[0], name="z")))
    whole = wyrm.InputNode((2, 1), [[good[0]], [good[1]]], name="several")
    if name != "another shape":
        kept = loss(wyrm.ParameterNode(np.zeros((2, 1))), made(whole))
        with pytest.raises(wyrm.LabelError, match="'several'"):
            whole.set_value([[good[0]], [bad[0]]])
        assert np.isfinite(kept.value).all()


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_outside_are_refused_in_feeds(backend, name, dtype):
    """By node and by function, in fit, evaluate, validation and streams, naming the example; nothing is trained."""
    loss, made, good, bad = LABELS[name]
    w, y = wyrm.ParameterNode(0.5, dtype=dtype), wyrm.InputNode((1, 1), name="y", dtype=dtype)
    node = loss(w, made(y))

    def function(y):
        return loss(w, made(y))

    right, wrong = np.array([*good] * 3, float), np.array([*good, bad[0]], float)
    for model, key in ((node, y), (function, "y")):
        start = w.value.copy()
        with pytest.raises(wyrm.LabelError, match=f"'y': example {len(good)}, column 0 holds .*{loss.__name__} takes labels"):
            wyrm.fit(model, {key: wrong}, SGD(0.1, [w]))
        with pytest.raises(wyrm.LabelError, match=f"example {len(good)}"):
            wyrm.evaluate(model, {key: wrong}, **({"dtype": dtype} if model is function else {}))
        with pytest.raises(wyrm.LabelError, match=f"validation: .*example {len(good)}"):
            wyrm.fit(model, {key: right}, SGD(0.1, [w]), validation={key: wrong})
        assert (w.value == start).all()
        with pytest.raises(wyrm.LabelError, match=f"chunk 1 .*example {len(good)}"):
            wyrm.fit(model, [{key: right}, {key: wrong}], SGD(0.1, [w]))
        wyrm.fit(model, {key: right}, SGD(0.1, [w]), validation={key: right})
        wyrm.fit(model, {key: right.astype("float16")}, SGD(0.1, [w]))


def test_labels_of_positions_and_of_several_examples():
    w = wyrm.ParameterNode(0.5)

    def loss(y):
        return sum(losses.hinge(w, label) for label in y[:2])

    sequences = [[1.0, -1.0, 7.0], [1.0, -1.0], [1.0, 0.0]]
    with pytest.raises(wyrm.LabelError, match="'y': example 2, position 1 holds 0"):
        wyrm.fit(loss, {"y": wyrm.Ragged.of(sequences)}, SGD(0.1, [w]), backend="reference")
    wyrm.fit(loss, {"y": wyrm.Ragged.of(sequences[:2])}, SGD(0.1, [w]), backend="reference")
    layer = nn.Linear(2, 1)
    with pytest.raises(wyrm.LabelError, match="'y': example 3, column 0 holds 2"):
        wyrm.fit(
            lambda x, y: losses.binary_cross_entropy(layer.forward(x), y),
            {"x": np.ones((4, 2)), "y": [0.0, 1.0, 0.0, 2.0]},
            SGD(0.1, layer.parameters()),
            rows=2,
            backend="reference",
        )


#: How labels are made from an input of shape (2, 3), the places of those that are labels, and one that is none.
PARTS = {
    "a column": (lambda y: y[:, 1:2], [1, 4]),
    "a row": (lambda y: 2 * y[1] - 1, [3, 4, 5]),
    "a part of a part": (lambda y: y[:, 1:][1:, :1], [4]),
    "a column of the transpose": (lambda y: y.t()[:, :1], [0, 1, 2]),
    "a row of the transpose": (lambda y: y.t()[2], [2, 5]),
    "a part in another shape": (lambda y: -y[:, :2].reshape(1, 4)[:, 1:3], [1, 3]),
    "beside numbers": (lambda y: wyrm.stack([np.ones((2, 1)), y[:, 2:]], axis=1), [2, 5]),
    "columns in another order": (lambda y: wyrm.stack([y[:, 2:], y[:, :1]], axis=1), [0, 2, 3, 5]),
    "a part of what is put together": (lambda y: wyrm.stack([y[:, 2:], y[:, :2]], axis=1)[:, 1:2], [0, 3]),
    "rows below": (lambda y: wyrm.stack([y[1], y[0]])[:, :1], [0, 3]),
}


@pytest.mark.parametrize("name", PARTS)
def test_labels_that_are_a_part_of_an_input(name):
    """What stands beside the labels, such as targets of another loss, may be any number."""
    made, places = PARTS[name]
    y = wyrm.InputNode((2, 3), name="y")
    target = made(y)
    node = losses.hinge(wyrm.ParameterNode(np.zeros(target.shape)), target, reduction="sum")
    for place in range(6):
        value = np.ones((2, 3))
        value.flat[place] = 7.0
        if place in places:
            with pytest.raises(wyrm.LabelError, match=r"'y': set_value: got 7.*hinge takes labels"):
                y.set_value(value)
            with pytest.raises(wyrm.LabelError, match="'y': example 1, .* holds 7"):
                wyrm.evaluate(node, {y: np.stack([np.ones((2, 3)), value])}, backend="reference")
        else:
            y.set_value(value)
            wyrm.evaluate(node, {y: np.stack([np.ones((2, 3)), value])}, backend="reference")


def test_labels_that_are_columns_of_several_examples():
    """Two tasks whose targets are fed as one matrix; each run has three examples."""
    w = wyrm.ParameterNode(np.zeros((1, 1)))

    def loss(y):
        return losses.binary_cross_entropy(y[:, 1:] * w, y[:, :1]) + losses.squared(y[:, :1] * w, y[:, 1:])

    targets = np.array([[0.0, 9.0], [1.0, 8.0], [0.5, 7.0], [1.0, 6.0]])
    wyrm.fit(loss, {"y": targets}, SGD(0.01, [w]), rows=3, backend="reference")
    targets[3, 0] = 5.0
    with pytest.raises(wyrm.LabelError, match="'y': example 3, column 0 holds 5"):
        wyrm.fit(loss, {"y": targets}, SGD(0.01, [w]), rows=3, backend="reference")
    sequences = wyrm.Ragged.of([[1.0, 0.0], [0.0, 1.0, 2.0]])
    with pytest.raises(wyrm.LabelError, match="'y': example 1, position 2 holds 2"):
        wyrm.evaluate(
            lambda y: losses.binary_cross_entropy(wyrm.stack([w] * len(y)), wyrm.stack(y), reduction="sum"), {"y": sequences}
        )


def test_constants_are_looked_at_at_once():
    node = wyrm.ParameterNode(np.zeros((2, 1)))
    for loss, good, bad in ((losses.binary_cross_entropy, 0.5, 1.5), (losses.hinge, -1, 0)):
        for form in (float, lambda number: np.array([[1.0], [number]]), lambda number: [[1.0], [number]]):
            loss(node, form(good))
            with pytest.raises(wyrm.LabelError, match=loss.__name__):
                loss(node, form(bad))


def test_an_input_is_bound_by_the_losses_that_exist():
    """A loss made by mistake, and gone, forbids nothing; nor does one that is not part of what is trained."""
    y, w = wyrm.InputNode((1, 1)), wyrm.ParameterNode(0.0)
    mistaken = losses.binary_cross_entropy(w, y)
    right = losses.squared(w, y)
    wyrm.fit(right, {y: [3.0, 4.0]}, SGD(0.1, [w]), backend="reference")
    with pytest.raises(wyrm.LabelError):
        wyrm.fit(mistaken + right, {y: [3.0, 4.0]}, SGD(0.1, [w]), backend="reference")
    with pytest.raises(wyrm.LabelError):
        y.set_value(3.0)
    del mistaken
    gc.collect()
    y.set_value(3.0)
    assert right.value != 0


def test_what_is_computed_otherwise_is_not_checked():
    w, y = wyrm.ParameterNode(0.0), wyrm.InputNode((1, 1))
    losses.binary_cross_entropy(w, y.sigmoid())
    losses.binary_cross_entropy(w, wyrm.ParameterNode(5.0) * y)
    y.set_value(7.0)
