"""Kernels one by one, against NumPy in extended precision: accuracy in units in the last place, at all sizes, far and wide."""

import numpy as np
import pytest

import wyrm
from wyrm.frontend.compiled import compiled
from wyrm.kernels import KERNELS
from wyrm.memory import Leaves, Memory
from wyrm.program import Buffer, Instruction, Program, Slot

pytestmark = pytest.mark.variants

WIDE = np.longdouble
#: NumPy's formulas on numbers of extended precision.
FORMULAS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "negate": np.negative,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "absolute": np.absolute,
    "tanh": np.tanh,
    "sigmoid": lambda a: np.where(a < 0, np.exp(a) / (1 + np.exp(a)), 1 / (1 + np.exp(-a))),
    "softplus": lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))),
    "power": lambda a, b: np.power(*np.broadcast_arrays(a, b)),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": lambda a, b: (a > b).astype(WIDE),
    "select": lambda c, a, b: np.where(c != 0, a, b),
}
#: How many units in the last place a result may be off, by kernel.
BOUNDS = dict.fromkeys(("add", "subtract", "multiply", "divide", "negate", "sqrt", "absolute", "maximum", "minimum"), 0.5)
BOUNDS |= {"greater": 0, "select": 0, "exp": 2, "log": 3, "tanh": 3, "sigmoid": 4, "softplus": 3, "power": 2}
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130]
INTERESTING = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    np.inf,
    -np.inf,
    np.nan,
    1e-40,
    -1e-40,
    1e-45,
    3e38,
    -3e38,
    88.7,
    -103.0,
    1e-8,
    0.624,
    0.626,
]


def run(backend, kernel, operands, shape, dtype, accumulate=False, attributes=()):
    """One instruction, on operands that lie in a buffer full of NaN; the result, and whether anything around it was touched."""
    offset, slots, pieces = 3, [], []
    for operand in [np.zeros(shape), *operands]:
        rows, cols = operand.shape
        stride = cols + 2
        slots.append(Slot(0, offset, (rows, cols), stride))
        pieces.append((offset, operand, stride))
        offset += rows * stride + 5
    program = Program(
        "interactive",
        dtype,
        (Buffer("real"), Buffer("index")),
        real_length=offset,
        forward=(Instruction(kernel, slots[0], tuple(slots[1:]), attributes, accumulate),),
    )
    memory = Memory(program, Memory.own(program))
    real = memory.buffers[0]
    real[:] = np.nan
    views = []
    for start, operand, stride in pieces:
        rows, cols = operand.shape
        view = np.lib.stride_tricks.as_strided(real[start:], (rows, cols), (stride * real.itemsize, real.itemsize))
        views.append(view)
        if operand is not pieces[0][1]:
            view[...] = operand
    if accumulate:
        views[0][...] = 1
    before = real.copy()
    forward, _ = compiled(program, backend).bind(memory).attached(Leaves(1))
    assert forward() == 0
    result = views[0].copy()
    views[0][...] = before[0] if before.size else 0
    untouched = before.copy()
    start, _, stride = pieces[0]
    np.lib.stride_tricks.as_strided(untouched[start:], shape, (stride * real.itemsize, real.itemsize))[...] = before[0]
    np.testing.assert_array_equal(real, untouched)
    return result


def ulps(actual, expected, dtype):
    """The largest error in units of the last place, infinite where one alone is NaN or infinite, or a zero has the wrong
    sign."""
    with np.errstate(all="ignore"):
        rounded = expected.astype(dtype)
        same = (actual == rounded) | (np.isnan(actual) & np.isnan(rounded))
        same &= (rounded != 0) | (np.signbit(actual) == np.signbit(rounded))
        if np.any(~same & ~(np.isfinite(actual) & np.isfinite(expected) & (rounded != 0))):
            return np.inf
        unit = np.spacing(np.maximum(np.abs(rounded), np.finfo(dtype).tiny)).astype(WIDE)
        error = np.abs(actual.astype(WIDE) - expected) / unit
    return float(np.where(same, 0, error).max(initial=0))


def arguments(rng, kernel, shape, dtype):
    count = len(KERNELS[kernel].operands)
    scale = {"exp": 30, "sigmoid": 30, "softplus": 30, "tanh": 3}.get(kernel, 2)
    values = [(rng.standard_normal(shape) * scale).astype(dtype) for _ in range(count)]
    if kernel in ("log", "sqrt", "power"):
        values[0] = np.abs(values[0])
    if kernel == "select":
        values[0] = np.round(values[0] / 2)
    return values


ELEMENTWISE = [kernel.name for kernel in KERNELS.values() if kernel.elementwise]


def test_every_elementwise_kernel_has_a_formula_and_a_bound():
    assert set(ELEMENTWISE) == set(FORMULAS) == set(BOUNDS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", ELEMENTWISE)
def test_elementwise(backend, rng, kernel, dtype):
    """Every size around vector widths, within bounds; nothing beside the result is touched."""
    for n in SIZES:
        for rows in (1, 3):
            operands = arguments(rng, kernel, (rows, n), dtype)
            with np.errstate(all="ignore"):
                expected = FORMULAS[kernel](*(o.astype(WIDE) for o in operands))
            result = run(wyrm.get_backend(), kernel, operands, (rows, n), dtype)
            assert ulps(result, expected, dtype) <= BOUNDS[kernel] + (0.01 if BOUNDS[kernel] else 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", ELEMENTWISE)
def test_elementwise_at_the_limits(backend, kernel, dtype):
    """NaN, infinities, zeros of both signs, the smallest and the largest numbers, in every combination."""
    count = len(KERNELS[kernel].operands)
    grid = np.meshgrid(*[np.array(INTERESTING, dtype)] * count)
    operands = [axis.reshape(1, -1) for axis in grid]
    with np.errstate(all="ignore"):
        expected = FORMULAS[kernel](*(o.astype(WIDE) for o in operands))
        narrow = expected.astype(dtype)  # what overflows or vanishes there does not in extended precision
        expected = np.where(np.isfinite(narrow) & (narrow != 0), expected, narrow)
        if kernel in ("maximum", "minimum"):  # which zero is the larger one is left open
            operands, expected = [o + 0.0 for o in operands], expected + 0.0
        result = run(wyrm.get_backend(), kernel, operands, operands[0].shape, dtype)
    assert ulps(result, expected, dtype) <= BOUNDS[kernel] + (0.01 if BOUNDS[kernel] else 0)


@pytest.mark.parametrize("kernel", [name for name in ELEMENTWISE if len(KERNELS[name].operands) > 1])
def test_elementwise_with_broadcasting(backend, rng, kernel):
    count = len(KERNELS[kernel].operands)
    for shape in ((4, 5), (3, 17), (1, 9), (6, 1)):
        for _ in range(6):
            shapes = [tuple(length if rng.random() < 0.5 else 1 for length in shape) for _ in range(count)]
            shapes[int(rng.integers(count))] = shape
            operands = [arguments(rng, kernel, s, "float64")[n] for n, s in enumerate(shapes)]
            with np.errstate(all="ignore"):
                expected = FORMULAS[kernel](*operands)
            result = run(wyrm.get_backend(), kernel, operands, shape, "float64")
            np.testing.assert_allclose(result, expected, rtol=1e-14)
            result = run(wyrm.get_backend(), kernel, operands, shape, "float64", accumulate=True)
            np.testing.assert_allclose(result, 1 + expected, rtol=1e-14, atol=1e-14)


OTHERS = {
    "copy": (lambda a: a, "same"),
    "sum": (lambda a: a.sum(axis=1, keepdims=True), "rows"),
    "row_max": (lambda a: a.max(axis=1, keepdims=True), "rows"),
    "transpose": (lambda a: a.T, "turned"),
    "logsumexp": (lambda a: np.log(np.exp(a).sum(axis=1, keepdims=True)), "rows"),
    "softmax": (lambda a: np.exp(a) / np.exp(a).sum(axis=1, keepdims=True), "same"),
}


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", OTHERS)
def test_others(backend, rng, kernel, dtype, accumulate):
    chosen = wyrm.get_backend()
    if KERNELS[kernel].optional and kernel not in chosen.capabilities.kernels:
        pytest.skip(f"{backend} does not declare {kernel}")
    formula, shape_rule = OTHERS[kernel]
    for n in SIZES[1:]:
        a = rng.standard_normal((3, n)).astype(dtype)
        shape = {"same": (3, n), "rows": (3, 1), "turned": (n, 3)}[shape_rule]
        result = run(chosen, kernel, [a], shape, dtype, accumulate)
        expected = formula(a.astype(WIDE)) + int(accumulate)
        np.testing.assert_allclose(result, expected.astype(dtype), rtol=3e-6 if dtype == "float32" else 1e-14, atol=1e-6)


def test_sums_along_each_axis(backend, rng):
    a = rng.standard_normal((7, 19))
    for shape, axis in (((1, 1), None), ((1, 19), 0), ((7, 1), 1), ((7, 19), ())):
        expected = a.sum(axis=axis, keepdims=True)
        for accumulate in (False, True):
            result = run(wyrm.get_backend(), "sum", [a], shape, "float64", accumulate)
            np.testing.assert_allclose(result, expected + int(accumulate), rtol=1e-13)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("turns", [(False, False), (True, False), (False, True), (True, True)], ids=str)
def test_matmul(backend, rng, turns, accumulate):
    """Either operand transposed, with rows apart, at sizes around the blocks that kernels work in."""
    attributes = (("transpose_a", turns[0]), ("transpose_b", turns[1]))
    for m, k, n in [(1, 1, 1), (4, 3, 64), (5, 9, 17), (3, 70, 33), (9, 0, 4), (2, 5, 0), (13, 16, 130), (8, 33, 8)]:
        a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
        operands = [a.T if turns[0] else a, b.T if turns[1] else b]
        for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-4)):
            result = run(wyrm.get_backend(), "matmul", operands, (m, n), dtype, accumulate, attributes)
            np.testing.assert_allclose(result, a @ b + int(accumulate), rtol=tolerance, atol=tolerance)


def test_row_dot(backend, rng):
    if "row_dot" not in wyrm.get_backend().capabilities.kernels:
        pytest.skip(f"{backend} does not declare row_dot")
    for n in SIZES:
        for shapes in (((3, n), (3, n)), ((1, n), (3, n)), ((3, 1), (3, n)), ((3, n), (1, 1))):
            a, b = (rng.standard_normal(s) for s in shapes)
            for accumulate in (False, True):
                result = run(wyrm.get_backend(), "row_dot", [a, b], (3, 1), "float64", accumulate)
                np.testing.assert_allclose(result, (a * b).sum(1, keepdims=True) + int(accumulate), rtol=1e-12, atol=1e-13)


def gate(a):
    return np.exp(np.minimum(a, 0)) / (1 + np.exp(-np.abs(a)))


def lstm_cell(gates, cell):
    f, i, o = map(gate, np.split(gates, 4, axis=1)[:3])
    g = np.tanh(np.split(gates, 4, axis=1)[3])
    c = f * cell + i * g
    return np.hstack([o * np.tanh(c), c, f, i, o, g, np.tanh(c)])


def lstm_cell_vjp(gradient, saved, cell):
    dh, dc = np.split(gradient, 2, axis=1)
    _, _, f, i, o, g, t = np.split(saved, 7, axis=1)
    d = dc + dh * o * (1 - t**2)
    return np.hstack([d * cell * f * (1 - f), d * g * i * (1 - i), dh * t * o * (1 - o), d * i * (1 - g**2), d * f])


#: Formulas of kernels over the columns of a cell; how many times as many the operands have, and the result.
CELLS = {
    "lstm_cell": (lstm_cell, (4, 1), 7),
    "lstm_cell_vjp": (lstm_cell_vjp, (2, 7, 1), 5),
}


def test_every_optional_kernel_is_tested_here():
    """By itself, where a backend declares it; what it expands to is tested by the ops that need it.

    Chains, and rows that are read where they stand, are in test_fusion.py.
    """
    assert {k.name for k in KERNELS.values() if k.optional} == {
        *CELLS,
        "row_dot",
        "fused",
        "lookup",
        *(k for k in OTHERS if KERNELS[k].optional),
    }


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", CELLS)
def test_cells(backend, rng, kernel, dtype, accumulate):
    """Every width around vector widths, with rows apart; nothing beside the result is touched."""
    chosen = wyrm.get_backend()
    if kernel not in chosen.capabilities.kernels:
        pytest.skip(f"{backend} does not declare {kernel}")
    formula, operand_widths, result_width = CELLS[kernel]
    for n in SIZES:
        for rows in (1, 3):
            operands = [(rng.standard_normal((rows, w * n)) * 2).astype(dtype) for w in operand_widths]
            expected = formula(*(o.astype(WIDE) for o in operands)) + int(accumulate)
            result = run(chosen, kernel, operands, (rows, result_width * n), dtype, accumulate)
            tolerance = 3e-6 if dtype == "float32" else 1e-14
            scale = max(1, np.abs(expected).max(initial=0)) if kernel == "lstm_cell_vjp" else 1  # sums that cancel
            np.testing.assert_allclose(result, expected.astype(dtype), rtol=tolerance, atol=tolerance * float(scale))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_at_the_limits(backend, dtype):
    """Gates that are shut or wide open are exactly so, at infinity too; NaN stays where it belongs."""
    if "lstm_cell" not in wyrm.get_backend().capabilities.kernels:
        pytest.skip(f"{backend} does not declare lstm_cell")
    limits = np.array([1e4, -1e4, np.inf, -np.inf, np.nan, 0.0], dtype)
    gates, cell = np.tile(limits, 4).reshape(1, -1), np.full((1, 6), 0.5, dtype)
    expected = lstm_cell(gates.astype(WIDE), cell.astype(WIDE)).astype(dtype)
    result = run(wyrm.get_backend(), "lstm_cell", [gates, cell], (1, 42), dtype)
    np.testing.assert_allclose(result, expected, rtol=3e-6 if dtype == "float32" else 1e-14)
    np.testing.assert_array_equal(result.reshape(7, 6)[2:6, :4], np.array([[1, 0, 1, 0]] * 3 + [[1, -1, 1, -1]]))
    np.testing.assert_array_equal(np.isnan(result.reshape(7, 6)), np.array([[False] * 4 + [True, False]] * 7))
