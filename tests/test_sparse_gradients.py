"""The sparse-gradient protocol: rows touched, rows not touched, duplicates, mixtures, and what it all costs."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wyrm
from wyrm.frontend.gradients import DenseGradient, RowSparseGradient, read_gradient, write_gradient
from wyrm.memory import GradientBuffer
from wyrm.optim import SGD

pytestmark = pytest.mark.variants


def lookup_loss(table, indices, weights):
    """sum(table[indices] * weights), by one index input of so many indices."""
    index = wyrm.IndexInputNode(len(indices), indices)
    loss = (table.index(index) * weights).scalar_sum()
    loss.forward()
    return loss


def test_gradient_of_a_lookup_holds_the_rows_touched(backend, rng):
    table = wyrm.ParameterNode(rng.standard_normal((10, 3)))
    weights = rng.standard_normal((2, 3)).astype(np.float32)
    lookup_loss(table, [7, 2], weights).backward(1.0)
    gradient = table.gradient
    assert isinstance(gradient, RowSparseGradient)
    np.testing.assert_array_equal(gradient.rows, [2, 7])
    np.testing.assert_array_equal(gradient.values, weights[::-1])
    assert gradient.shape == (10, 3)


@pytest.mark.parametrize("count", [1, 2, 5, 40, 1000])
def test_duplicate_rows_are_summed(backend, rng, count):
    table = wyrm.ParameterNode(np.zeros((7, 3)), dtype="float64")
    indices, weights = rng.integers(0, 7, count), rng.standard_normal((count, 3))
    expected = np.zeros((7, 3))
    for _ in range(3):  # over several passes too
        np.add.at(expected, indices, weights)
        lookup_loss(table, indices, weights).backward(1.0)
    gradient = table.gradient
    np.testing.assert_array_equal(gradient.rows, np.unique(indices))
    np.testing.assert_allclose(gradient.to_dense(), expected, atol=1e-12)
    before = table.value.copy()
    SGD(0.5, [table]).step()
    np.testing.assert_allclose(table.value, before - 0.5 * expected, atol=1e-12)
    assert len(table.gradient.rows) == 0


def test_an_empty_index(backend):
    table = wyrm.ParameterNode(np.ones((4, 2)))
    index = wyrm.IndexInputNode(0, [])
    rows = table.index(index)
    assert rows.shape == (0, 2)
    loss = rows.square().scalar_sum()
    loss.forward()
    loss.backward(1.0)
    assert loss.value == 0
    assert len(table.gradient.rows) == 0
    SGD(1.0, [table], l2=1.0).step()
    np.testing.assert_array_equal(table.value, np.ones((4, 2)))


def test_dense_and_sparse_uses_in_one_graph_lose_neither(backend, rng):
    table = wyrm.ParameterNode(rng.standard_normal((5, 3)), dtype="float64")
    index = wyrm.IndexInputNode(3, [4, 0, 4])
    loss = table.index(index).square().scalar_sum() + (table * 2.0).scalar_sum()
    difference, gradient = wyrm.finite_difference(table, loss)
    np.testing.assert_allclose(gradient, difference, rtol=1e-7, atol=1e-8)
    loss.forward()
    loss.backward(1.0)
    assert isinstance(table.gradient, DenseGradient)


def test_dense_and_sparse_uses_by_two_heads_lose_neither(backend, rng):
    table = wyrm.ParameterNode(rng.standard_normal((5, 3)), dtype="float64")
    before, weights = table.value.copy(), rng.standard_normal((2, 3))
    expected = np.full((5, 3), 2.0)
    expected[[1, 3]] += weights
    sparse, dense = lookup_loss(table, [1, 3], weights), (table * 2.0).scalar_sum()
    dense.forward()
    for order in ((sparse, dense), (dense, sparse)):
        table.zero_gradient()
        for head in order:
            head.backward(1.0)
        np.testing.assert_allclose(table.gradient.to_dense(), expected)
    SGD(0.1, [table]).step()
    np.testing.assert_allclose(table.value, before - 0.1 * expected)
    assert not table.gradient.to_dense().any()
    sparse.backward(1.0)
    assert isinstance(table.gradient, RowSparseGradient)


def test_untouched_rows_keep_their_bits(backend, rng):
    """Through passes, steps with l2, and training: the rows not looked up, NaN and -0.0 among them."""
    value = rng.standard_normal((50, 5)).astype(np.float32)
    value[3], value[4] = np.nan, -0.0
    table = wyrm.ParameterNode(value)
    index = wyrm.IndexInputNode(2)
    loss = table.index(index).square().scalar_sum()
    optimizer = SGD(0.1, [table], l2=0.5)
    touched = [10, 20, 30, 49]
    for pair in ([10, 20], [30, 10], [49, 49]):
        index.set_value(pair)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
    wyrm.fit(loss, {index: rng.choice(touched, (100, 2))}, optimizer)
    untouched = np.setdiff1d(np.arange(50), touched)
    np.testing.assert_array_equal(table.value[untouched].view(np.uint32), value[untouched].view(np.uint32))
    assert np.all(table.value[touched] != value[touched])


def test_l2_shrinks_a_touched_row_once_a_step(backend):
    """Looked up three times in one step, a row is decayed once."""
    table, index = wyrm.ParameterNode(np.full((3, 2), 8.0)), wyrm.IndexInputNode(3, [1, 1, 1])
    loss = (table.index(index) * 0.0).scalar_sum()
    loss.forward()
    loss.backward(1.0)
    SGD(0.5, [table], l2=0.5).step()
    np.testing.assert_array_equal(table.value, [[8, 8], [6, 6], [8, 8]])
    wyrm.fit(loss, {index: [[1, 1, 1]]}, SGD(0.5, [table], l2=0.5))
    np.testing.assert_array_equal(table.value, [[8, 8], [4.5, 4.5], [8, 8]])


def test_sparse_equals_dense(backend, rng):
    """The same model by look-up and by product with a one-hot matrix, over many steps."""
    start, targets = rng.standard_normal((6, 4)), rng.standard_normal((40, 4))
    indices = rng.integers(0, 6, 40)
    results = []
    for sparse in (True, False):
        table, target = wyrm.ParameterNode(start, dtype="float64"), wyrm.InputNode((1, 4), dtype="float64")
        key = wyrm.IndexInputNode() if sparse else wyrm.InputNode((1, 6), dtype="float64")
        row = table.index(key) if sparse else key.dot(table)
        loss = (row - target).square().scalar_sum()
        optimizer = SGD(0.1, [table])
        for i, t in zip(indices, targets, strict=True):
            key.set_value(i if sparse else np.eye(6)[i : i + 1])
            target.set_value(t.reshape(1, 4))
            loss.forward()
            loss.backward(1.0)
            assert isinstance(table.gradient, RowSparseGradient if sparse else DenseGradient)
            optimizer.step()
        results.append(table.value.copy())
    np.testing.assert_allclose(*results, rtol=1e-12)


def test_many_passes_before_a_step(backend, rng):
    """More rows than there was room for at first: the list grows, duplicates are summed on the way."""
    table = wyrm.ParameterNode(np.zeros((500, 2)), dtype="float64")
    index = wyrm.IndexInputNode(3)
    loss = table.index(index).scalar_sum()
    expected = np.zeros((500, 2))
    for _ in range(700):
        rows = rng.integers(0, 500, 3)
        np.add.at(expected, rows, 1)
        index.set_value(rows)
        loss.forward()
        loss.backward(1.0)
    np.testing.assert_array_equal(table.gradient.to_dense(), expected)
    assert len(table._gradient.row_numbers) < 5000, "the list follows the rows touched, not the passes"
    SGD(1.0, [table]).step()
    np.testing.assert_array_equal(table.value, -expected)


def test_memory_follows_the_rows_touched(backend):
    """A step on a table of a million rows allocates no more than one on a small table.

    The least of several measurements counts: now and then a cache of the library grows beside a step.
    """
    table = wyrm.ParameterNode(np.zeros((1_000_000, 8), np.float32), copy=False)
    small = wyrm.ParameterNode(np.zeros((10, 8)))
    _peak_of_steps(small)
    peak = min(_peak_of_steps(table) for _ in range(3))
    assert peak < 200_000, peak  # the table has 32 million bytes


def _peak_of_steps(parameter):
    """The most memory that a graph with a look-up, a step driven from Python and a short run of `fit` take beside the table."""
    node = wyrm.IndexInputNode(2, [0, 1])
    tracemalloc.start()
    loss = parameter.index(node).square().scalar_sum()
    optimizer = SGD(0.1, [parameter], l2=0.1)
    node.set_value([3, 5])
    loss.forward()
    loss.backward(1.0)
    optimizer.step()
    wyrm.fit(loss, {node: [[1, 2], [3, 4]]}, optimizer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


rows_strategy = st.lists(st.integers(0, 5), max_size=30)


@settings(max_examples=60, deadline=None)
@given(rows_strategy, rows_strategy, st.booleans())
def test_gradient_buffer_equals_a_matrix(first, second, dense):
    """Whatever is added, in whatever order, reading gives the sum; writing back what was read changes nothing."""
    buffer, expected = GradientBuffer((6, 2), "float64"), np.zeros((6, 2))
    for rows in (first, second):
        buffer.reserve(len(rows))
        values = np.arange(2.0 * len(rows)).reshape(-1, 2)
        buffer.add_rows(np.array(rows, np.int64), values)
        np.add.at(expected, np.array(rows, np.int64), values)
    if dense:
        buffer.require_dense()[...] += 1
        buffer.header[0] = 1
        expected += 1
    gradient = read_gradient(buffer)
    np.testing.assert_array_equal(gradient.to_dense(), expected)
    np.testing.assert_array_equal(np.asarray(gradient), expected)
    if not dense:
        assert gradient.rows.tolist() == sorted(set(first + second))
    write_gradient(buffer, gradient)
    np.testing.assert_array_equal(read_gradient(buffer).to_dense(), expected)
    buffer.clear()
    assert not read_gradient(buffer).to_dense().any()


def test_row_sparse_gradients_are_checked():
    with pytest.raises(wyrm.ShapeError, match="values of shape"):
        RowSparseGradient(np.array([1, 2]), np.zeros((1, 3)), (4, 3))
    with pytest.raises(wyrm.ShapeError, match="sorted"):
        RowSparseGradient(np.array([2, 2]), np.zeros((2, 3)), (4, 3))
    with pytest.raises(wyrm.OutOfRangeError, match="within 0 and 3"):
        RowSparseGradient(np.array([2, 4]), np.zeros((2, 3)), (4, 3))


def test_arithmetic_of_gradients(rng):
    """Sums, scaling and norms against matrices; row-sparse as long as nothing dense is added."""
    rows = [np.array([0, 3]), np.array([1, 3, 4])]
    a, b = (wyrm.RowSparseGradient(r, rng.standard_normal((len(r), 2)), (6, 2)) for r in rows)
    dense = wyrm.DenseGradient(rng.standard_normal((6, 2)))
    both = a + b
    assert isinstance(both, wyrm.RowSparseGradient)
    assert both.rows.tolist() == [0, 1, 3, 4]
    np.testing.assert_array_equal(both.to_dense(), a.to_dense() + b.to_dense())
    for left, right in ((a, dense), (dense, a), (dense, dense)):
        total = left + right
        assert isinstance(total, wyrm.DenseGradient)
        np.testing.assert_array_equal(np.asarray(total), left.to_dense() + right.to_dense())
    for gradient in (a, dense):
        assert type(2.5 * gradient) is type(gradient)
        np.testing.assert_array_equal((gradient * 2.5).to_dense(), 2.5 * gradient.to_dense())
        np.testing.assert_allclose(gradient.norm(), np.linalg.norm(gradient.to_dense()))
    unsorted = wyrm.RowSparseGradient.merged([4, 1, 4], np.array([[1.0], [2.0], [3.0]]), (5, 1))
    assert (unsorted.rows.tolist(), unsorted.values.tolist()) == ([1, 4], [[2.0], [4.0]])
    with pytest.raises(wyrm.ShapeError, match="cannot be added"):
        a + wyrm.DenseGradient(np.ones((6, 3)))
    with pytest.raises(TypeError):
        a * "2"


def test_gradients_as_scipy_matrices(rng):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    gradient = wyrm.RowSparseGradient(np.array([1, 4]), rng.standard_normal((2, 3)), (6, 3))
    np.testing.assert_array_equal(gradient.to_scipy().toarray(), gradient.to_dense())
    again = wyrm.RowSparseGradient.from_scipy(sparse.coo_array(gradient.to_dense()))
    assert again.rows.tolist() == [1, 4]
    np.testing.assert_array_equal(again.values, gradient.values)


@pytest.mark.parametrize("kind", ["dense", "rows", "array", "scipy"])
def test_gradients_can_be_set(backend, rng, kind):
    """What is set is what the next step takes, and nothing of what had been gathered."""
    table = wyrm.ParameterNode(np.zeros((5, 2)), dtype="float64")
    table.index(wyrm.IndexInputNode(1, 2)).backward(1.0)
    matrix = np.zeros((5, 2))
    matrix[[1, 3]] = rng.standard_normal((2, 2))
    if kind == "scipy":
        value = pytest.importorskip("scipy.sparse", reason="SciPy is not installed").csr_array(matrix)
    else:
        rows = wyrm.RowSparseGradient(np.array([1, 3]), matrix[[1, 3]], (5, 2))
        value = {"dense": wyrm.DenseGradient(matrix), "rows": rows, "array": matrix}[kind]
    table.set_gradient(value)
    sparse = kind in ("rows", "scipy")
    assert isinstance(table.gradient, wyrm.RowSparseGradient if sparse else wyrm.DenseGradient)
    SGD(1.0, [table]).step()
    np.testing.assert_array_equal(table.value, -matrix)
    for wrong, error in ((np.zeros((2, 5)), wyrm.ShapeError), (np.array([["a"]]), wyrm.DTypeError)):
        with pytest.raises(error, match="ParameterNode"):
            table.set_gradient(wrong)
    with pytest.raises(wyrm.WyrmError):
        wyrm.RowSparseGradient.merged([7], np.ones((1, 2)), (5, 2))
