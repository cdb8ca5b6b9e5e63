"""Examples for which a sample has nothing left to draw: they have no loss and change nothing, and are counted."""

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.optim import SGD, Adam

ROWS = 6
EVERYTHING = [5, 0, 3, 1, 1, 2, 4]


def ranking(kind="bpr"):
    rng = np.random.default_rng(1)
    users, items = (wyrm.ParameterNode(rng.standard_normal((n, 3)), dtype="float64") for n in (5, ROWS))

    def loss(user, item, seen):
        sample = wyrm.SampledIndexNode(ROWS, user.shape[0], exclude=seen, seed=3)
        row = users.index(user)
        positive, negative = row.vector_dot(items.index(item)), row.vector_dot(items.index(sample))
        return nn.losses.warp(positive, negative, sample) if kind == "warp" else nn.losses.bpr(positive, negative)

    return loss, [users, items]


def data(nothing_left, count=20):
    """Examples of which some have nothing left; of the others all but number 2, so that their draws do not depend on keys."""
    rng = np.random.default_rng(2)
    bags = [EVERYTHING if e in nothing_left else [0, 1, 3, 4, 5] for e in range(count)]
    return {"user": rng.integers(0, 5, count), "item": rng.integers(0, ROWS, count), "seen": wyrm.Bags.from_lists(bags)}


def taken(feed, examples):
    return {name: values.take(examples) for name, values in feed.items()}


@pytest.mark.parametrize("make", [lambda p: SGD(0.1, p, l2=0.1), lambda p: Adam(0.1, p, weight_decay=0.1)])
@pytest.mark.parametrize("options", [{}, {"rows": 3}, {"batch_size": 4}, {"batch_size": 4, "schedule": "synchronized"}])
def test_they_are_as_if_they_were_not_there(backend, make, options):
    """Whatever an optimizer does to rows by itself, in batches and among the rows of a run."""
    nothing_left, results = [0, 3, 7, 8, 19], []
    for feed in (data(nothing_left), taken(data(nothing_left), np.setdiff1d(np.arange(20), nothing_left))):
        loss, parameters = ranking()
        history = wyrm.fit(loss, feed, make(parameters), shuffle=False, num_threads=1, validation=feed, **options)
        results.append([*history.losses, history[0].metrics["validation_loss"], *(p.value for p in parameters)])
        assert history[0].skipped == (5 if not results[1:] else 0)
        assert history[0].row()["skipped"] == history[0].skipped
        assert wyrm.History.from_json(history.to_json()) == history
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("kind", ["bpr", "warp"])
def test_where_it_is_all_of_them_nothing_changes(backend, kind):
    """In a feed, and in a chunk of a stream."""
    loss, parameters = ranking(kind)
    before = [parameter.value.copy() for parameter in parameters]
    optimizer = Adam(0.1, parameters)
    history = wyrm.fit(loss, data(range(20)), optimizer, num_epochs=2)
    assert history.losses == [0.0, 0.0] and [epoch.skipped for epoch in history] == [20, 20] and optimizer.steps == 0
    assert all((parameter.value == kept).all() for parameter, kept in zip(parameters, before, strict=True))
    history = wyrm.fit(loss, [data(range(20)), data([1, 2])], optimizer)
    assert history[0].skipped == 22 and history[0].examples == 40 and optimizer.steps == 18


def test_their_values_are_zeros(backend):
    """Of nodes that depend on the sample, and of no others; in runs of several examples as well."""
    users = wyrm.ParameterNode(np.ones((5, 1)))
    feed = data([1, 4], 5)

    def values(user, item, seen):
        sample = wyrm.SampledIndexNode(ROWS, user.shape[0], exclude=seen, seed=3)
        return users.index(user) * numbers.index(sample), users.index(user) * 1.0

    numbers = wyrm.ParameterNode(np.arange(ROWS).reshape(ROWS, 1))
    for rows in (1, 2):
        found, others = wyrm.evaluate(values, feed, rows=rows)
        assert found[:, 0, 0].tolist() == [2, 0, 2, 2, 0]
        assert (others == 1).all()


def test_numbers_without_weight_are_not_left():
    """What is left by frequency is what has a count; a bag is looked at once, however many examples share it."""
    table, item, seen = wyrm.ParameterNode(np.ones((4, 1))), wyrm.IndexInputNode(), wyrm.BagInputNode()
    loss = (table.index(item) * table.index(wyrm.SampledIndexNode(wyrm.Frequencies([1, 0, 1, 0]), exclude=seen))).square()
    bags = wyrm.Bags.from_lists([[0, 2], [0, 1, 3]]).take([0, 1, 0, 0, 1])
    history = wyrm.fit(loss, {item: np.arange(5) % 4, seen: bags}, SGD(0.1, [table]), backend="reference")
    assert history[0].skipped == 3


@pytest.mark.parametrize("rows", [2, 3])
def test_warp_learns_from_few_rows(backend, rows):
    items, item, seen = wyrm.ParameterNode(np.zeros((rows, 1))), wyrm.IndexInputNode(), wyrm.BagInputNode()
    sample = wyrm.SampledIndexNode(rows, exclude=seen)
    loss = nn.losses.warp(items.index(item), items.index(sample), sample, tries=1)
    wyrm.fit(loss, {item: np.zeros(200, int), seen: [[0]] * 200}, SGD(0.1, [items]), seed=1)
    assert (items.value[0] > items.value[1:] + 0.9).all()


def test_calls_that_find_programs_bound_look_at_their_own_bags(backend):
    """One example after the other, by evaluate and by fit."""
    table, item, seen = wyrm.ParameterNode(np.ones((3, 1))), wyrm.IndexInputNode(), wyrm.BagInputNode()
    loss = (table.index(item) * table.index(wyrm.SampledIndexNode(3, exclude=seen))).square()
    optimizer = SGD(0.0, [table])
    for bag, value in (([0], 1.0), ([2, 1, 0], 0.0), ([1, 2], 1.0), ([0, 1, 2], 0.0)):
        feed = {item: [1], seen: [bag]}
        assert wyrm.evaluate(loss, feed).tolist() == [[[value]]]
        history = wyrm.fit(loss, feed, optimizer)
        assert (history.losses, history[0].skipped) == ([value], int(value == 0))
    assert optimizer.steps == 2


def test_each_structure_skips_by_its_own_sample():
    """What excludes all rows that one structure draws from leaves another one something."""
    table = wyrm.ParameterNode(np.ones((ROWS + 1, 1)), dtype="float64")

    def loss(words, seen):
        rows = ROWS if len(words) == 1 else ROWS + 1
        sample = wyrm.SampledIndexNode(rows, exclude=seen, seed=3)
        return (table.index(words[0]) * table.index(sample)).square()

    feed = {"words": wyrm.Ragged.of([[0], [0, 1], [1], [1, 1]]), "seen": wyrm.Bags.from_lists([EVERYTHING] * 4)}
    assert wyrm.fit(loss, feed, SGD(0.01, [table]))[0].skipped == 2
    assert (wyrm.evaluate(loss, feed)[:, 0, 0] == 0).tolist() == [True, False, True, False]


def test_one_of_two_samples_without_rows_is_enough():
    table = wyrm.ParameterNode(np.ones((ROWS, 1)), dtype="float64")
    one, two = wyrm.BagInputNode(), wyrm.BagInputNode()
    samples = [table.index(wyrm.SampledIndexNode(ROWS, exclude=bag, seed=3)) for bag in (one, two)]
    loss = (samples[0] * samples[1]).square()
    feed = {one: wyrm.Bags.from_lists([EVERYTHING, [0], [0]]), two: wyrm.Bags.from_lists([[0], EVERYTHING, [0]])}
    assert wyrm.fit(loss, feed, SGD(0.01, [table]))[0].skipped == 2
    assert (wyrm.evaluate(loss, feed)[:, 0, 0] == 0).tolist() == [True, True, False]
