"""Evaluations of little data, which are found again: always the values that one made anew gives, and nothing is kept alive."""

import gc
import threading
import weakref

import numpy as np
import pytest

import wyrm
from wyrm import Bags
from wyrm.frontend.recent import Recent
from wyrm.optim import SGD
from wyrm.training import evaluation


def anew(nodes, feed, **options):
    """What an evaluation gives that nobody has made before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_KEPT", Recent())
        return wyrm.evaluate(nodes, feed, **options)


def model(rng, dtype="float32"):
    table = wyrm.ParameterNode(rng.standard_normal((20, 3)), dtype=dtype, name="table")
    word, words, x = wyrm.IndexInputNode(name="word"), wyrm.BagInputNode(1), wyrm.InputNode((1, 3), dtype=dtype)
    scale = wyrm.InputNode((1, 1), 2.0, constant=True, dtype=dtype)
    score = (table.index(word) + table.index_sum(words) * scale + x).tanh()
    return table, word, words, x, scale, score


def feeds(rng, word, words, x):
    """Of several lengths and dtypes, one after the other; bags become longer and shorter."""
    for count, longest, kind, dtype in (
        (1, 3, np.int64, np.float32),
        (1, 30, np.int64, np.float32),
        (1, 900, np.int32, np.float64),
        (1, 0, np.int64, np.float32),
        (5, 3, np.int64, np.float32),
        (1, 30, np.int64, np.float32),
    ):
        lists = [rng.integers(0, 20, int(rng.integers(0, longest + 1))) for _ in range(count)]
        weights = [rng.random(len(numbers)) for numbers in lists] if longest % 2 else None
        yield {
            word: rng.integers(0, 20, count).astype(kind),
            words: Bags.from_lists(lists, weights),
            x: rng.random((count, 3)).astype(dtype),
        }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_those_of_an_evaluation_made_anew(backend, rng, dtype):
    table, word, words, x, scale, score = model(rng, dtype)
    found = made = None
    for repetition in range(3):
        for n, feed in enumerate(feeds(rng, word, words, x)):
            if n == 2:
                table.set_value(rng.standard_normal((20, 3)))
            if n == 3:
                scale.set_value(float(repetition))
            found = wyrm.evaluate([score, score + 1.0], feed)
            made = anew([score, score + 1.0], feed)
            np.testing.assert_array_equal(found, made)
            alone = wyrm.evaluate(score, feed)
            np.testing.assert_array_equal(alone, anew(score, feed))
    assert len(evaluation._KEPT) > 1


def test_the_second_call_binds_nothing(monkeypatch, rng):
    _, word, words, x, _, score = model(rng)
    feed = {word: [1], words: [[1, 2]], x: np.ones((1, 3))}
    first = wyrm.evaluate(score, feed)
    monkeypatch.setattr("wyrm.training.evaluation._Evaluation.__init__", None)
    np.testing.assert_array_equal(wyrm.evaluate(score, feed), first)
    other = wyrm.evaluate(score, {word: [2], words: [[5] * 60], x: np.zeros((1, 3))})
    assert not np.array_equal(first, other)
    with pytest.raises(TypeError):
        wyrm.evaluate(score, {word: [2, 3], words: [[5], [6]], x: np.zeros((2, 3))})


def test_wrong_data_are_refused_and_change_nothing(backend, rng):
    _, word, words, x, _, score = model(rng)
    right = {word: [1], words: [[1, 2]], x: np.ones((1, 3))}
    first = wyrm.evaluate(score, right)
    for wrong, kind, pattern in (
        ({word: [20]}, wyrm.OutOfRangeError, "example 0.* holds 20"),
        ({word: [-1]}, wyrm.OutOfRangeError, "holds -1"),
        ({words: [[3, 20]]}, wyrm.OutOfRangeError, "holds 20"),
        ({x: np.array([[1.0, np.nan, 1.0]])}, wyrm.FeedError, "NaN"),
        ({x: np.ones((1, 4))}, wyrm.FeedError, "shape"),
        ({word: [1, 2]}, wyrm.FeedError, "same number"),
    ):
        with pytest.raises(kind, match=pattern):
            wyrm.evaluate(score, {**right, **wrong})
        np.testing.assert_array_equal(wyrm.evaluate(score, right), first)
    y = wyrm.InputNode((1, 1))
    loss = wyrm.nn.losses.binary_cross_entropy(score.sum(1), y)
    wyrm.evaluate(loss, {**right, y: [1.0]})
    with pytest.raises(wyrm.LabelError):
        wyrm.evaluate(loss, {**right, y: [3.0]})


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"weight_decay": 0.1}, {}])
def test_rows_that_training_leaves_behind(backend, rng, options):
    """An optimizer may begin to leave rows behind after an evaluation, and go on doing so."""
    table, word, words, x, _, score = model(rng, "float64")
    feed = {word: [1], words: [[4, 2]], x: np.ones((1, 3))}
    before = wyrm.evaluate(score, feed)
    optimizer = SGD(0.1, [table], **options)
    trained = {word: np.array([3, 1, 5, 6]), words: [[7], [8], [], [9]], x: np.ones((4, 3))}
    for _ in range(3):
        wyrm.fit(score.square().scalar_sum(), trained, optimizer, seed=0)
        found = wyrm.evaluate(score, feed)
        np.testing.assert_array_equal(found, anew(score, feed))
        assert not np.array_equal(found, before)
        for node, value in ((word, 3), (words, [2]), (x, np.ones((1, 3)))):
            node.set_value(value)
        loss = score.square().scalar_sum()
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
        np.testing.assert_array_equal(wyrm.evaluate(score, feed), anew(score, feed))


def test_values_are_the_callers(rng):
    _, word, words, x, _, score = model(rng)
    first = wyrm.evaluate(score, {word: [1], words: [[1, 2]], x: np.ones((1, 3))})
    before = first.copy()
    second = wyrm.evaluate(score, {word: [2], words: [[1, 2]], x: np.zeros((1, 3))})
    np.testing.assert_array_equal(first, before)
    first[...] = 7.0
    np.testing.assert_array_equal(second, wyrm.evaluate(score, {word: [2], words: [[1, 2]], x: np.zeros((1, 3))}))


def test_what_is_drawn_is_the_same_again(backend):
    table = wyrm.ParameterNode(np.arange(50.0).reshape(50, 1))
    y = wyrm.InputNode((1, 1))
    drawn = table.index(wyrm.SampledIndexNode(50, seed=3)) + y.dropout(0.5)
    first = wyrm.evaluate(drawn, {y: [1.0]})
    np.testing.assert_array_equal(wyrm.evaluate(drawn, {y: [1.0]}), first)


def test_kept_go_with_their_node(rng):
    gc.collect()
    gc.disable()
    try:
        table, word, words, x, scale, score = model(rng)
        wyrm.evaluate(score, {word: [1], words: [[1, 2]], x: np.ones((1, 3))})
        gone = weakref.ref(score), weakref.ref(table.storage)
        del table, word, words, x, scale, score
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_threads_evaluate_one_node(backend, rng):
    _, word, words, x, _, score = model(rng)
    data = [{word: [n], words: [[n] * n], x: np.full((1, 3), 0.1)} for n in range(20)]
    expected = [anew(score, feed) for feed in data]
    wrong = []

    def work():
        for n in list(range(20)) * 5:
            if not np.array_equal(wyrm.evaluate(score, data[n], backend=backend), expected[n]):
                wrong.append(n)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
