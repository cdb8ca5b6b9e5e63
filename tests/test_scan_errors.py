"""Loops over rows, and sequences as rows, that are no good: errors that say where and what to do, and nothing has changed."""

import copy
import pickle
import re

import numpy as np
import pytest

import wyrm
from wyrm import nn

TABLE = wyrm.ParameterNode(np.arange(10.0).reshape(5, 2), name="table")


def zeros():
    return np.zeros((1, 2))


def node(count=3):
    return wyrm.InputNode((count, 2), np.ones((count, 2)), name="x", constant=True)


def ran(s, x):
    x.sum().forward()
    return s, x


def asked(s, x):
    s.value  # noqa: B018
    return s, x


def written(s, x):
    x.set_value(zeros())
    return s, x


@pytest.mark.parametrize(
    ("call", "kind", "pattern"),
    [
        (
            lambda: wyrm.scan(lambda s, x: (s, x), zeros(), node(0)),
            wyrm.ShapeError,
            r"scan\(<lambda>\): .*at least one row.*'x'",
        ),
        (
            lambda: wyrm.each(lambda x: x, wyrm.IndexInputNode(0)),
            wyrm.ShapeError,
            r"each\(<lambda>\): expected at least one row",
        ),
        (lambda: wyrm.each(lambda a, b: a + b, node(3), node(2)), wyrm.ShapeError, "equally many rows, got InputNode 'x'"),
        (lambda: wyrm.scan(lambda s, x: (s, x), zeros(), [node(1)]), wyrm.DTypeError, "got a list; .*wyrm.stack"),
        (lambda: wyrm.scan(lambda s, x: (s, x), zeros(), zeros()), wyrm.DTypeError, "a node with a row for each position"),
        (lambda: wyrm.scan(lambda s, x: (s, x), zeros(), ()), wyrm.DTypeError, "a node with a row for each position"),
        (
            lambda: wyrm.scan(lambda s, x: (s, x), zeros(), node(), reverse=2),
            wyrm.DTypeError,
            "True or False as reverse, got 2",
        ),
        (lambda: wyrm.scan(lambda s, x: (s, x), wyrm.IndexInputNode(1, 0), node()), wyrm.DTypeError, "holds row numbers"),
        (lambda: wyrm.scan(lambda s, x: (s, x), np.zeros((1, 1, 1)), node()), wyrm.ShapeError, r"shape \(1, 1, 1\)"),
        (lambda: wyrm.scan(lambda s, x: s, zeros(), node()), wyrm.DTypeError, "return a pair, the next state and an output"),
        (lambda: wyrm.scan(lambda s, x: (s[:, :1], x), zeros(), node()), wyrm.ShapeError, r"\[\(1, 2\)\], got \[\(1, 1\)\]"),
        (lambda: wyrm.scan(lambda s, x: ((s, s), x), zeros(), node()), wyrm.ShapeError, "a state as it was given one"),
        (lambda: wyrm.scan(lambda s, x: (s[0], x), (zeros(),), node()), wyrm.ShapeError, "a state as it was given one"),
        (lambda: wyrm.scan(lambda s, x: (1.0, x), zeros(), node()), wyrm.DTypeError, "nodes as state, got 1.0"),
        (lambda: wyrm.scan(lambda s, x: (s, 1.0), zeros(), node()), wyrm.DTypeError, "a node of one row as output"),
        (lambda: wyrm.scan(lambda s, x: (s, x.t()), zeros(), node()), wyrm.ShapeError, "an output of one row at each position"),
        (lambda: wyrm.each(lambda i: i, wyrm.IndexInputNode(2, [0, 1])), wyrm.DTypeError, "real numbers as output"),
        (lambda: wyrm.each(lambda x: None, node()), wyrm.DTypeError, "return a node of one row, or several, got None"),
        (
            lambda: wyrm.scan(ran, zeros(), node()),
            wyrm.MissingValueError,
            r"row of InputNode 'x' in scan\(ran\) has a value inside",
        ),
        (lambda: wyrm.scan(asked, zeros(), node()), wyrm.MissingValueError, r"state 0 in scan\(asked\) has a value inside"),
        (lambda: wyrm.scan(written, zeros(), node()), wyrm.OptionError, "can be neither set nor read"),
        (lambda: wyrm.each(lambda x: (node().sum().forward(), x)[1], node()), wyrm.OptionError, "the step runs nodes"),
        (lambda: node()[4:], wyrm.OutOfRangeError, "rows 4:None reach beyond the 3"),
        (lambda: wyrm.IndexInputNode(3)[4:], wyrm.OutOfRangeError, "rows 4:None reach beyond the 3"),
        (lambda: wyrm.IndexInputNode(3)[::2], wyrm.OptionError, "steps of 1"),
        (lambda: wyrm.IndexInputNode(3)[:, :0], wyrm.ShapeError, "row numbers have one column"),
        (lambda: wyrm.SampledIndexNode(5, count=2)[1:], wyrm.DTypeError, "got row numbers"),
        (lambda: TABLE.index(wyrm.IndexInputNode(3, [0, 1, 5])[:1]), wyrm.OutOfRangeError, "below 5, the rows of .*'table'"),
    ],
)
def test_loops_that_are_refused(call, kind, pattern):
    with pytest.raises(kind, match=pattern):
        call()


def test_a_state_of_another_dtype():
    double = wyrm.InputNode((1, 2), zeros(), dtype="float64")
    single = wyrm.InputNode((3, 2), dtype="float32")
    with pytest.raises(wyrm.DTypeError, match=r"expected a state of float64.*of float32"):
        wyrm.scan(lambda s, x: (x, None), double, single)


def leaking(kept, result):
    """A loop from whose inside a node is kept."""

    def step(s, x):
        kept.append(x * 2.0 if result else s)
        return s + x, x

    return wyrm.scan(step, zeros(), node())


@pytest.mark.parametrize("result", [True, False])
def test_what_is_inside_of_a_loop_is_not_read_outside(result):
    kept = []
    last, _ = leaking(kept, result)
    for outside in (kept[0] + last, kept[0].sum()):
        with pytest.raises(wyrm.MissingValueError, match=r"in scan\(step\) has a value inside of the loop only"):
            outside.forward()
    with pytest.raises(wyrm.MissingValueError, match="returned by the step"):
        kept[0].value  # noqa: B018
    last.forward()
    with pytest.raises(wyrm.MissingValueError, match=r"in scan\(step\) has a value inside of the loop only"):
        wyrm.each(lambda x: x + kept[0], node()).forward()

    def loss(target):
        kept = []
        return leaking(kept, result)[0].scalar_sum() + kept[0].scalar_sum() + (TABLE.scalar_sum() - target).square()

    with pytest.raises(wyrm.MissingValueError, match=r"in scan\(step\) has a value inside of the loop only"):
        wyrm.fit(loss, {"target": [1.0]}, wyrm.optim.SGD(0.1, [TABLE]))


# -- feeds


def last(items):
    return wyrm.scan(lambda s, x: (s + x, None), zeros(), TABLE.index(items))[0].sum(axis=1)


def fit(loss, feed, **options):
    before = TABLE.value.copy()
    try:
        wyrm.fit(loss, feed, wyrm.optim.SGD(0.1, [TABLE]), progress=False, **options)
    finally:
        np.testing.assert_array_equal(TABLE.value, before)


@pytest.mark.parametrize(
    ("sequences", "kind", "pattern"),
    [
        ([[0, 1], [2], []], wyrm.ShapeError, r"scan.*at least one row.*items of length 0, that of example 2"),
        ([[0, 1], [2], [3, 5]], wyrm.OutOfRangeError, "'items': example 2, position 1 holds 5; .*below 5"),
        ([[0, 1], [-1], [3, 4]], wyrm.OutOfRangeError, "'items': example 1, position 0 holds -1"),
        ([[[0, 1]], [[2, 3]]], wyrm.FeedError, "one index for each position .*got 2; .*argument of its own"),
        ([[0.5, 1.0]], wyrm.DTypeError, "index: expected an IndexInputNode"),
        ([[0.5], [1.0, np.nan]], wyrm.FeedError, "example 1, position 1 holds NaN"),
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
def test_sequences_that_are_refused(backend, sequences, kind, pattern, rows):
    with pytest.raises(kind, match=pattern):
        fit(last, {"items": wyrm.Ragged.of(sequences, rows=True)}, rows=rows)


def test_slices_that_reach_beyond_name_the_example(backend):
    with pytest.raises(wyrm.OutOfRangeError, match=r"reach beyond the 1 .*items of length 1, that of example 1"):
        fit(lambda items: TABLE.index(items[2:]).scalar_sum(), {"items": wyrm.Ragged.of([[0, 1], [2]], rows=True)})


def test_no_rows_where_a_formula_has_a_value_for_them(backend):
    feed = {"items": wyrm.Ragged.of([[0, 1], [], [4]], rows=True)}
    found = wyrm.evaluate(lambda items: TABLE.index(items).sum(axis=0), feed)
    np.testing.assert_array_equal(found[:, 0], [[2, 4], [0, 0], [8, 9]])


@pytest.mark.parametrize("part", [slice(None), slice(1, None)])
def test_labels_at_each_position(backend, part):
    """Of a sequence of labels, those that a loss takes are looked at: in feeds and as they are set."""

    def loss(items, clicked):
        def one(item, label):
            return nn.losses.binary_cross_entropy(TABLE.index(item).sum(axis=1), label)

        return wyrm.each(one, items[part], clicked[part])

    def feed(labels):
        return {"items": wyrm.Ragged.of([[0, 1], [2, 3]], rows=True), "clicked": wyrm.Ragged.of(labels, rows=True)}

    for rows in (1, 2):
        with pytest.raises(wyrm.LabelError, match=r"'clicked': example 1, position 1 holds 2; .*from 0 to 1"):
            fit(loss, feed([[0.0, 1.0], [1.0, 2.0]]), rows=rows)
        first = feed([[0.0, 1.0], [7.0, 1.0]])  # position 0 is no label for one of the two
        if part.start:
            wyrm.evaluate(loss, first, rows=rows)
        else:
            with pytest.raises(wyrm.LabelError, match="'clicked': example 1, position 0 holds 7"):
                wyrm.evaluate(loss, first, rows=rows)
    labels = wyrm.InputNode((2, 1), name="labels")
    found = loss(wyrm.IndexInputNode(2, [0, 1]), labels)
    with pytest.raises(wyrm.LabelError, match="'labels': set_value: got 3"):
        labels.set_value([[0.0], [3.0]])
    assert found.shape == (2 if part.start is None else 1, 1)


def test_labels_in_a_column():
    """Of each row, one element is a label, and the other is not."""
    both = wyrm.InputNode((3, 2), name="both")
    found = wyrm.each(lambda row: nn.losses.binary_cross_entropy(row[:, :1], 2.0 * row[:, 1:] - 1.0), both)
    both.set_value([[-3.0, 1.0], [5.0, 0.5], [2.0, 0.5]])
    for row in range(3):
        wrong = np.full((3, 2), 0.5)
        wrong[row, 1] = 0.2
        with pytest.raises(wyrm.LabelError, match="'both': set_value: got 0.2, which makes a label of -0.6"):
            both.set_value(wrong)
    assert found.value.shape == (3, 1)


def test_tables_that_row_numbers_in_a_loop_look_up():
    items = wyrm.IndexInputNode(2, name="items")
    wyrm.each(lambda item: TABLE.index(item), items[1:])
    with pytest.raises(wyrm.OutOfRangeError, match=r"'items': .*below 5, the rows of .*'table'; got 5 at position 1"):
        items.set_value([0, 5])
    with pytest.raises(wyrm.OutOfRangeError, match="below 5"):
        wyrm.each(lambda item: TABLE.index(item), wyrm.IndexInputNode(1, 7))


def test_bags_beside_sequences_that_are_rows(backend):
    feed = {"items": wyrm.Ragged.of([[0, 1], [2, 3]], rows=True), "words": wyrm.Bags.of([[0], [1, 2]])}

    def loss(items, words):
        return last(items) + TABLE.index_sum(words).sum(axis=1)

    assert wyrm.evaluate(loss, feed).shape == (2, 1, 1)
    with pytest.raises(wyrm.OptionError, match=r"'words' holds bags.*leave out rows="):
        wyrm.evaluate(loss, feed, rows=2)


@pytest.mark.parametrize("columns", [1, 2])
def test_results_of_other_shapes_for_other_examples(columns):
    calls = []

    def changing(items):
        calls.append(items)
        return TABLE.index(items)[: len(calls) % 2 + 1, :columns]

    with pytest.raises(wyrm.ShapeError, match="a result of one shape for each example of a run"):
        wyrm.evaluate(changing, {"items": wyrm.Ragged.of([[0, 1], [2, 3]], rows=True)}, rows=2)


def test_a_model_of_nodes_takes_no_sequences():
    items = wyrm.IndexInputNode(2, name="items")
    with pytest.raises(wyrm.FeedError, match="need a model given as a function"):
        wyrm.evaluate(last(items), {items: wyrm.Ragged.of([[0, 1]], rows=True)})


def test_ragged_says_whether_it_is_rows():
    ragged = wyrm.Ragged.of([[0, 1], [2]], rows=True)
    for other in (ragged, pickle.loads(pickle.dumps(ragged)), copy.copy(ragged), wyrm.Ragged([0, 1], [0, 2], rows=True)):
        assert other.rows
    assert not wyrm.Ragged.of([[0, 1]]).rows
    assert wyrm.Ragged.of(wyrm.Ragged.of([[0, 1]]), rows=True).rows
    with pytest.raises(wyrm.DTypeError, match="True or False as rows, got 'yes'"):
        wyrm.Ragged([0], [0, 1], rows="yes")
    assert re.search("rows", repr(ragged))
