"""Bags: pooled look-ups in graphs, in fit and evaluate, from lists, CSR matrices and offsets; what is refused."""

import numpy as np
import pytest

import wyrm
from wyrm import BackendError, Bags
from wyrm.memory import Report
from wyrm.optim import FTRL, SGD, Adagrad, Adam, RowwiseAdagrad
from wyrm.training.runners import recover


def pooled(table, lists, weights=None, mean=False):
    """The formula."""
    result = np.zeros((len(lists), table.shape[1]))
    for n, bag in enumerate(lists):
        w = np.ones(len(bag)) if weights is None else np.asarray(weights[n], float)
        if len(bag):
            result[n] = (w[:, None] * table[np.asarray(bag, int)]).sum(0) / (w.sum() if mean else 1)
    return result


@pytest.mark.variants
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("cols", [1, 5, 16, 33])
def test_pooled_lookups(backend, rng, cols, mean, weighted):
    """Rows that stand several times, empty bags, more indices than ever before; the gradient stays row-sparse."""
    table = wyrm.ParameterNode(rng.standard_normal((50, cols)), dtype="float64")
    bag = wyrm.BagInputNode(3)
    node = table.index_mean(bag) if mean else table.index_sum(bag)
    upstream = rng.standard_normal((3, cols))
    loss = (node * upstream).scalar_sum()
    for longest in (0, 3, 4, 200, 2):
        lists = [rng.integers(0, 50, int(rng.integers(0, longest + 1))) for _ in range(3)]
        weights = [rng.uniform(0.5, 2, len(b)) for b in lists] if weighted else None
        bag.set_value(Bags.from_lists(lists, weights))
        loss.forward()
        np.testing.assert_allclose(node.value, pooled(table.value, lists, weights, mean), rtol=1e-12, atol=1e-12)
        table.zero_gradient()
        loss.backward(1.0)
        expected = np.zeros((50, cols))
        for n, b in enumerate(lists):
            w = np.ones(len(b)) if weights is None else weights[n]
            np.add.at(expected, b, w[:, None] * upstream[n] / (w.sum() if mean and len(b) else 1))
        assert isinstance(table.gradient, wyrm.RowSparseGradient)
        np.testing.assert_array_equal(table.gradient.rows, np.unique(np.concatenate(lists)))
        np.testing.assert_allclose(table.gradient.to_dense(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.variants
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_of_weights_that_cancel_is_zero(backend, dtype):
    """So is its gradient: in steps, in fit and in evaluate. Small weights, and negative ones, are weights all the same."""
    tiny = float(np.finfo(dtype).tiny)
    shares = {
        (0.0, 0.0): [0, 0],
        (1.0, -1.0): [0, 0],
        (0.1, 0.2, -0.3): [0, 0, 0],
        (tiny / 8, tiny / 8): [0.5, 0.5],
        (-1.0, 3.0): [-0.5, 1.5],
    }
    for weights, share in shares.items():
        table, bag = wyrm.ParameterNode(np.arange(1.0, 7).reshape(3, 2), dtype=dtype), wyrm.BagInputNode()
        bags = Bags(range(len(weights)), [0, len(weights)], weights)
        bag.set_value(bags)
        pooled = table.index_mean(bag)
        loss = pooled.scalar_sum()
        right = np.array(share) @ table.value[: len(share)]
        np.testing.assert_allclose(pooled.value[0], right, rtol=1e-5)
        np.testing.assert_allclose(wyrm.evaluate(pooled, {bag: bags})[0, 0], right, rtol=1e-5)
        loss.forward()
        loss.backward(1.0)
        slope = np.zeros((3, 2))
        slope[: len(share)] = np.array(share)[:, None]
        np.testing.assert_allclose(table.gradient.to_dense(), slope, rtol=1e-5)
        start = table.value.copy()
        for batch_size in (1, 2):
            wyrm.fit(loss, {bag: bags}, SGD(1.0, [table]), batch_size=batch_size, num_threads=1)
        np.testing.assert_allclose(table.value, start - 2 * slope, rtol=1e-5)


@pytest.mark.variants
def test_bags_of_a_computed_node_and_mixed_uses(backend, rng):
    table = wyrm.ParameterNode(rng.standard_normal((6, 4)), dtype="float64")
    bag, index = wyrm.BagInputNode(2, [[0, 3, 3], []]), wyrm.IndexInputNode(2, [3, 5])
    loss = (table.tanh().index_sum(bag) * 0.5 + table.index_mean(bag) + table.index(index)).square().scalar_sum()
    difference, gradient = wyrm.finite_difference(table, loss)
    np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-8)


def linear_model(dtype="float64"):
    weights, bag = wyrm.ParameterNode(np.zeros((30, 1)), dtype=dtype), wyrm.BagInputNode(1)
    y = wyrm.InputNode((1, 1), dtype=dtype)
    return weights, bag, y, wyrm.nn.losses.binary_cross_entropy(weights.index_sum(bag), y)


@pytest.mark.variants
def test_fit_over_bags_equals_steps(backend, rng):
    """Sparse logistic regression; bags grow as the run goes on, so that workers have to make room."""
    lists = [rng.integers(0, 30, n % 7 + 40 * (n == 50)) for n in range(60)]
    weights = [rng.uniform(0.5, 2, len(b)) for b in lists]
    targets = rng.integers(0, 2, 60)
    results = []
    for native in (True, False):
        w, bag, y, loss = linear_model()
        optimizer = SGD(0.3, [w], l2=0.1)
        if native:
            history = wyrm.fit(
                loss, {bag: Bags.from_lists(lists, weights), y: targets}, optimizer, shuffle=False, num_threads=1
            )
            assert history[0].examples == 60
        else:
            for b, v, target in zip(lists, weights, targets, strict=True):
                bag.set_value(Bags.from_lists([b], [v]))
                y.set_value(target)
                loss.forward()
                loss.backward(1.0)
                optimizer.step()
        results.append(w.value.copy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-10, atol=1e-12)
    assert results[0].any()


RULES = {
    "descent": lambda p: SGD(0.05, p),
    "momentum, decay": lambda p: SGD(0.05, p, momentum=0.5, weight_decay=0.01),
    "Adagrad": lambda p: Adagrad(0.1, p),
    "row-wise Adagrad": lambda p: RowwiseAdagrad(0.1, p),
    "Adam": lambda p: Adam(0.05, p),
    "FTRL": lambda p: FTRL(0.1, p, l1=0.05, l2=0.1),
}


@pytest.mark.variants
@pytest.mark.parametrize("rule", RULES)
def test_rows_of_one_number_are_updated_together(backend, rng, rule):
    """Ascending or not, several times or once, more than are taken at a time."""
    lists = [rng.integers(0, 200, n) for n in rng.integers(0, 150, 30)]
    lists[::3] = [np.unique(bag) for bag in lists[::3]]
    weights = [rng.uniform(-1, 1, len(bag)) for bag in lists]
    start, clicked = 0.1 * rng.standard_normal((200, 1)), rng.integers(0, 2, 30)
    tables = []
    for chosen in (backend, "reference"):
        table, bag, target = (
            wyrm.ParameterNode(start, dtype="float64"),
            wyrm.BagInputNode(),
            wyrm.InputNode((1, 1), dtype="float64"),
        )
        score = table.index_sum(bag)
        feed = {bag: Bags.from_lists(lists, weights), target: clicked}
        wyrm.fit(score.softplus() - score * target, feed, RULES[rule]([table]), shuffle=False, num_threads=1, backend=chosen)
        tables.append(table.value)
    assert np.abs(tables[1] - start).max() > 0.1
    np.testing.assert_allclose(*tables, rtol=1e-9, atol=1e-12)


def test_threads_make_room_each_for_itself(backend, rng):
    if "hogwild" not in wyrm.get_backend(backend).capabilities.schedules:
        pytest.skip(f"{backend} runs on one thread")
    w, bag, y, loss = linear_model()
    lists = [rng.integers(0, 30, int(n)) for n in rng.integers(0, 300, 400)]
    labels = [int((np.asarray(bag) < 15).sum() > len(bag) / 2) for bag in lists]  # which can be learned
    history = wyrm.fit(loss, {bag: lists, y: labels}, SGD(0.001, [w]), num_threads=2, num_epochs=3)
    assert [epoch.examples for epoch in history] == [400] * 3
    assert history.losses[-1] < 0.9 * history.losses[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_csr_matrices_are_read_where_they_stand(backend, rng, dtype, index_dtype):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    matrix = sparse.random(40, 30, 0.2, format="csr", dtype=dtype, random_state=1)
    matrix.indices, matrix.indptr = matrix.indices.astype(index_dtype), matrix.indptr.astype(index_dtype)
    table, bag = wyrm.ParameterNode(rng.standard_normal((30, 3)), dtype="float64"), wyrm.BagInputNode(1)
    values = wyrm.evaluate(table.index_sum(bag), {bag: matrix})
    np.testing.assert_allclose(values[:, 0], matrix @ table.value, rtol=1e-6)
    assert np.shares_memory(Bags.of(matrix).values, matrix.indices)
    assert np.shares_memory(Bags.of(matrix).weights, matrix.data)
    part = matrix[10:20]
    np.testing.assert_allclose(wyrm.evaluate(table.index_sum(bag), {bag: part})[:, 0], part @ table.value, rtol=1e-6)
    several = wyrm.BagInputNode(4)
    values = wyrm.evaluate(table.index_sum(several), {several: matrix})
    np.testing.assert_allclose(values.reshape(40, 3), matrix @ table.value, rtol=1e-6)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("container", ["matrix", "array"])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_sparse_matrices_of_every_kind(kind, container, dtype):
    """Converted, whatever their elements."""
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    dense = np.array([[1, 0, 3], [0, 0, 0], [0, 2, 4]]).astype(dtype)
    matrix = getattr(sparse, f"{kind}_{container}")(dense)
    table = wyrm.ParameterNode(np.arange(1.0, 7).reshape(3, 2), dtype="float64")
    right = dense.astype(float) @ table.value
    bag, several = wyrm.BagInputNode(), wyrm.BagInputNode(3, matrix)
    found = wyrm.evaluate(table.index_sum(bag), {bag: matrix}, backend="reference")[:, 0]
    np.testing.assert_allclose(found, right)
    np.testing.assert_allclose(table.index_sum(several).value, right)


def test_entries_of_sparse_matrices_may_be_unsorted_and_double():
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    table, bag = wyrm.ParameterNode(np.arange(1.0, 7).reshape(3, 2), dtype="float64"), wyrm.BagInputNode()
    entries = np.array([1.0, 2, 3, 0]), np.array([2, 0, 2, 1])
    matrix = sparse.csr_matrix((*entries, [0, 3, 3, 4]), shape=(3, 3))
    for same in (matrix, matrix.tocoo()):
        found = wyrm.evaluate(table.index_sum(bag), {bag: same}, backend="reference")[:, 0]
        np.testing.assert_allclose(found, matrix.toarray() @ table.value)


def test_a_csr_matrix_with_room_behind():
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    matrix = sparse.csr_matrix((np.ones(5), np.array([0, 1, 2, 9, 9]), [0, 2, 3]), shape=(2, 10))
    assert Bags.of(matrix).to_lists() == [[0, 1], [2]]


class Series:
    """A column of a table, as pandas and Polars have them."""

    def __init__(self, values, dtype=object):
        self.values = np.empty(len(values), object)
        self.values[:] = values
        self.shape, self.dtype = (len(values),), dtype

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return self.values

    def to_list(self):
        return list(self.values)


@pytest.mark.parametrize("container", [Series, lambda lists: Series(lists).values, tuple])
def test_columns_of_lists(container):
    lists = [[3, 1], np.array([], float), np.array([2], np.uint8), (0,)]
    bags = Bags.of(container(lists))
    assert bags.to_lists() == [[3, 1], [], [2], [0]]
    table, bag, index = wyrm.ParameterNode(np.arange(4.0).reshape(4, 1)), wyrm.BagInputNode(), wyrm.IndexInputNode(2)
    assert wyrm.evaluate(table.index_sum(bag), {bag: container(lists)}).ravel().tolist() == [4, 0, 2, 0]
    assert wyrm.Ragged.of(container([[1.5], np.array([2.0, 3.0])])).to_lists() == [[1.5], [2.0, 3.0]]
    pairs = container([[3, 1], np.array([2, 0])])
    np.testing.assert_array_equal(wyrm.evaluate(table.index(index), {index: pairs})[..., 0], [[3, 1], [2, 0]])
    with pytest.raises(wyrm.DTypeError, match="'words'.*Ragged.of"):
        wyrm.evaluate(lambda words: words, {"words": container(lists)})


def test_forms():
    bags = Bags.from_lists([[3, 1], (), np.array([2])], weights=[[1, 2], [], [0.5]])
    assert bags.to_lists() == [[3, 1], [], [2]]
    assert bags.weights.tolist() == [1, 2, 0.5]
    assert len(bags) == 3
    assert repr(bags) == "Bags(3 bags, 3 values, weighted)"
    assert Bags.of(np.array([[1, 2], [3, 4]])).to_lists() == [[1, 2], [3, 4]]
    assert Bags.from_lists([]).to_lists() == []
    node = wyrm.BagInputNode(1, [3, 1])
    assert node.value.to_lists() == [[3, 1]]
    node.set_value([])
    assert node.value.to_lists() == [[]]


@pytest.mark.parametrize(
    ("make", "kind", "pattern"),
    [
        (lambda: Bags([1, 2], [0, 3]), wyrm.ShapeError, "within 0 and 2"),
        (lambda: Bags([1, 2], [0, 2, 1]), wyrm.ShapeError, "must not fall"),
        (lambda: Bags([1, 2], [-1, 2]), wyrm.ShapeError, "from -1"),
        (lambda: Bags([1, 2], [0, 1]), wyrm.ShapeError, "from 0 to 1.*where the last bag ends"),
        (lambda: Bags([1, 2], [1, 2]), wyrm.ShapeError, "from 1 to 2"),
        (lambda: Bags([1.0, 2.0], [0, 2]), wyrm.DTypeError, "integer dtype, got float64"),
        (lambda: Bags.of(np.eye(2)), wyrm.DTypeError, "dense matrix becomes bags.*csr_matrix"),
        (lambda: Bags.of([[1.0, 0, 1], [0, 1, 0]]), wyrm.DTypeError, "dense matrix becomes bags"),
        (lambda: wyrm.BagInputNode(2, np.eye(2), name="bag"), wyrm.DTypeError, "'bag'.*dense matrix"),
        (lambda: Bags.of(np.zeros((2, 2, 2), int)), wyrm.ShapeError, r"shape \(2, 2\) for bag 0"),
        (lambda: Bags.of([[[1], [2]], [[3], [4]]]), wyrm.ShapeError, "bags of lists"),
        (lambda: Bags.of(np.array([[1, 0, 1], [0, 1, 0]])), wyrm.DTypeError, "matrix of zeros and ones.*csr_matrix"),
        (lambda: wyrm.BagInputNode(2, np.eye(2, 3, dtype=np.uint8), name="bag"), wyrm.DTypeError, "'bag'.*zeros and ones"),
        (lambda: Bags.of([[1], None]), wyrm.DTypeError, "entry 1 is None"),
        (lambda: Bags.of(["ab"]), wyrm.DTypeError, "entry 0 is 'ab'"),
        (lambda: Bags([1, 2], []), wyrm.ShapeError, "at least one offset"),
        (lambda: Bags([1, 2], [0, 2], [1.0]), wyrm.ShapeError, "2 weights"),
        (lambda: Bags([1, 2], [0, 2], [1.0, np.nan]), wyrm.DTypeError, "weight 1 is NaN"),
        (lambda: Bags([1.5], [0, 1]), wyrm.DTypeError, "whole row numbers"),
        (lambda: Bags.from_lists([[1]], [[1, 2]]), wyrm.ShapeError, "as many weights"),
        (lambda: wyrm.BagInputNode(1, 5), wyrm.DTypeError, "expected Bags"),
        (lambda: wyrm.BagInputNode(2, [[1]]), wyrm.ShapeError, "expected 2 bags, got 1"),
        (lambda: wyrm.BagInputNode(-1), wyrm.ShapeError, "how many bags"),
        (lambda: wyrm.BagInputNode(1, [[-1]]), wyrm.OutOfRangeError, "-1 at position 0"),
        (lambda: wyrm.ParameterNode(np.ones((3, 1))).index_sum(wyrm.IndexInputNode()), wyrm.DTypeError, "a BagInputNode"),
        (lambda: wyrm.ParameterNode(np.ones((3, 1))).index(wyrm.BagInputNode()), wyrm.DTypeError, "an IndexInputNode"),
        (lambda: wyrm.ParameterNode(np.ones((3, 1))).pick(wyrm.IndexInputNode(2)), wyrm.ShapeError, "as many indices as rows"),
        (lambda: wyrm.ParameterNode(np.ones((3, 1))).index_sum(wyrm.BagInputNode(1, [3])), wyrm.OutOfRangeError, "below 3"),
        (lambda: wyrm.BagInputNode(1).value, wyrm.MissingValueError, "no value yet"),
    ],
)
def test_bad_arguments(make, kind, pattern):
    with pytest.raises(kind, match=pattern):
        make()


def test_bad_feeds(backend):
    w, bag, y, loss = linear_model()
    for feed, kind, pattern in (
        ([[0], [30]], wyrm.OutOfRangeError, "example 1.*30"),
        ([[0]], wyrm.FeedError, "same number of examples"),
        ([0, 1], wyrm.DTypeError, "sequence of lists"),
    ):
        with pytest.raises(kind, match=pattern):
            wyrm.fit(loss, {bag: feed, y: [0, 1]}, SGD(0.1, [w]))
    with pytest.raises(wyrm.MissingValueError, match="BagInputNode"):
        loss.forward()
    values = np.array([1, 2, 3])
    bags = Bags(values, [0, 2, 3])

    def spoil(epoch):
        values[1] = 99

    with pytest.raises(wyrm.OutOfRangeError, match="99"):
        wyrm.fit(loss, {bag: bags, y: [0, 1]}, SGD(0.1, [w]), num_epochs=2, callbacks=[spoil])


@pytest.mark.parametrize("status", ["BAG_FULL", "ROWS_FULL"])
def test_a_backend_that_asks_for_room_that_there_is(status):
    """An error, not another attempt at the same pass for ever."""
    table, bag = wyrm.ParameterNode(np.ones((5, 2))), wyrm.BagInputNode(1)
    bag.set_value([[1, 2]])
    loss = table.index_sum(bag).scalar_sum()
    loss.forward(backend="reference")
    loss.backward(1.0)
    table.zero_gradient()
    workspace = loss._workspace
    code = getattr(Report, status)
    workspace.memory.report.words[:4] = code, 0, 0, 2
    with pytest.raises(BackendError, match=f"status {code}"):
        workspace.recover(code)
    with pytest.raises(BackendError, match=f"status {code}"):
        recover(workspace.memory, code)
    workspace.memory.report.words[3] = 1000  # room that there is not
    workspace.recover(code)
    loss.forward()
    loss.backward(1.0)
    np.testing.assert_array_equal(table.gradient.rows, [1, 2])


@pytest.mark.parametrize("weights", [[3e38, 3e38], [np.inf, 1.0], [-3e38, -3e38, 0.0]])
def test_means_by_weights_whose_sum_is_infinite_are_nan(backend, weights):
    """Not 0, which nobody would notice; so training tells of it."""
    table, bag = wyrm.ParameterNode(np.array([[1.0], [2.0], [4.0]])), wyrm.BagInputNode(1)
    bags = wyrm.Bags(np.arange(len(weights)), [0, len(weights)], weights)
    mean = table.index_mean(bag)
    assert np.isnan(wyrm.evaluate(mean, {bag: bags}, backend=backend)).all()
    with pytest.raises(wyrm.NotFiniteError):
        wyrm.fit(mean, {bag: bags}, SGD(0.1, [table]), backend=backend)
    np.testing.assert_array_equal(table.value, [[1.0], [2.0], [4.0]])
