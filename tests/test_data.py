"""What feeds are made of: sequences, arrays in files, from other libraries, streams of chunks; and what is wrong with them."""

import decimal
import resource
import tracemalloc

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD
from wyrm.training.data import Dense, Ragged
from wyrm.training.reading import column_of


def table_model(rows=5, dtype="float32"):
    """The sum of rows of a table."""
    table = wyrm.ParameterNode(np.arange(float(rows)).reshape(rows, 1), name="table", dtype=dtype)

    def loss(words, target):
        return (sum(table.index(word) for word in words) - target).square()

    return table, loss


# -- kinds of data


def test_ragged():
    ragged = Ragged.of([[3, 1], [], np.array([4, 1, 5], np.uint8)])
    assert ragged.to_lists() == [[3, 1], [], [4, 1, 5]] and len(ragged) == 3
    assert ragged.lengths.tolist() == [2, 0, 3]
    assert Ragged.of(ragged) is ragged
    rows = Ragged.of([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]], []])
    assert rows.values.shape == (3, 2) and rows.offsets.tolist() == [0, 1, 3, 3]
    assert Ragged.of([[], []]).lengths.tolist() == [0, 0] and len(Ragged.of([])) == 0
    values = np.arange(6, dtype=np.int32)
    assert np.shares_memory(Ragged(values, [0, 6]).values, values)
    with pytest.raises(ValueError, match="read-only"):
        ragged.offsets[1] = 10**9


@pytest.mark.parametrize(
    ("make", "kind", "pattern"),
    [
        (lambda: Ragged([1, 2, 3], [0, 2, 1]), wyrm.ShapeError, "sequence 1 begins at 2 and ends at 1"),
        (lambda: Ragged([1, 2, 3], [0, 4]), wyrm.ShapeError, "within 0 and 3.*from 0 to 4"),
        (lambda: Ragged([1, 2, 3], [-1, 2]), wyrm.ShapeError, "from -1 to 2"),
        (lambda: Ragged([1, 2, 3], []), wyrm.ShapeError, "at least one offset"),
        (lambda: Ragged(np.zeros((2, 2, 2)), [0, 2]), wyrm.ShapeError, r"\(2, 2, 2\)"),
        (lambda: Ragged([1, 2], [0, 1.5]), wyrm.DTypeError, "whole row numbers, got 1.5"),
        (lambda: Ragged(["a"], [0, 1]), wyrm.DTypeError, "real numbers"),
        (lambda: Ragged.of([[1], [[2, 3]]]), wyrm.ShapeError, "one shape"),
        (lambda: Ragged.of([1, 2]), wyrm.ShapeError, "sequence 0 is no sequence"),
        (lambda: Ragged.of("words"), wyrm.DTypeError, "sequence of sequences, got str"),
        (lambda: Dense(["a"]), wyrm.DTypeError, "dense data"),
    ],
)
def test_bad_data(make, kind, pattern):
    with pytest.raises(kind, match=pattern):
        make()


def test_integers_are_indices_unless_dense(backend):
    found = {}

    def score(a, b, c):
        found.update(a=type(a), b=type(b), c=b.shape)
        return table.index(a) * b + c.scalar_sum()

    table = wyrm.ParameterNode([[1.0], [2.0], [4.0]])
    feed = {"a": np.array([2, 0], np.uint8), "b": Dense([10, 20]), "c": np.array([[[1, 2]], [[3, 4]]], bool)}
    np.testing.assert_array_equal(wyrm.evaluate(score, feed)[:, 0, 0], [42, 22])
    assert found == {"a": wyrm.IndexInputNode, "b": wyrm.InputNode, "c": (1, 1)}


class ByDLPack:
    """An array that can be had by DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries():
    values = np.array([1.0, 2.0, 4.0])
    assert np.shares_memory(column_of("x", ByDLPack(values)).rows, values)
    np.testing.assert_array_equal(
        wyrm.evaluate(lambda x: x * 2.0, {"x": ByDLPack(values)}, backend="reference")[:, 0, 0], [2, 4, 8]
    )

    class Elsewhere(ByDLPack):
        def __dlpack__(self, **options):
            raise BufferError("on another device")

    with pytest.raises(wyrm.DTypeError, match="another device"):
        column_of("x", Elsewhere(values))


def test_csr_matrices_in_functions(backend, rng):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(8, 6, 0.4, format="csr", random_state=1)
    w = wyrm.ParameterNode(rng.standard_normal((6, 2)), dtype="float64")
    for rows in (1, 3):
        found = wyrm.evaluate(lambda x: w.index_sum(x), {"x": matrix}, dtype="float64", rows=rows)
        np.testing.assert_allclose(found[:, 0], matrix @ w.value)
        np.testing.assert_allclose(
            wyrm.evaluate(lambda x: w.index_sum(x), {"x": matrix.tocoo()}, dtype="float64", rows=rows), found
        )


def test_files_are_never_copied_whole(backend, tmp_path):
    """Neither when they are checked nor when they are trained on or evaluated: 160 MB with a few."""
    data = np.memmap(tmp_path / "x.f32", np.float32, "w+", shape=(800, 50_000))
    data[:, 0] = 1
    rows, target = np.memmap(tmp_path / "r.i32", np.int32, "w+", shape=(800,)), np.ones(800)
    table = wyrm.ParameterNode(np.zeros((4, 1)))

    def loss(x, row, target):
        return (x.sum(axis=1) * table.index(row) - target).square()

    feed = {"x": data, "row": rows, "target": target}
    wyrm.fit(loss, {name: values[:4] for name, values in feed.items()}, SGD(0.1, [table]), num_threads=1)
    tracemalloc.start()
    wyrm.fit(loss, feed, SGD(0.1, [table]), rows=4, num_threads=1, validation=feed)
    wyrm.evaluate(loss, feed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6
    assert abs(table.value[0, 0] - 1) < 1e-3


def test_files_that_would_have_to_be_copied_are_refused(tmp_path):
    short = np.memmap(tmp_path / "x.f2", np.float16, "w+", shape=(8, 2))
    across = np.memmap(tmp_path / "x.f4", np.float32, "w+", shape=(8, 2), order="F")
    for data in (short, across, short[2:, 0]):
        with pytest.raises(wyrm.FeedError, match="'x': data in a file is read where it stands"):
            wyrm.evaluate(lambda x: x * 1.0, {"x": data}, backend="reference")
    x = wyrm.InputNode((1, 2), name="x")
    with pytest.raises(wyrm.FeedError, match="'x': data in a file"):
        wyrm.evaluate(x * 1.0, {x: across}, backend="reference")
    tokens = np.memmap(tmp_path / "x.i8", np.int64, "w+", shape=(100,))
    column = column_of("x", Ragged(tokens, [2, 5, 9]))
    assert np.shares_memory(column.source(1).array, tokens)
    np.testing.assert_array_equal(column.source(1).rows(slice(None)), tokens[[3, 6], None])


# -- streams


def chunks(rng, sizes, log=None):
    for size in sizes:
        if log is not None:
            log.append(size)
        words = [rng.integers(0, 5, rng.integers(1, 4)) for _ in range(size)]
        yield {"words": Ragged.of(words), "target": np.array([float(w.sum()) for w in words])}


def test_streams(backend, rng):
    """The same as a fit of each chunk, in turn; losses are those before each update, and functions are traced once."""
    sizes = [7, 1, 12]
    parts = list(chunks(rng, sizes))
    (streamed, loss), (apart, other) = table_model(dtype="float64"), table_model(dtype="float64")
    calls = []

    def counted(words, target):
        calls.append(len(words))
        return loss(words, target)

    log = []
    feed = (part for part in parts if log.append(part) is None)
    history = wyrm.fit(counted, feed, SGD(0.05, [streamed]), shuffle=False)
    assert len(history) == 1 and history[0].examples == 20 and len(log) == 3
    assert len(calls) == len(set(calls))
    total = 0.0
    for part, size in zip(parts, sizes, strict=True):
        total += size * wyrm.fit(other, part, SGD(0.05, [apart]), shuffle=False).losses[0]
    np.testing.assert_array_equal(streamed.value, apart.value)
    np.testing.assert_allclose(history.losses, [total / 20])


def test_a_list_of_chunks_can_be_gone_through_again(backend, rng):
    parts = list(chunks(rng, [30, 20]))
    results = []
    for seed in (1, 1, 2):
        table, loss = table_model()
        table.set_value(np.zeros((5, 1)))
        history = wyrm.fit(loss, parts, SGD(0.05, [table]), num_epochs=3, seed=seed, validation=parts[0])
        assert [epoch.examples for epoch in history] == [50] * 3
        assert history[2].metrics["validation_loss"] < history[0].metrics["validation_loss"]
        results.append(table.value.copy())
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_streams_of_graphs(backend):
    x, w = wyrm.InputNode((1, 1)), wyrm.ParameterNode(0.0)
    history = wyrm.fit((x * w - x).square(), [{x: np.ones(n)} for n in (3, 4)], SGD(0.25, [w]), shuffle=False)
    assert history[0].examples == 7 and w.value == 1 - 0.5**7


def test_programs_are_compiled_once_for_a_stream(rng, monkeypatch):
    from wyrm.reference import ReferenceBackend

    compiled = []
    original = ReferenceBackend.compile
    monkeypatch.setattr(ReferenceBackend, "compile", lambda self, program: compiled.append(program) or original(self, program))
    table, loss = table_model(6)
    parts = [{"words": Ragged.of([[0, 1], [2]] * 3), "target": np.ones(6)} for _ in range(5)]
    wyrm.fit(loss, parts, SGD(0.01, [table]), batch_size=2, backend="reference")
    assert len(compiled) == 3  # two structures and an update


@pytest.mark.parametrize(
    ("feed", "options", "kind", "pattern"),
    [
        (lambda good: iter([good]), {"num_epochs": 2}, wyrm.OptionError, "num_epochs=2.*list_iterator ends once"),
        (lambda good: [good], {"weights": [1.0]}, wyrm.OptionError, "weights do not go with a stream"),
        (lambda good: [], {}, wyrm.FeedError, "no chunks"),
        (lambda good: [good, {**good, "target": [np.nan]}], {}, wyrm.FeedError, "chunk 1 .*'target': example 0 holds NaN"),
        (lambda good: [good, 5], {}, wyrm.FeedError, "chunk 1 .*expected a mapping .* got int"),
        (lambda good: [good, {**good, "target": []}], {}, wyrm.FeedError, "chunk 1"),
        (lambda good: 5, {}, wyrm.FeedError, "expected a mapping .* got int"),
        (lambda good: "words", {}, wyrm.FeedError, "expected a mapping .* got str"),
    ],
)
def test_bad_streams(feed, options, kind, pattern):
    table, loss = table_model()
    good = {"words": Ragged.of([[1, 2]]), "target": [1.0]}
    with pytest.raises(kind, match=pattern):
        wyrm.fit(loss, feed(good), SGD(0.01, [table]), backend="reference", **options)


def test_memory_of_streams_does_not_grow(rng):
    """What belonged to a chunk is gone when the next ones have come."""
    table, loss = table_model()

    def endless(count):
        for _ in range(count):
            yield {"words": Ragged(np.zeros(100_000, np.int64), np.arange(0, 100_001, 2)), "target": np.ones(50_000)}

    backend = wyrm.get_backend()
    wyrm.fit(loss, endless(3), SGD(1e-3, [table]), num_threads=1, backend=backend)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wyrm.fit(loss, endless(12), SGD(1e-3, [table]), num_threads=1, backend=backend)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8_000  # kB; a chunk has 1,600


def test_columns_of_a_larger_array_are_read_where_they_stand(backend):
    """So many examples that backends may compile code for the program alone; the same values with gaps, and without."""
    rng = np.random.default_rng(4)
    numbers = rng.standard_normal((25_000, 3)).astype(np.float32)
    rows = rng.integers(0, 9, (25_000, 2))
    results = []
    for columns in ((numbers[:, 1], rows[:, 1]), (numbers[:, 1].copy(), rows[:, 1].copy())):
        table, x, index = wyrm.ParameterNode(np.ones((9, 1))), wyrm.InputNode((1, 1)), wyrm.IndexInputNode()
        loss = (table.index(index) * x - 0.5).square()
        wyrm.fit(loss, {x: columns[0], index: columns[1]}, SGD(0.05, [table]), shuffle=False, num_threads=1)
        results.append(table.value.copy())
    np.testing.assert_array_equal(*results)
    assert np.abs(results[0] - 1).min() > 0.01


# -- what is masked or missing, and objects


MASKED = np.ma.masked_array([1.0, 1e3], [False, True])


@pytest.mark.parametrize(
    "enter",
    [
        lambda masked: wyrm.InputNode((1, 2)).set_value(masked[None]),
        lambda masked: wyrm.InputNode((1, 2)).set_value([masked]),
        lambda masked: wyrm.InputNode((2, 1)).set_value([masked[:1], masked[1:]]),
        lambda masked: wyrm.InputNode((1, 1)).set_value(masked[1]),
        lambda masked: wyrm.IndexInputNode(2).set_value(masked),
        lambda masked: wyrm.IndexInputNode(2).set_value(list(masked)),
        lambda masked: wyrm.BagInputNode().set_value(masked.astype(int)),
        lambda masked: wyrm.BagInputNode(2).set_value([[0], masked.astype(int)]),
        lambda masked: wyrm.ParameterNode(masked[None]),
        lambda masked: wyrm.ParameterNode(masked[None].astype("float32"), copy=False),
        lambda masked: wyrm.ParameterNode(np.zeros((1, 2))).set_value(masked[None]),
        lambda masked: wyrm.ParameterNode(np.zeros((1, 2))).set_gradient(masked[None]),
        lambda masked: wyrm.InputNode((1, 2)) * masked,
        lambda masked: masked * wyrm.InputNode((1, 2)),
        lambda masked: wyrm.Bags([0, 1], [0, 2], masked),
        lambda masked: wyrm.Bags(masked.astype(int), [0, 2]),
        lambda masked: wyrm.Bags.from_lists([[0, 1]], [masked]),
        lambda masked: wyrm.Bags.from_lists([[0], [1]]).take(masked.astype(int)),
        lambda masked: wyrm.Frequencies(masked),
        lambda masked: Dense(masked),
        lambda masked: Ragged(masked, [0, 2]),
        lambda masked: Ragged.of([[1.0], masked]),
        lambda masked: Ragged.of(masked[None]),
        lambda masked: wyrm.Bags.of(masked[None].astype(int)),
        lambda masked: wyrm.BagInputNode(1).set_value(masked[None].astype(int)),
        lambda masked: wyrm.evaluate(lambda x: x, {"x": masked}),
        lambda masked: wyrm.evaluate(lambda x: x, {"x": np.ma.masked_array([[1, 2]], [[0, 1]])}),
        lambda masked: fitted({"x": [1.0, 2.0]}, weights=masked),
        lambda masked: wyrm.evaluate(lambda x: sum(x), {"x": Ragged.of(masked[None])}),
        lambda masked: fitted({"x": [1.0, 2.0]}, validation={"x": masked}),
    ],
)
def test_masked_elements_are_refused(enter):
    with pytest.raises(wyrm.DTypeError, match=r"masked element.*filled\(\)"):
        enter(MASKED)


def fitted(feed, **options):
    w = wyrm.ParameterNode(1.0)
    wyrm.fit(lambda x: (w * x).square(), feed, SGD(0.1, [w]), backend="reference", **options)


def test_masked_arrays_without_masked_elements_are_arrays():
    whole = np.ma.masked_array([[1.0, 2.0]], [[False, False]])
    x = wyrm.InputNode((1, 2), whole)
    assert (x * whole[0]).value.tolist() == [[1, 4]]
    assert wyrm.evaluate(x, {x: whole}, backend="reference").tolist() == [[[1, 2]]]
    adopted = wyrm.ParameterNode(whole.astype("float32"), copy=False)
    assert type(adopted.value) is np.ndarray


class Categories(list):
    dtype = "category"


@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        (["ann", "bob"], "numbered first.*numpy.unique"),
        (np.array(["ann", "bob"], object), "numbered first"),
        (np.array(["2020-01-01"], "datetime64[D]"), "dates and durations"),
        (np.array([1.0, None]), "missing"),
        ([1.0, None], "missing"),
        ((n for n in range(3)), "generator.*make a list"),
        ({1, 2}, "set.*make a list"),
        ({"a": {"b": 1}}, "dict.*make a list"),
        ([decimal.Decimal(1)], "Decimal"),
        ([1j], "complex"),
        (np.zeros(2, [("a", float)]), "of dtype"),
        (Categories([1, 2]), r"\.cat\.codes"),
        ([[1.0], [2.0, 3.0]], "Ragged.of"),
    ],
)
def test_what_is_no_number_says_what_to_do(data, pattern):
    with pytest.raises(wyrm.DTypeError, match=f"'x'.*{pattern}"):
        wyrm.evaluate(lambda x: x, {"x": data}, backend="reference")


def test_a_missing_row_number():
    index = wyrm.IndexInputNode(name="user")
    with pytest.raises(wyrm.DTypeError, match="'user'.*nan, which stands for a missing value"):
        wyrm.evaluate(wyrm.ParameterNode(np.ones((3, 1))).index(index), {index: [1.0, np.nan]}, backend="reference")


@pytest.mark.parametrize(
    "data",
    [
        np.array([1, 2.5, True, np.float32(3)], object),
        np.array([1, 2.5, 1, 3], ">f8"),
        np.array([1, 2.5, 1, 3], np.float16),
        np.array([1, 2.5, 1, 3], np.longdouble),
        np.array([3, 1, 2.5, 1])[::-1],
        memoryview(np.array([1, 2.5, 1, 3])),
        (1, 2.5, 1, 3),
        np.asfortranarray([[1, 2.5, 1, 3], [0, 0, 0, 0]]).T[:, :1],
        np.array([[3, 9], [1, 9], [2.5, 9], [1, 9]])[::-1, :1],
    ],
)
def test_real_numbers_of_any_layout(backend, data):
    x = wyrm.InputNode((1, 1))
    assert wyrm.evaluate(x * 2, {x: data}).ravel().tolist() == [2, 5, 2, 6]


def test_row_numbers_of_any_layout(backend):
    table, index = wyrm.ParameterNode(np.arange(4.0).reshape(4, 1)), wyrm.IndexInputNode()
    right = [3, 0, 2]
    for data in (
        np.array(right, ">i8"),
        np.array(right, np.uint64),
        np.array(right, float),
        np.array(right, object),
        np.array(right[::-1])[::-1],
        np.array([right, right]).T[:, 1],
    ):
        assert wyrm.evaluate(table.index(index), {index: data}).ravel().tolist() == right
    with pytest.raises(wyrm.DTypeError, match="does not fit into 64 bits"):
        wyrm.evaluate(table.index(index), {index: np.array([2**63], np.uint64)})
