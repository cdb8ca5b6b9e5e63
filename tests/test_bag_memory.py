"""Bags that are set from Python, by every way in; what cannot be changed behind native code; numbers at any address."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import wyrm
from wyrm import Bags
from wyrm.frontend.bag_inputs import BagInputNode
from wyrm.memory import BagSource
from wyrm.optim import SGD

ROWS = 200
FORMS = {
    "list": list,
    "list of lists": lambda numbers: [list(numbers)],
    "NumPy's numbers": lambda numbers: [np.int32(n) for n in numbers],
    "tuple": tuple,
    "int64": lambda numbers: np.array(numbers, np.int64),
    "int32": lambda numbers: np.array(numbers, np.int32),
    "uint8": lambda numbers: np.array(numbers, np.uint8),
    "uint64": lambda numbers: np.array(numbers, np.uint64),
    "other byte order": lambda numbers: np.array(numbers, ">i4"),
    "with gaps": lambda numbers: np.repeat(np.array(numbers, np.int64), 3)[::3],
    "array in a list": lambda numbers: [np.array(numbers, np.int64)],
    "Bags": lambda numbers: Bags(np.array(numbers, np.int64), [0, len(numbers)]),
    "Bags out of several": lambda numbers: Bags.from_lists([[7, 7], numbers, [1]]).take([1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_bag_is_what_it_was_set_to(backend, rng, form):
    """Of all lengths, one after the other, with weights in between; so memory grows and is used again."""
    table = wyrm.ParameterNode(rng.standard_normal((ROWS, 1)), dtype="float64")
    bag = wyrm.BagInputNode(1)
    pooled = table.index_sum(bag)
    for length in (0, 1, 30, 2, 63, 64, 10_000, 0, 5):
        numbers = rng.integers(0, ROWS, length).tolist()
        bag.set_value(FORMS[form](numbers))
        assert bag.value.to_lists() == [numbers]
        assert bag.value.weights is None
        pooled.forward()
        np.testing.assert_allclose(pooled.value, [[table.value[numbers].sum()]], rtol=1e-9, atol=1e-9)
        weights = rng.standard_normal(length)
        bag.set_value(Bags(np.array(numbers, np.int64), [0, length], weights.astype(np.float32)))
        assert bag.value.weights.tolist() == weights.astype(np.float32).tolist()
        pooled.forward()
        expected = (table.value[numbers, 0] * weights.astype(np.float32)).sum()
        np.testing.assert_allclose(pooled.value, [[expected]], rtol=1e-9, atol=1e-9)


def test_several_bags_are_what_they_were_set_to(backend, rng):
    table = wyrm.ParameterNode(rng.standard_normal((ROWS, 2)), dtype="float64")
    bag = wyrm.BagInputNode(3)
    pooled = table.index_sum(bag)
    for longest in (0, 4, 300, 3):
        lists = [rng.integers(0, ROWS, int(rng.integers(0, longest + 1))).tolist() for _ in range(3)]
        for value in (lists, [np.array(numbers, np.int32) for numbers in lists], Bags.from_lists(lists)):
            bag.set_value(value)
            assert bag.value.to_lists() == lists
            pooled.forward()
            np.testing.assert_allclose(pooled.value, [table.value[numbers].sum(0) for numbers in lists], atol=1e-9)


WRONG = {
    "negative": [3, -1, 2],
    "too large": [3, 2, ROWS],
    "far too large": [2**63 - 1],
    "beyond 64 bits": [1, 2**64],
    "between 63 and 64 bits": [2**63 + 1],
    "fractions": [1.5, 2.0],
    "NaN": [float("nan")],
    "booleans": [True, False],
    "text": ["a", "b"],
    "nothing": [None],
    "nested": [[[1]]],
    "array of negatives": np.array([0, -1]),
    "array too large": np.array([1, ROWS], np.uint8),
    "many, one too large": np.r_[np.zeros(100, np.int64), ROWS],
    "many, one negative": np.r_[np.zeros(100, np.int64), -5],
    "array of large ones": np.array([2**63 + 5], np.uint64),
    "array of booleans": np.array([True]),
    "array of fractions": np.array([0.5]),
    "matrix": np.zeros((2, 2), np.int64),
    "bags": Bags([1, ROWS], [0, 2]),
    "two bags": Bags([1, 2], [0, 1, 2]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_refused_changes_nothing(monkeypatch, wrong):
    """The error is the one that the thorough way gives; plain values take a shorter one."""
    table = wyrm.ParameterNode(np.ones((ROWS, 1)), name="table")
    bag = wyrm.BagInputNode(1, Bags([3, 4], [0, 2], [0.5, 2.0]), name="words")
    pooled = table.index_sum(bag)
    with pytest.raises(wyrm.WyrmError) as error:
        bag.set_value(WRONG[wrong])
    with monkeypatch.context() as patch:
        patch.setattr(BagInputNode, "_take", lambda self, value: False)
        with pytest.raises(type(error.value)) as thorough:
            bag.set_value(WRONG[wrong])
    assert str(error.value) == str(thorough.value)
    assert "words" in str(error.value)
    if isinstance(error.value, wyrm.OutOfRangeError):
        assert "table" in str(error.value) or "at least 0" in str(error.value)
    pooled.forward()
    assert pooled.value == [[2.5]]
    assert bag.value.to_lists() == [[3, 4]]


def test_whole_numbers_of_other_kinds_are_taken():
    bag = wyrm.BagInputNode(1)
    for value in ([1, True], [np.uint64(3), 2], (np.int8(4), 0)):
        bag.set_value(value)
        assert bag.value.to_lists() == [[int(n) for n in value]]


def test_passes_on_other_threads_find_memory_where_it_was():
    """Larger memory takes the place of what has become too small, and keeps it."""
    bag = wyrm.BagInputNode(1, [1, 2, 3])
    first = bag._source
    bag.set_value(list(range(1000)))
    assert bag._source is not first
    assert bag._source._previous is first
    held = bag._source
    for length in (5, 1000, 0, 2000):
        bag.set_value([1] * length)
        assert bag._source is held
    copied = bag.value
    bag.set_value([9])
    assert copied.to_lists() == [[1] * 2000]


# -- what native code relies on


def bags():
    return Bags(np.array([3, 1, 4, 1, 5]), np.array([0, 2, 2, 5]), np.ones(5))


def sequences():
    return wyrm.Ragged(np.array([3, 1, 4, 1, 5]), [0, 2, 5])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *itertools.product([bags], ["values", "begins", "ends", "weights"]),
        *itertools.product([sequences], ["values", "offsets"]),
    ],
)
def test_what_bags_and_sequences_hold_cannot_be_changed(make, name):
    held = make()
    before = getattr(held, name).tolist()
    with pytest.raises(AttributeError):
        setattr(held, name, np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="read-only"):
        getattr(held, name)[0] = 1
    if name in ("begins", "ends", "offsets"):  # nor by what stands behind
        base = getattr(held, name)
        while isinstance(base.base, np.ndarray):
            base = base.base
        with pytest.raises(ValueError, match="WRITEABLE"):
            base.flags.writeable = True
    getattr(held, name).shape = (-1, 1)
    getattr(held, name).dtype = np.int8
    assert getattr(held, name).tolist() == before
    for other in (copy.deepcopy(held), pickle.loads(pickle.dumps(held))):
        assert getattr(other, name).tolist() == before
        with pytest.raises(ValueError, match="read-only"):
            getattr(other, name)[0] = 1


def test_an_array_given_another_dtype_leaves_bags_as_they_were(backend):
    """The array is the user's; in place, its dtype and shape may be set, and then it seems to have other elements."""
    table, bag = wyrm.ParameterNode(np.arange(50.0).reshape(50, 1)), wyrm.BagInputNode(1)
    values, numbers = np.arange(40, dtype=np.int32), np.arange(40, dtype=np.int32)
    feed, entries = Bags(values, [0, 40]), wyrm.Ragged(numbers, [0, 2])
    values.dtype = numbers.dtype = np.int64
    assert wyrm.evaluate(table.index_sum(bag), {bag: feed}) == sum(range(40))
    bag.set_value(feed)
    assert table.index_sum(bag).value == sum(range(40))
    assert wyrm.evaluate(lambda words: table.index(words[0]) + table.index(words[1]), {"words": entries}) == 1


@pytest.mark.parametrize("place", [(-1, 2), (2, 1), (0, 6), (5, 6), (-(2**62), 2**62), (2**62, -(2**62))])
def test_bags_outside_of_their_values_are_not_read(backend, place):
    """Whatever a source says, each bag is looked at where it is read: in passes, and in runs of several bags."""
    table, bag = wyrm.ParameterNode(np.ones((9, 2))), wyrm.BagInputNode(2, [[1], [2, 3]])
    pooled = table.index_sum(bag)
    pooled.forward()
    values = np.arange(5)
    source = BagSource(values, np.array([0, place[0]]), np.array([1, place[1]]))
    bag._graph.leaves.set_bags(bag._number, source)
    with pytest.raises(wyrm.BackendError, match="status 5"):
        pooled.forward()
    feed = Bags(values, [0, 1, 5])
    feed._begins, feed._ends = source.begins, source.ends
    with pytest.raises(wyrm.BackendError, match="status 5"):
        wyrm.fit(pooled.scalar_sum(), {bag: feed}, SGD(0.1, [table]), batch_size=2, num_threads=1, num_epochs=2)


def unaligned(array):
    """The same numbers at an odd address."""
    room = np.zeros(array.nbytes + 1, np.uint8)
    moved = room[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_may_stand_at_any_address(backend, rng, dtype, index_dtype):
    """Single ones, several, bags and what is not to be drawn, gone through one by one and, by loops, in vectors."""
    name, count = np.dtype(dtype).name, 50
    table = wyrm.ParameterNode(rng.standard_normal((30, 3)), dtype=name)
    one, three, bag, x = wyrm.IndexInputNode(), wyrm.IndexInputNode(3), wyrm.BagInputNode(1), wyrm.InputNode((1, 3), dtype=name)
    y, seen = wyrm.InputNode((1, 1), dtype=name), wyrm.BagInputNode(1)
    drawn = table.index(wyrm.SampledIndexNode(30, exclude=seen, seed=1))
    rows = table.index(one) + table.index(three).sum(0) + table.index_sum(bag) + drawn + x
    loss = (rows.scalar_sum() - y).square()
    offsets = np.arange(0, 3 * count + 1, 3)
    feed = {
        one: rng.integers(0, 30, count).astype(index_dtype),
        three: rng.integers(0, 30, (count, 3)).astype(index_dtype),
        bag: Bags(rng.integers(0, 30, 3 * count).astype(index_dtype), offsets, rng.random(3 * count).astype(dtype)),
        seen: Bags(rng.integers(0, 30, 3 * count).astype(index_dtype), offsets),
        x: rng.random((count, 3)).astype(dtype),
        y: rng.random(count).astype(dtype),
    }

    def moved(data):
        if not isinstance(data, Bags):
            return unaligned(data)
        return Bags(unaligned(data.values), offsets, None if data.weights is None else unaligned(data.weights))

    short = (table.index(one).scalar_sum() - y).square()
    for trained, inputs in ((loss, list(feed)), (short, [one, y])):
        results, start = [], table.value.copy()
        for data in ({node: feed[node] for node in inputs}, {node: moved(feed[node]) for node in inputs}):
            table.set_value(start)
            wyrm.fit(trained, data, SGD(0.001, [table]), seed=0, num_threads=1)
            results.append(table.value.copy())
        assert not np.array_equal(results[0], start)
        np.testing.assert_array_equal(*results)


def test_empty_bags_of_a_parameter_without_any_row(backend):
    """There is no memory for rows, to which none are copied."""
    table, bag, y = wyrm.ParameterNode(np.ones((4, 1))), wyrm.BagInputNode(1, []), wyrm.InputNode((1, 1), 3.0)
    loss = (table.index_sum(bag) - y).square()
    loss.forward()
    loss.backward(1.0)
    assert len(table.gradient.rows) == 0
    wyrm.fit(loss, {bag: [[], []], y: [1.0, 2.0]}, SGD(0.1, [table]), seed=0)
    assert (table.value == 1).all()
