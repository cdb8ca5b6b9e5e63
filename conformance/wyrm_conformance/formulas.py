"""The kernels as formulas of NumPy on numbers of extended precision, and how far from them a kernel may be.

``ELEMENTWISE`` is bounded in units in the last place (``BOUNDS``); the others by a number of roundings of the largest element
(``ROUNDINGS``), for each term of a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wyrm.program import Shape
from wyrm_conformance.context import Array

__all__ = ["BOUNDS", "COLUMNS", "ELEMENTWISE", "ROUNDINGS", "SHAPED", "WIDE"]

WIDE: Any = np.longdouble


def sigmoid(a: Array) -> Array:
    """The exponential that cannot overflow."""
    result: Array = np.exp(np.minimum(a, 0)) / (1 + np.exp(-np.abs(a)))
    return result


def _power(a: Array, b: Array) -> Array:
    # A copy of the exponents: of one that is repeated, NumPy makes square roots and the like, which differ at -infinity.
    result: Array = np.power(a, np.array(np.broadcast_to(b, np.broadcast_shapes(a.shape, b.shape))))
    return result


def lstm_cell(gates: Array, cell: Array) -> Array:
    """As the kernel table has it."""
    f, i, o = map(sigmoid, np.split(gates, 4, axis=1)[:3])
    g = np.tanh(np.split(gates, 4, axis=1)[3])
    c = f * cell + i * g
    return np.hstack([o * np.tanh(c), c, f, i, o, g, np.tanh(c)])


def lstm_cell_vjp(dh: Array, dc: Array, saved: Array, cell: Array) -> Array:
    """As the kernel table has it."""
    _, _, f, i, o, g, t = np.split(saved, 7, axis=1)
    d = dc + dh * o * (1 - t**2)
    return np.hstack([d * cell * f * (1 - f), d * g * i * (1 - i), dh * t * o * (1 - o), d * i * (1 - g**2), d * f])


ELEMENTWISE: dict[str, Callable[..., Array]] = {
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
    "sigmoid": sigmoid,
    "softplus": lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))),
    "power": _power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": lambda a, b: (a > b).astype(WIDE),
    "select": lambda condition, a, b: np.asarray(np.where(condition != 0, a, b)),
}
#: Units in the last place: exact; rounded once; transcendental. What NumPy says of its own exponentials and logarithms in
#: float32 is 2.52 and 3.83 (release notes of 1.17); what is made of them adds a rounding for each operation.
BOUNDS: dict[str, float] = {
    **dict.fromkeys(("greater", "select"), 0.0),
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "negate", "sqrt", "absolute", "maximum", "minimum"), 0.5),
    "exp": 3.0,
    "log": 4.0,
    "tanh": 3.0,
    "power": 2.0,
    "sigmoid": 4.0,
    "softplus": 4.0,
}

#: Formulas of one matrix, and the shape of the result.
SHAPED: dict[str, tuple[Callable[[Array], Array], Callable[[int, int], Shape]]] = {
    "copy": (lambda a: a, lambda rows, cols: (rows, cols)),
    "row_max": (lambda a: a.max(axis=1, keepdims=True), lambda rows, cols: (rows, 1)),
    "transpose": (lambda a: a.T, lambda rows, cols: (cols, rows)),
    "logsumexp": (lambda a: np.log(np.exp(a).sum(axis=1, keepdims=True)), lambda rows, cols: (rows, 1)),
    "softmax": (lambda a: np.exp(a) / np.exp(a).sum(axis=1, keepdims=True), lambda rows, cols: (rows, cols)),
}
#: Formulas over the columns of a cell; how many times as many columns each operand has, and the result.
COLUMNS: dict[str, tuple[Callable[..., Array], tuple[int, ...], int]] = {
    "lstm_cell": (lstm_cell, (4, 1), 7),
    "lstm_cell_vjp": (lstm_cell_vjp, (1, 1, 7, 1), 5),
}
#: How many roundings, for each term where there is a sum.
ROUNDINGS = {"copy": 1.0, "row_max": 1.0, "transpose": 1.0, "logsumexp": 2.0, "softmax": 2.0, "sum": 1.0, "matmul": 2.0}
ROUNDINGS |= {"row_dot": 2.0, "lstm_cell": 16.0, "lstm_cell_vjp": 16.0}
