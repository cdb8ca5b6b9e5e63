"""Feeds by names: of inputs, of arguments, and of the columns of data frames."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD


class Frame:
    """A table as pandas and Polars have them."""

    def __init__(self, columns):
        self.of, self.columns = dict(columns), list(columns)

    def __getitem__(self, name):
        return self.of[name]

    def __iter__(self):  # over the names, as pandas does
        return iter(self.columns)


def frames():
    yield Frame
    for library in ("pandas", "polars"):
        try:
            yield __import__(library).DataFrame
        except ImportError:
            continue


FRAMES = pytest.mark.parametrize("frame", [*frames()], ids=lambda make: make.__module__)


def model():
    """Factorization with a bag of features."""
    users = wyrm.ParameterNode(np.arange(8.0).reshape(4, 2) / 10, name="users")
    tags = wyrm.ParameterNode(np.ones((5, 2)), name="tags")
    user, bag, rating = wyrm.IndexInputNode(name="user"), wyrm.BagInputNode(name="tags"), wyrm.InputNode((1, 1), name="rating")

    def loss(user, tags_of, rating):
        return (users.index(user).vector_dot(tags.index_sum(tags_of)) - rating).square()

    return [users, tags], (user, bag, rating), loss


DATA = {"user": [3, 0, 1], "tags": [[0, 4], [], [2]], "rating": [1.0, 2.5, 0.5]}


def trained(by_function, feed, **options):
    parameters, inputs, loss = model()
    if by_function:
        found = wyrm.fit(lambda user, tags, rating: loss(user, tags, rating), feed, SGD(0.1, parameters), seed=1, **options)
    else:
        node = loss(*inputs)
        found = wyrm.fit(node, feed(inputs) if callable(feed) else feed, SGD(0.1, parameters), seed=1, **options)
    return [p.value.copy() for p in parameters], found


@FRAMES
def test_a_data_frame_is_a_feed(backend, frame):
    right, _ = trained(False, lambda inputs: dict(zip(inputs, DATA.values(), strict=True)))
    table = frame(DATA)
    as_arguments = Frame({"user": table["user"], "tags": wyrm.Bags.of(table["tags"]), "rating": table["rating"]})
    for by_function, feed in ((False, table), (True, as_arguments)):
        found, history = trained(by_function, feed, validation=feed, num_epochs=2)
        assert history[1].metrics["validation_loss"] < history[0].loss
        found, _ = trained(by_function, [feed, feed])  # a stream of two
        once, _ = trained(by_function, feed)
        for a, b, c in zip(once, right, found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
            assert not np.array_equal(a, c)
    _, inputs, loss = model()
    values = wyrm.evaluate(loss(*inputs), table)
    np.testing.assert_array_equal(values, wyrm.evaluate(loss(*inputs), dict(zip(inputs, DATA.values(), strict=True))))


@FRAMES
def test_data_frames_have_the_columns_that_a_model_takes(frame):
    more = frame({**DATA, "when": [1.0, 2.0, 3.0]})
    with pytest.raises(wyrm.FeedError, match=r"'when' is not an input.*choose the columns: frame\[\["):
        trained(False, more)
    with pytest.raises(wyrm.FeedError, match=r"'when' unexpected.*choose the columns"):
        trained(True, more)
    with pytest.raises(wyrm.FeedError, match="InputNode 'rating' is an input .* missing"):
        trained(False, frame({name: DATA[name] for name in ("user", "tags")}))


def test_columns_without_names_of_their_own():
    for columns in ([0, 1], [("a", "b")]):
        table = Frame({name: [1.0] for name in columns})
        with pytest.raises(wyrm.FeedError, match="columns of a Frame go by their names; .* no string"):
            wyrm.evaluate(lambda x: x, table)
    double = Frame({"x": [1.0]})
    double.columns = ["x", "x"]
    with pytest.raises(wyrm.FeedError, match="'x' is no string, or the name of several"):
        wyrm.evaluate(lambda x: x, double)


def test_columns_of_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table, index = wyrm.ParameterNode(np.arange(4.0).reshape(4, 1)), wyrm.IndexInputNode(name="row")
    x = wyrm.InputNode((1, 1), name="x")
    rows, numbers = table.index(index), x * 2
    for column in (
        pandas.Series([3, 0], dtype="Int64"),
        pandas.Series([3, 0], dtype="uint8", index=[7, 5]),
        pandas.Series([3.0, 0.0]),
        pandas.Series(["c", "a"], dtype=pandas.CategoricalDtype(["a", "b", "_", "c"])).cat.codes,
    ):
        assert wyrm.evaluate(rows, {"row": column}, backend="reference").ravel().tolist() == [3, 0]
    for column in (pandas.Series([1.5, 2], dtype="Float32"), pandas.Series([1.5, 2.0])):
        assert wyrm.evaluate(numbers, {"x": column}, backend="reference").ravel().tolist() == [3, 4]
    assert wyrm.evaluate(numbers, {"x": pandas.Series([True, False], dtype="boolean")}).ravel().tolist() == [2, 0]
    for column, pattern in (
        (pandas.Series([1, None], dtype="Int64"), "missing"),
        (pandas.Series([1, None]), "nan, which stands for a missing value"),
        (pandas.Series(["a", "b"]), "numbered first"),
        (pandas.Series(["a", "b"], dtype="category"), r"\.cat\.codes"),
        (pandas.Series([2, 1], dtype="category"), r"\.cat\.codes"),
        (pandas.to_datetime(pandas.Series(["2020-01-01", "2021-01-01"])), "dates and durations"),
    ):
        with pytest.raises(wyrm.DTypeError, match=f"'row'.*{pattern}"):
            wyrm.evaluate(rows, {"row": column}, backend="reference")
    missing = pandas.Series(["a", None], dtype="category").cat.codes
    with pytest.raises(wyrm.OutOfRangeError, match="example 1.*holds -1"):
        wyrm.evaluate(rows, {"row": missing}, backend="reference")
    with pytest.raises((wyrm.FeedError, wyrm.DTypeError), match="'x'.*(NaN|missing)"):
        wyrm.evaluate(numbers, {"x": pandas.Series([1.5, None], dtype="Float64")}, backend="reference")


def test_inputs_go_by_their_names(backend):
    right, _ = trained(False, lambda inputs: dict(zip(inputs, DATA.values(), strict=True)))
    for feed in (
        DATA,
        lambda inputs: {inputs[0]: DATA["user"], "tags": DATA["tags"], inputs[2]: DATA["rating"]},
        {np.str_(name): values for name, values in DATA.items()},
    ):
        found, _ = trained(False, feed)
        for a, b in zip(found, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_names_of_inputs_that_do_not_fit():
    w = wyrm.ParameterNode(1.0, name="w")
    rating, other = wyrm.InputNode((1, 1), name="rating"), wyrm.InputNode((1, 1), name="user age")
    kept = wyrm.InputNode((1, 1), 3.0, name="kept", constant=True)
    nameless = wyrm.InputNode((1, 1))
    node = w * rating + other + kept
    good = {"rating": [1.0], "user age": [2.0]}
    assert wyrm.evaluate(node, good, backend="reference") == 6
    assert wyrm.evaluate(node, {**good, "kept": [5.0]}, backend="reference") == 8
    for feed, pattern in (
        ({**good, "ratings": [1.0]}, "'ratings' is not an input.*its inputs are InputNode 'rating'.*is 'rating' meant"),
        ({**good, "w": [1.0]}, "'w' is not an input"),
        ({**good, rating: [1.0]}, "InputNode 'rating' twice, by the node and by its name"),
        ({**good, 3: [1.0]}, "3 is not an input"),
        ({**good, None: [1.0]}, "None is not an input"),
        ({"rating": [1.0]}, "'user age' is an input .* missing"),
    ):
        with pytest.raises(wyrm.FeedError, match=pattern):
            wyrm.evaluate(node, feed, backend="reference")
    twin = wyrm.InputNode((1, 1), name="rating")
    with pytest.raises(wyrm.FeedError, match="2 inputs .* have the name 'rating'; feed them by their nodes"):
        wyrm.evaluate(node + twin, good, backend="reference")
    both = wyrm.evaluate(node + twin, {rating: [1.0], twin: [4.0], "user age": [2.0]}, backend="reference")
    assert both == 10
    assert wyrm.evaluate(node + nameless, {**good, nameless: [1.0]}, backend="reference") == 7


@pytest.mark.parametrize(
    ("weights", "kind", "pattern"),
    [
        ([1.0], wyrm.FeedError, "2 for 'x', 1 for weights"),
        (2.0, wyrm.FeedError, "one number for each example.*got 2.0"),
        ([1.0, np.nan], wyrm.FeedError, "weights: example 1 holds NaN"),
        ([[1.0, 2.0]], wyrm.FeedError, "one number for each example"),
        ("balanced", wyrm.DTypeError, "^weights: expected real numbers, got str"),
        ({0: 1.0}, wyrm.DTypeError, "^weights: .*dict"),
    ],
)
def test_weights_of_examples_that_do_not_fit(weights, kind, pattern):
    w = wyrm.ParameterNode(0.0)
    with pytest.raises(kind, match=pattern):
        wyrm.fit(lambda x: (w * x).square(), {"x": [1.0, 2.0]}, SGD(0.1, [w]), weights=weights, backend="reference")
