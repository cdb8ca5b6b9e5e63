"""Bounds of numbers in programs: what the kernels compute never exceeds them, and what has none is looked at."""

import numpy as np
import pytest

import wyrm
from wyrm.frontend.lowering.bounds import Bounds
from wyrm.frontend.lowering.implied import implied
from wyrm.frontend.lowering.value import Value
from wyrm.optim import SGD
from wyrm.reference import ReferenceBackend

#: Kernels: the shapes of their operands, attributes, and the exponents of these, none of which leads to an overflow.
CASES = {
    "add": ([(2, 3), (2, 3)], {}, (5.0, 5.0)),
    "subtract": ([(2, 3), (1, 3)], {}, (5.0, 4.0)),
    "multiply": ([(2, 3), (2, 3)], {}, (5.0, 4.0)),
    "negate": ([(2, 3)], {}, (5.0,)),
    "maximum": ([(2, 3), (2, 3)], {}, (3.0, 5.0)),
    "minimum": ([(2, 3), (2, 3)], {}, (5.0, 3.0)),
    "select": ([(2, 3), (2, 3), (2, 3)], {}, (-np.inf, 3.0, 5.0)),
    "greater": ([(2, 3), (2, 3)], {}, (-4.0, -5.0)),
    "sum": ([(4, 3)], {"axis": 0}, (5.0,)),
    "row_max": ([(4, 3)], {}, (5.0,)),
    "matmul": ([(2, 9), (9, 3)], {}, (5.0, 4.0)),
    "row_dot": ([(2, 9), (2, 9)], {}, (5.0, 4.0)),
    "tanh": ([(2, 3)], {}, (5.0,)),
    "sigmoid": ([(2, 3)], {}, (5.0,)),
    "softmax": ([(2, 3)], {}, (5.0,)),
    "softplus": ([(2, 3)], {}, (-3.0,)),
    "logsumexp": ([(2, 40)], {}, (-3.0,)),
    "exp": ([(2, 3)], {}, (3.0,)),
}


#: Those that are optional, and of which the reference has an expansion.
FORMULAS = {
    "row_dot": lambda a, b: (a * b).sum(1, keepdims=True),
    "softmax": lambda a: np.exp(a) / np.exp(a).sum(1, keepdims=True),
    "logsumexp": lambda a: np.log(np.exp(a).sum(1, keepdims=True)),
}


@pytest.mark.parametrize("kernel", CASES)
def test_results_do_not_exceed_their_bound(kernel):
    """With operands that are as large as their bounds allow, of any sign; added to a result that is as large, too."""
    shapes, attributes, exponents = CASES[kernel]
    operands = tuple(Value("", shape=shape, place=("input", n)) for n, shape in enumerate(shapes))
    rng = np.random.default_rng(1)
    formula, largest = {**ReferenceBackend.kernels, **FORMULAS}[kernel], 0.0
    for trial in range(30):
        signs = [np.ones(shape) if not trial else rng.choice([-1.0, 1.0], shape) for shape in shapes]
        arrays = [2.0**exponent * sign for exponent, sign in zip(exponents, signs, strict=True)]
        result = formula(*arrays, **attributes)
        largest = max(largest, np.abs(result).max() * (1 - 1e-12))
    value, total = (Value(kernel, operands, attributes, result.shape) for _ in range(2))
    total.onto = value
    bounds = Bounds("float32", [])
    bounds._known |= dict(zip(operands, exponents, strict=True))
    bounds.add([value, total])
    assert largest <= 2.0 ** bounds.of(value) < 2.0**20
    assert 2 * largest <= 2.0 ** bounds.of(total)


def test_what_may_overflow_has_no_bound():
    a, b = (Value("", shape=(1, 1), place=("input", n)) for n in range(2))
    product = Value("multiply", (Value("multiply", (a, b), None, (1, 1)), a), None, (1, 1))
    assert Bounds("float32", [product.operands[0]]).of(product.operands[0]) == 120
    assert Bounds("float32", [product.operands[0], product]).of(product) == np.inf
    assert Bounds("float32", [product.operands[0]], large=True).of(product.operands[0]) == np.inf


def test_rows_that_may_be_behind_are_no_larger_than_parameters():
    table = Value("", shape=(4, 2), place=("value", 0))
    exponents = {"current": 60, "current_rows": 60, "current_bag": 80}
    values = {kernel: Value(kernel, (table,) * 4, None, (4, 2)) for kernel in exponents}
    bounds = Bounds("float32", values.values())
    assert {kernel: bounds.of(value) for kernel, value in values.items()} == exponents


def _call(kernel, *operands, shape=(2, 3), **attributes):
    return Value(kernel, operands, attributes, shape)


def test_what_a_finite_loss_says_of_its_operands():
    """Terms and factors are finite; what a function limits is a number; nothing is known of what may be left out."""
    a, b, c, d = (_call("power", Value("", shape=(2, 3), place=("input", n))) for n in range(4))
    tanh, largest, chosen = _call("tanh", b), _call("maximum", a, c), _call("select", a, d, d)
    product = _call("multiply", _call("add", a, tanh), _call("sum", largest, shape=(1, 1)))
    loss = _call("sum", _call("add", product, chosen), shape=(1, 1))
    found = implied(loss, 128)
    assert {found[value] for value in (product, chosen, tanh, a)} == {128}
    assert {found[value] for value in (b, c)} == {np.inf}
    assert d not in found
    bounds = Bounds("float32", [a, b, c, d, tanh, largest, chosen, product], loss)
    assert bounds.of(tanh) == 0
    assert Bounds("float32", [b, tanh]).of(tanh) == np.inf


def test_a_look_at_a_matrix_tells_of_its_parts():
    """Of those columns only; and of what is computed from these."""
    left, right, other = (_call("power", Value("", shape=(2, 3), place=("input", n))) for n in range(3))
    row = _call("blocks", left, right, shape=(2, 6), places=((0, 0), (0, 3)))
    stack = _call("blocks", row, other, shape=(4, 6), places=((0, 0), (2, 0)))
    total = _call("add", right, _call("negate", right))
    bounds = Bounds("float32", [left, right, other, row, stack, total.operands[1], total])
    copied = bounds.copy()
    bounds.limit(_call("slice", stack, shape=(4, 3), row=0, col=3), 50)
    assert [bounds.again(value) for value in (left, right, row, stack, total)] == [np.inf, 50, np.inf, np.inf, 51]
    assert bounds.again(_call("slice", row, shape=(2, 2), row=0, col=4)) == 50
    assert bounds.again(_call("slice", row, shape=(2, 2), row=0, col=2)) == np.inf
    assert copied.again(right) == np.inf


def test_a_product_of_two_finite_matrices_that_overflows_ends_training(backend):
    """Neither factor has a bound, and each is finite; only the gradient, their product, is not."""
    x, weight, scale = wyrm.InputNode((1, 8)), wyrm.ParameterNode(np.zeros((8, 8))), wyrm.InputNode((1, 8))
    loss = (x.exp().dot(weight) * scale.exp()).scalar_sum()
    feed = {x: np.full((1, 1, 8), 60.0), scale: np.full((1, 1, 8), 60.0)}
    assert wyrm.evaluate(loss, feed, backend=backend).item() == 0
    with pytest.raises(wyrm.NotFiniteError, match="gradient"):
        wyrm.fit(loss, feed, SGD(0.1, [weight]), backend=backend)
    assert (weight.value == 0).all()
