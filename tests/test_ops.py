"""Every op of the table: its value against a formula in NumPy, its gradient against finite differences."""

import numpy as np
import pytest

import wyrm
from wyrm.frontend.op import OPS

pytestmark = pytest.mark.variants

SHAPES = [(1, 1), (1, 7), (3, 1), (2, 8), (5, 9), (4, 16), (3, 17), (2, 33)]
BROADCAST = [((4, 9), (1, 9)), ((4, 9), (4, 1)), ((1, 1), (3, 5)), ((5, 1), (1, 8)), ((1, 1), (1, 17))]


def parameter(rng, shape, dtype="float64", offset=0.0):
    """Normal numbers in steps of a thousandth, so that the kinks of an op lie between those of two operands."""
    return wyrm.ParameterNode(np.round(rng.standard_normal(shape), 3) + 0.0002 + offset, dtype=dtype)


#: Ops that may leave an operand out, and those that are constant on a row of one element.
CHOOSING = ("maximum", "minimum", "where", "relu", "clip", "softmax", "log_softmax", "multiply")


def check(rng, node, expected, parameters, tolerance=1e-12):
    """The value equals a formula; the gradients, by random upstream gradients, equal finite differences."""
    node.forward()
    assert node.shape == expected.shape
    np.testing.assert_allclose(node.value, expected, rtol=tolerance, atol=tolerance)
    weighted = (node * rng.standard_normal(node.shape)).scalar_sum()
    for p in parameters:
        difference, gradient = wyrm.finite_difference(p, weighted)
        assert np.any(difference) or node._kind() in CHOOSING, "the check would compare zeros"
        np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-8)


def _slice(a):
    return a[1:, :-1] if a.shape[0] > 1 and a.shape[1] > 1 else a[-1:, :1]


def _softmax(a):
    return np.exp(a) / np.exp(a).sum(1, keepdims=True) * np.arange(1.0, a.shape[1] + 1)


def _mask(a, b):
    rows, cols = np.broadcast_shapes(a.shape, b.shape)
    return np.add.outer(np.arange(rows), np.arange(cols)) % 3 == 0


UNARY = {
    "neg": (lambda a: a.neg(), lambda a: -a),
    "square": (lambda a: a.square(), np.square),
    "exp": (lambda a: a.exp(), np.exp),
    "ln": (lambda a: (a.square() + 0.1).ln(), lambda a: np.log(a**2 + 0.1)),
    "sqrt": (lambda a: (a.square() + 0.1).sqrt(), lambda a: np.sqrt(a**2 + 0.1)),
    "abs": (lambda a: abs(a), np.abs),
    "tanh": (lambda a: a.tanh(), np.tanh),
    "sigmoid": (lambda a: a.sigmoid(), lambda a: 1 / (1 + np.exp(-a))),
    "log_sigmoid": (lambda a: a.log_sigmoid(), lambda a: -np.log(1 + np.exp(-a))),
    "softplus": (lambda a: a.softplus(), lambda a: np.log(1 + np.exp(a))),
    "relu": (lambda a: a.relu(), lambda a: np.maximum(a, 0)),
    "clip": (lambda a: a.clip(-0.5, 0.75), lambda a: np.clip(a, -0.5, 0.75)),
    "power": (lambda a: (a.square() + 0.1) ** 1.7, lambda a: (a**2 + 0.1) ** 1.7),
    "t": (lambda a: a.t(), np.transpose),
    "reshape": (lambda a: a.reshape(1, -1), lambda a: a.reshape(1, -1)),
    "slice": (lambda a: a[1:, :-1] if a.shape[0] > 1 and a.shape[1] > 1 else a[-1, 0], _slice),
    "sum": (lambda a: a.scalar_sum(), lambda a: a.sum(keepdims=True)),
    "sum of columns": (lambda a: a.sum(axis=0), lambda a: a.sum(axis=0, keepdims=True)),
    "sum of rows": (lambda a: a.sum(axis=1), lambda a: a.sum(axis=1, keepdims=True)),
    "mean": (lambda a: a.mean(), lambda a: a.mean(keepdims=True)),
    "mean of columns": (lambda a: a.mean(axis=0), lambda a: a.mean(axis=0, keepdims=True)),
    "mean of rows": (lambda a: a.mean(axis=1), lambda a: a.mean(axis=1, keepdims=True)),
    "logsumexp": (lambda a: a.logsumexp(), lambda a: np.log(np.exp(a).sum(1, keepdims=True))),
    "softmax": (lambda a: a.softmax() * np.arange(1.0, a.shape[1] + 1), _softmax),
    "log_softmax": (lambda a: a.log_softmax(), lambda a: a - np.log(np.exp(a).sum(1, keepdims=True))),
}
BINARY = {
    "add": (lambda a, b: a + b, np.add),
    "subtract": (lambda a, b: a - b, np.subtract),
    "multiply": (lambda a, b: a * b, np.multiply),
    "divide": (lambda a, b: a / (b.square() + 0.5), lambda a, b: a / (b**2 + 0.5)),
    "maximum": (lambda a, b: a.maximum(b), np.maximum),
    "minimum": (lambda a, b: a.minimum(b), np.minimum),
    "power of positive": (lambda a, b: (a.square() + 0.1) ** b, lambda a, b: (a**2 + 0.1) ** b),
    "where": (lambda a, b: wyrm.where(_mask(a, b), a, b), lambda a, b: np.where(_mask(a, b), a, b)),
    "vector_dot": (lambda a, b: a.vector_dot(b), lambda a, b: (a * b).sum(axis=1, keepdims=True)),
}
IN_TEST_COMPARISONS = {"greater", "less", "greater_equal", "less_equal", "equal", "not_equal"}
ELSEWHERE = {"dot", "index", "index_sum", "index_mean", "pick", "dropout_mask", "detach", "stack", "lstm_cell", "index_slice"}
IN_TEST_DRAWS = {"sample", "redraw", "rank"}


def test_every_op_is_tested_here():
    names = {name.split(" ")[0] for name in (*UNARY, *BINARY)}
    assert set(OPS) == names | ELSEWHERE | IN_TEST_DRAWS | IN_TEST_COMPARISONS


@pytest.mark.parametrize("name", UNARY)
def test_unary(backend, rng, name):
    op, formula = UNARY[name]
    for shape in SHAPES:
        a = parameter(rng, shape)
        check(rng, op(a), formula(a.value), [a])


@pytest.mark.parametrize("name", BINARY)
def test_binary(backend, rng, name):
    op, formula = BINARY[name]
    for shape in SHAPES:
        a, b = parameter(rng, shape), parameter(rng, shape, offset=0.0005)
        check(rng, op(a, b), formula(a.value, b.value), [a, b])


@pytest.mark.parametrize("name", BINARY)
def test_broadcasting(backend, rng, name):
    op, formula = BINARY[name]
    for left, right in (*BROADCAST, *(shapes[::-1] for shapes in BROADCAST)):
        a, b = parameter(rng, left), parameter(rng, right, offset=0.0005)
        value = formula(a.value, b.value)
        if name == "vector_dot":
            value = (a.value * b.value).sum(axis=1, keepdims=True)
        check(rng, op(a, b), value, [a, b])


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 5, 3), (4, 1, 9), (5, 8, 16), (3, 17, 33), (9, 4, 1), (6, 70, 5)], ids=str)
def test_dot(backend, rng, sizes):
    m, k, n = sizes
    a, b = parameter(rng, (m, k)), parameter(rng, (k, n))
    check(rng, a.dot(b), a.value @ b.value, [a, b])


def test_dot_of_transposed_operands(backend, rng):
    a, b = parameter(rng, (5, 7)), parameter(rng, (9, 7))
    check(rng, a.dot(b.t()), a.value @ b.value.T, [a, b])
    check(rng, a.t().dot(a), a.value.T @ a.value, [a])
    c = parameter(rng, (6, 5))
    check(rng, a.t().dot(c.t()), a.value.T @ c.value.T, [a, c])


def test_operators_are_the_methods(backend, rng):
    a, b = parameter(rng, (2, 3)), parameter(rng, (3, 2))
    np.testing.assert_array_equal((-a).value, a.neg().value)
    np.testing.assert_array_equal((a @ b).value, a.dot(b).value)


def test_numbers_and_arrays_become_constants_on_either_side(backend, rng):
    a = parameter(rng, (2, 3))
    array, value = rng.standard_normal((2, 3)), a.value
    check(rng, a + 2, value + 2, [a])
    check(rng, 2.5 - a, 2.5 - value, [a])
    check(rng, array * a, array * value, [a])
    check(rng, a + array[0], value + array[0], [a])
    check(rng, a - array[:1], value - array[:1], [a])
    check(rng, array @ a.t(), array @ value.T, [a])
    check(rng, np.float32(0.5) * a, 0.5 * value, [a])


@pytest.mark.parametrize("count", [1, 2, 8, 17])
def test_index_of_a_parameter(backend, rng, count):
    table, index = parameter(rng, (11, 5)), wyrm.IndexInputNode(count, rng.integers(0, 11, count))
    check(rng, table.index(index), table.value[index.value[:, 0]], [table])


def test_index_of_a_computed_node(backend, rng):
    a, index = parameter(rng, (6, 4)), wyrm.IndexInputNode(5, [0, 2, 2, 5, 0])
    check(rng, a.square().index(index), np.square(a.value)[index.value[:, 0]], [a])


def test_detach_stops_the_gradient_and_nothing_else(backend, rng):
    a = parameter(rng, (2, 3))
    loss = (a * a.detach()).scalar_sum()
    loss.forward()
    loss.backward(1.0)
    np.testing.assert_allclose(loss.value, np.sum(a.value**2))
    np.testing.assert_array_equal(a.gradient.to_dense(), a.value)
    assert not a.detach().needs_gradient


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_matrices(backend, rows):
    """Ops on no rows give no rows, and sums give 0."""
    x = wyrm.InputNode((rows, 3), np.ones((rows, 3)))
    weights = wyrm.ParameterNode(np.ones((3, 2)))
    result = (x.dot(weights).sigmoid() * 2.0 - 1.0).t()
    assert result.shape == (2, rows)
    total = result.scalar_sum()
    total.forward()
    total.backward(1.0)
    assert result.value.shape == (2, rows)
    if rows == 0:
        assert total.value == 0
        assert not weights.gradient.to_dense().any()
        assert not x.scalar_sum().value.any()


def test_float32_agrees_with_float64(backend, rng):
    """The float32 kernels compute the same function as the float64 ones, for values and gradients."""
    results = []
    values = [rng.standard_normal(s) for s in ((7, 19), (19, 5), (7, 5))]
    for dtype in ("float32", "float64"):
        a, b, c = (wyrm.ParameterNode(v, dtype=dtype) for v in values)
        y = ((a.dot(b) - c).sigmoid() * c).vector_dot(c.square()).t()
        y.forward()
        y.backward(0.5)
        results.append([y.value, *(p.gradient.to_dense() for p in (a, b, c))])
    for single, double in zip(*results, strict=True):
        np.testing.assert_allclose(single, double, rtol=2e-5, atol=2e-5)


def test_stack(backend, rng):
    """Nodes, parameters and arrays, along both axes, two and more."""
    a, b, c = parameter(rng, (2, 5)), parameter(rng, (3, 5)), parameter(rng, (2, 7))
    array = rng.standard_normal((1, 5))
    check(rng, a.stack(b), np.vstack([a.value, b.value]), [a, b])
    check(rng, a.stack(c, axis=1), np.hstack([a.value, c.value]), [a, c])
    check(rng, wyrm.stack([a, array, b.square(), a]), np.vstack([a.value, array, b.value**2, a.value]), [a, b])
    check(rng, wyrm.stack([array.T, a.t()], 1).t(), np.vstack([array, a.value]), [a])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lstm_cell(backend, rng, shape):
    """The formula, and gradients by the gates and by the cell, alone, together, and of either half of the result."""
    gates, cell = parameter(rng, (shape[0], 4 * shape[1])), parameter(rng, shape)
    f, i, o = (1 / (1 + np.exp(-z)) for z in np.split(gates.value, 4, axis=1)[:3])
    new = f * cell.value + i * np.tanh(np.split(gates.value, 4, axis=1)[3])
    expected = np.hstack([o * np.tanh(new), new])
    check(rng, gates.lstm_cell(cell), expected, [gates, cell])
    check(rng, gates.lstm_cell(cell.value), expected, [gates])
    check(rng, wyrm.InputNode(gates.shape, gates.value, dtype="float64").lstm_cell(cell), expected, [cell])
    check(rng, gates.lstm_cell(cell)[:, : shape[1]], expected[:, : shape[1]], [gates, cell])
    new_only = gates.lstm_cell(cell)[:, shape[1] :]
    check(rng, new_only, new, [cell])


def test_lstm_cells_in_a_row(backend, rng):
    """A network unrolled: states are used twice, weights at every step."""
    weights, start = parameter(rng, (8, 20)), parameter(rng, (2, 10))
    state, value = start, start.value
    for _ in range(3):
        x = rng.standard_normal((2, 3))
        gates = wyrm.stack([state[:, :5], x], axis=1).dot(weights)
        state = gates.lstm_cell(state[:, 5:]) + state * 0.1
        z = np.split(np.hstack([value[:, :5], x]) @ weights.value, 4, axis=1)
        f, i, o = (1 / (1 + np.exp(-a)) for a in z[:3])
        new = f * value[:, 5:] + i * np.tanh(z[3])
        value = np.hstack([o * np.tanh(new), new]) + value * 0.1
    check(rng, state, value, [weights, start])


def test_lstm_cell_of_bad_shapes(rng):
    gates = parameter(rng, (3, 8))
    for shape in ((3, 3), (3, 8), (1, 1), (3, 1)):
        with pytest.raises(wyrm.ShapeError, match=rf"4 times as many columns as the cell, {4 * shape[1]} .*got 8 in \(3, 8\)"):
            gates.lstm_cell(parameter(rng, shape))
    for rows in (1, 2):
        with pytest.raises(wyrm.ShapeError, match=rf"equally many rows, got \(3, 8\) and \({rows}, 2\)"):
            gates.lstm_cell(np.zeros((rows, 2)))


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_lstm_cell_of_nothing(backend, rng, shape):
    gates, cell = wyrm.ParameterNode(np.zeros((shape[0], 4 * shape[1]))), wyrm.ParameterNode(np.zeros(shape))
    state = gates.lstm_cell(cell)
    state.scalar_sum().backward(1.0)
    assert state.value.shape == (shape[0], 2 * shape[1])
    assert gates.gradient.to_dense().shape == gates.shape


def test_slices(backend, rng):
    """Views of parameters and of computed nodes, used by every kind of kernel."""
    a = parameter(rng, (6, 9))
    value = a.value
    for key in (np.s_[1:4], np.s_[:, 2:5], np.s_[-2:, :3], 2, np.s_[-1, 4], np.s_[:0], np.s_[1:3, 4:4]):
        expected = (
            value[key]
            if isinstance(key, slice)
            else value[
                tuple(slice(k, k + 1 or None) if isinstance(k, int) else k for k in (key if isinstance(key, tuple) else (key,)))
            ]
        )
        check(rng, a[key], expected, [a] if expected.size else [])
        check(rng, a.square()[key] * 2.0, 2 * expected**2, [a] if expected.size else [])
    part = a[1:4, 2:5]
    inner = value[1:4, 2:5]
    check(rng, part.dot(part.t()), inner @ inner.T, [a])
    check(rng, part.t().dot(part), inner.T @ inner, [a])
    check(rng, part.sum(axis=0), inner.sum(0, keepdims=True), [a])
    check(rng, part.softmax().sum(axis=0), (np.exp(inner) / np.exp(inner).sum(1, keepdims=True)).sum(0, keepdims=True), [a])
    check(rng, part[:, 1:2].t(), inner[:, 1:2].T, [a])
    check(rng, part.reshape(1, 9), inner.reshape(1, 9), [a])
    check(rng, part[:, :1].reshape(1, 3) * part[0], inner[:, :1].reshape(1, 3) * inner[:1], [a])
    index = wyrm.IndexInputNode(3, [2, 0, 2])
    check(rng, a[1:4, 2:5].index(index), inner[[2, 0, 2]], [a])
    check(rng, a[:, 3:5].vector_dot(a[:, 5:7]), (value[:, 3:5] * value[:, 5:7]).sum(1, keepdims=True), [a])


def test_powers(backend, rng):
    """Of negative bases by whole exponents too; the slope where the exponent is 0 is 0, at 0 as well."""
    a = wyrm.ParameterNode([[-2.0, -0.5, 0.0, 3.0]], dtype="float64")
    check(rng, a**3, a.value**3, [a])
    check(rng, a ** np.array([[2.0, 1.0, 3.0, -1.5]]), np.array([[4, -0.5, 0, 3**-1.5]]), [a])
    y = a**0
    y.forward()
    a.zero_gradient()
    y.backward(1.0)
    np.testing.assert_array_equal(y.value, np.ones((1, 4)))
    np.testing.assert_array_equal(a.gradient.to_dense(), np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("make", "kind", "pattern"),
    [
        (lambda a: a.sum(axis=2), wyrm.OptionError, "axis 0, 1 or None, got 2"),
        (lambda a: a.mean(axis=-1), wyrm.OptionError, "axis 0, 1 or None, got -1"),
        (lambda a: a.stack(a, axis=2), wyrm.OptionError, "axis 0 or 1, got 2"),
        (lambda a: a.stack(a.t()), wyrm.ShapeError, r"equally many columns, got \(2, 3\) and \(3, 2\)"),
        (lambda a: a.reshape(4, 2), wyrm.ShapeError, r"\(2, 3\) has 6 elements, \(4, 2\) has 8"),
        (lambda a: a.reshape(-1, 4), wyrm.ShapeError, r"\(2, 3\) cannot become \(-1, 4\)"),
        (lambda a: a.reshape(1.5, 4), wyrm.ShapeError, "two whole numbers"),
        (lambda a: a[0:5], wyrm.OutOfRangeError, "rows 0:5 reach beyond the 2"),
        (lambda a: a[:, 3], wyrm.OutOfRangeError, "columns from -3 to 2, got 3"),
        (lambda a: a[::2], wyrm.OptionError, "steps of 1 for the rows, got 2"),
        (lambda a: a["x"], wyrm.OptionError, "a slice or a number for the rows"),
        (lambda a: a[:, :0].softmax(), wyrm.ShapeError, "no elements"),
        (lambda a: wyrm.where(True, 1.0, 2.0), wyrm.DTypeError, "at least one node"),
        (lambda a: wyrm.stack([]), wyrm.DTypeError, "at least one node"),
        (lambda a: a.maximum("x"), wyrm.DTypeError, "real numbers"),
        (list, TypeError, "not iterable"),
    ],
)
def test_bad_arguments(make, kind, pattern):
    with pytest.raises(kind, match=pattern):
        make(wyrm.ParameterNode(np.ones((2, 3)), name="a"))
