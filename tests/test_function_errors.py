"""Models given as functions, and feeds for them, that are no good: an error before training starts, and nothing has changed."""

import re

import numpy as np
import pytest

import wyrm
from wyrm import Ragged
from wyrm.optim import SGD

TABLE = wyrm.ParameterNode(np.ones((5, 1)), name="table")


def score(words, target, scale=None):
    return (sum(TABLE.index(word) for word in words) - target).square()


def good():
    return {"words": Ragged.of([[0, 1], [2], [4, 4]]), "target": [1.0, 2.0, 3.0]}


def fit(loss=score, feed=None, **options):
    feed = good() if feed is None else feed
    return wyrm.fit(loss, feed, SGD(0.1, [TABLE]), backend="reference", **options)


@pytest.fixture(autouse=True)
def _untouched():
    before = TABLE.value.copy()
    yield
    np.testing.assert_array_equal(TABLE.value, before)


@pytest.mark.parametrize(
    ("change", "kind", "pattern"),
    [
        ({"target": [1.0, 2.0]}, wyrm.FeedError, "same number of examples, got 3 for 'words', 2 for 'target'"),
        ({"target": None}, wyrm.FeedError, "do not fit 'score', which takes 'words', 'target', 'scale': 'target' missing"),
        ({"size": [1, 2, 3]}, wyrm.FeedError, "'size' unexpected"),
        ({"words": Ragged.of([]), "target": []}, wyrm.FeedError, "no examples"),
        (
            {"words": Ragged.of([[0, 1], [2], [4, 5]])},
            wyrm.OutOfRangeError,
            "'words': example 2, position 1 holds 5; .*below 5",
        ),
        ({"words": Ragged.of([[0, 1], [-1], [4, 4]])}, wyrm.OutOfRangeError, "'words': example 1, position 0 holds -1"),
        (
            {"words": Ragged([9, 0, 1, 2, 4, 4], [1, 3, 4, 6]), "target": [1, 2, np.nan]},
            wyrm.FeedError,
            "'target': example 2 holds NaN",
        ),
        ({"words": Ragged.of([[0.5], [1.0, np.nan], [2.0]])}, wyrm.FeedError, "'words': example 1, position 1 holds NaN"),
        ({"words": Ragged.of([[0.5], [], [np.nan]])}, wyrm.FeedError, "'words': example 2, position 0 holds NaN"),
        (
            {"words": Ragged([np.nan, 0.5, 1.0, 2.0, np.nan], [1, 2, 3, 5])},
            wyrm.FeedError,
            "'words': example 2, position 1 holds NaN",
        ),
        ({"words": Ragged.of([[0.5], [1.0], [2.0]])}, wyrm.DTypeError, "index"),
        ({"words": [[0, 1], [2], [4, 4]]}, wyrm.DTypeError, "(?s)'words'.*Ragged.of"),
        ({"target": ["a", "b", "c"]}, wyrm.DTypeError, "'target': expected real numbers"),
        ({"target": np.ones((3, 1, 1, 1))}, wyrm.FeedError, r"'target'.*\(3, 1, 1, 1\)"),
        ({"target": 1.0}, wyrm.FeedError, r"'target'.*shape \(\)"),
        ({3: [1, 2, 3]}, wyrm.FeedError, "is the function 'score', so data go by argument names; got 3"),
        ({wyrm.InputNode((1, 1), name="x"): [1, 2, 3]}, wyrm.FeedError, "argument names; got InputNode 'x'"),
    ],
)
def test_bad_feeds(change, kind, pattern):
    feed = {name: data for name, data in {**good(), **change}.items() if data is not None}
    with pytest.raises(kind, match=pattern):
        fit(feed=feed)


def test_no_mapping_and_no_data():
    for feed in (5, None, np.float64(1)):
        with pytest.raises(wyrm.FeedError, match="argument names of 'score' to data"):
            wyrm.fit(score, feed, SGD(0.1, [TABLE]))
    with pytest.raises(wyrm.FeedError, match="data for the arguments of .*lambda"):
        fit(lambda: TABLE.scalar_sum(), {})
    with pytest.raises(wyrm.FeedError, match="'x' by position only"):
        fit(eval("lambda x, /: x"), {"x": [1.0]})


def test_any_arguments():
    def by_name(**arguments):
        assert set(arguments) == {"words", "target"}
        return score(**arguments)

    with pytest.raises(wyrm.NotFiniteError):
        fit(by_name, {**good(), "target": [np.inf] * 3})


def test_bags_outside_the_table():
    bags = wyrm.Bags([7, 1, 2, 9], [0, 1, 2, 2, 4]).take([1, 2, 3])  # 7 is in none of them
    with pytest.raises(wyrm.OutOfRangeError, match="'bag': example 2, bag 0, place 1 holds 9"):
        fit(lambda bag: TABLE.index_sum(bag), {"bag": bags})


def test_only_the_examples_of_a_structure_are_checked_against_its_tables():
    """A position beyond the first is never looked up in the small table."""
    large = wyrm.ParameterNode(np.ones((9, 1)))

    def loss(words):
        return (TABLE if len(words) == 1 else large).index(words[0])

    with pytest.raises(wyrm.OutOfRangeError, match="'words': example 2, position 0 holds 6"):
        fit(loss, {"words": Ragged.of([[8, 0], [1], [6], [8, 0]])})
    wyrm.evaluate(loss, {"words": Ragged.of([[8, 0], [1], [8, 0]])}, backend="reference")


@pytest.mark.parametrize(
    ("read", "label"),
    [
        (lambda words, target: target.value, "InputNode 'target'"),
        (lambda words, target: words[1].value, re.escape("IndexInputNode 'words[1]'")),
        (lambda words, target: (target * 2.0).value, "multiply"),
        (lambda words, target: (target * 2.0).forward(), "multiply"),
        (lambda words, target: score(words, target).backward(), "square"),
        (lambda words, target: TABLE.value, "ParameterNode 'table'"),
    ],
)
def test_values_cannot_be_read_while_a_function_is_traced(read, label):
    def loss(words, target):
        read(words, target)
        return score(words, target)

    feed = {"words": Ragged.of([[0, 1], [2, 1]]), "target": [1.0, 2.0]}
    with pytest.raises(wyrm.MissingValueError, match=rf"{label}.* wyrm.fit traces the function .*once for each structure"):
        fit(loss, feed)
    with pytest.raises(wyrm.MissingValueError, match="wyrm.evaluate traces the function"):
        wyrm.evaluate(loss, feed)
    assert TABLE.value.shape == (5, 1)  # afterwards it can be read again


def test_values_of_bags():
    with pytest.raises(wyrm.MissingValueError, match="BagInputNode 'bag' has no value.*example"):
        fit(lambda bag: TABLE.index_sum(bag) * len(bag.value), {"bag": wyrm.Bags.from_lists([[1]])})


def test_graphs_beside_a_traced_one_are_their_own():
    """What is open when a function is traced is not closed by it, and goes on."""
    x = wyrm.InputNode((1, 1), 2.0)
    wyrm.evaluate(lambda y: y * 1.0, {"y": [1.0]}, backend="reference")
    y = wyrm.InputNode((1, 1), 3.0)
    assert x._graph is y._graph
    assert (x * y).value == 6


def test_parameters_are_made_outside():
    for make in (
        lambda: wyrm.ParameterNode(1.0),
        lambda: wyrm.ParameterNode.shared(wyrm.HogwildParameter(1.0)),
        lambda: wyrm.nn.Linear(1, 1).weights,
    ):
        with pytest.raises(wyrm.OptionError, match="made inside would be another one.*make it outside"):
            fit(lambda words, target, make=make: score(words, target * make()))
    TABLE.storage  # noqa: B018 - another node over the same storage is the same parameter
    wyrm.evaluate(lambda w: wyrm.ParameterNode.shared(TABLE.storage).index(w), {"w": [1]}, backend="reference")


@pytest.mark.parametrize(
    ("loss", "kind", "pattern"),
    [
        (lambda words, target: None, wyrm.DTypeError, "to return a loss, a node of shape .* got None"),
        (lambda words, target: 5.0, wyrm.DTypeError, "got 5.0"),
        (lambda words, target: words[0], wyrm.ShapeError, "expected a loss"),
        (lambda words, target: TABLE.t() * target, wyrm.ShapeError, r"\(1, 5\).*\.sum\(axis=1\)"),
        (lambda words, target: TABLE.dot(TABLE), wyrm.ShapeError, r"words of length 1, that of example 1"),
        (lambda words, target: target * 2.0, wyrm.OptionError, "no optimizer has a parameter"),
        (
            lambda words, target: wyrm.InputNode((1, 1), name="mine") * TABLE.index(words[0]),
            wyrm.FeedError,
            "'mine'.*no argument stands for",
        ),
        (
            lambda words, target: target.set_value(1.0) or score(words, target),
            wyrm.OptionError,
            "sets the value of InputNode 'target'",
        ),
        (7, wyrm.ShapeError, "or a function that returns one, got 7"),
    ],
)
def test_bad_losses(loss, kind, pattern):
    with pytest.raises(kind, match=pattern):
        fit(loss)


def test_empty_sequences():
    feed = {"words": Ragged.of([[0], [], [1]]), "target": [1.0, 2.0, 3.0]}
    with pytest.raises(
        wyrm.FeedError, match="cannot take a sequence without entries: IndexError.*words of length 0.*example 1"
    ):
        fit(lambda words, target: TABLE.index(words[-1]) * target, feed)
    layer = wyrm.nn.EWMA(1)
    with pytest.raises(wyrm.OptionError, match="at least one input.*words of length 0.*example 1"):
        fit(lambda words, target: layer.forward([TABLE.index(w) for w in words])[-1] * target, feed)
    found = wyrm.evaluate(lambda words, target: target * float(len(words)), feed, backend="reference")
    np.testing.assert_array_equal(found[:, 0, 0], [1, 0, 3])


def test_errors_of_the_function_itself_pass():
    def loss(words, target):
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        fit(loss)
    assert not hasattr(caught.value, "__notes__") or "words of length 1" in caught.value.__notes__[0]


@pytest.mark.parametrize("name", ["rows", "batch_size", "num_threads"])
def test_options(name):
    for value, kind in ((0, wyrm.OptionError), (-1, wyrm.OptionError), (1.5, wyrm.DTypeError), (True, wyrm.DTypeError)):
        with pytest.raises(kind, match=name):
            fit(**{name: value})
        if name != "batch_size":
            with pytest.raises(kind, match=name):
                wyrm.evaluate(score, good(), **{name: value})


@pytest.mark.parametrize("reduction", ["max", None, "none"])
def test_reductions(reduction):
    with pytest.raises(wyrm.OptionError, match=r"reduction to be 'mean' or 'sum'"):
        fit(reduction=reduction)


def test_rows_and_weights():
    x = wyrm.InputNode((1, 1))
    with pytest.raises(wyrm.OptionError, match="rows needs a model given as a function"):
        fit(TABLE.scalar_sum() * x, {x: [1.0]}, rows=2)
    with pytest.raises(wyrm.OptionError, match="rows needs a model given as a function"):
        wyrm.evaluate(x * 1.0, {x: [1.0]}, rows=2)
    equal = {"words": Ragged.of([[0], [1], [2]]), "target": [1.0, 2.0, 3.0]}
    for reduced in (wyrm.Node.scalar_sum, wyrm.Node.mean):
        with pytest.raises(wyrm.ShapeError, match=r"for a run of 2 examples.*sum or their mean.*reduction='sum'"):
            fit(lambda words, target, reduced=reduced: reduced(score(words, target)), equal, rows=2)
    with pytest.raises(wyrm.ShapeError, match=r"as many rows for each of the 2 examples.*\(3, 1\)"):
        fit(lambda words, target: wyrm.stack([score(words, target), TABLE.index(words[0])[:1]], axis=0), equal, rows=2)
    with pytest.raises(wyrm.ShapeError, match=r"with weights.*expected a row for each example"):
        fit(lambda words, target: score(words, target).scalar_sum(), equal, rows=2, weights=[1, 2, 3], reduction="sum")
    for weights, pattern in (
        ([1.0, 2.0], "2 for weights"),
        ([1.0, np.nan, 1], "weights.*NaN"),
        (np.ones((3, 2)), "one number for each"),
    ):
        with pytest.raises(wyrm.FeedError, match=pattern):
            fit(weights=weights)
    with pytest.raises(wyrm.ShapeError, match=r"as many rows for each.*<sum \(1, 1\)>"):
        wyrm.evaluate(lambda words: TABLE.index(words[0]).scalar_sum(), {"words": equal["words"]}, rows=3)


def test_evaluate_needs_one_shape():
    with pytest.raises(wyrm.ShapeError, match=r"shape \(1, 1\) for example 1, and shape \(2, 1\) for example 0"):
        wyrm.evaluate(lambda words: wyrm.stack([TABLE.index(w) for w in words], axis=0), {"words": good()["words"]})
    with pytest.raises(wyrm.DTypeError, match="to be a node or several"):
        wyrm.evaluate(lambda words: [], {"words": good()["words"]})
    with pytest.raises(wyrm.DTypeError, match="holds row numbers"):
        wyrm.evaluate(lambda words: words[0], {"words": good()["words"]})
    with pytest.raises(wyrm.DTypeError, match="dtype must be float32 or float64"):
        wyrm.evaluate(lambda words: words[0], {"words": good()["words"]}, dtype="int32")


def test_a_warning_where_structures_never_repeat(recwarn):
    feed = {"words": Ragged.of([[0] * n for n in range(1, 7)]), "target": np.ones(6)}
    with pytest.warns(RuntimeWarning, match="'score' for 6 structures, which never repeat"):
        wyrm.evaluate(score, feed, backend="reference")
    recwarn.clear()
    wyrm.evaluate(score, {"words": Ragged.of([[0], [1, 2], [0]]), "target": np.ones(3)}, backend="reference")
    assert not recwarn.list


def test_ragged_data_need_a_function():
    index = wyrm.IndexInputNode()
    with pytest.raises(wyrm.FeedError, match="sequences of any length need a model given as a function"):
        wyrm.evaluate(TABLE.index(index), {index: Ragged.of([[1], [2]])})


def test_validation_is_checked_before_training():
    for held_out, kind in (({**good(), "target": [np.nan] * 3}, wyrm.FeedError), ({}, wyrm.FeedError), (5, wyrm.FeedError)):
        with pytest.raises(kind):
            fit(validation=held_out)


def test_a_column_of_lists_is_wrapped():
    """A function cannot know whether lists are bags, indices or sequences; the message says how to tell it."""
    pandas = pytest.importorskip("pandas")
    table = wyrm.ParameterNode([[1.0], [10.0], [100.0]])
    frame = pandas.DataFrame({"words": [[0], [1, 2]]})

    def model(words):
        return table.index_sum(words)

    with pytest.raises(wyrm.DTypeError, match=r"'words'.*part\. Sequences .*wyrm.Ragged.of, bags in wyrm.Bags.of"):
        wyrm.evaluate(model, frame, backend="reference")
    found = wyrm.evaluate(model, {"words": wyrm.Bags.of(frame["words"])}, backend="reference")
    assert found.ravel().tolist() == [1, 110]
