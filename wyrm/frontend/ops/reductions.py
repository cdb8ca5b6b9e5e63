"""Sums and means, and what normalises rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wyrm.arguments import shown
from wyrm.errors import OptionError
from wyrm.frontend.op import Op, Operand
from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.node import Node

__all__ = ["Reductions"]


def _reduced(a: Shape, axis: int | None) -> Shape:
    return 1 if axis != 1 else a[0], 1 if axis != 0 else a[1]


def _count(a: Any, axis: int | None) -> float:
    rows, cols = a.shape
    return float({None: rows * cols, 0: rows, 1: cols}[axis])


def _needs_columns(a: Shape) -> Shape:
    if a[1] == 0:
        raise ValueError(f"rows of {a} have no elements, and so no largest one")
    return a


def _weights(k: Any, a: Any, y: Any) -> Any:
    """What each element weighs in the sum of which y is the logarithm; 0 of each in a row of -infinity alone."""
    shift = k.select(k.greater(k.literal(1.0), k.subtract(y, y)), y, k.maximum(y, k.literal(0.0)))
    return k.exp(k.subtract(a, shift))


def _log_softmax(k: Any, a: Any) -> Any:
    shifted = k.subtract(a, k.row_max(a))  # so that the result keeps its digits where a is large
    return k.subtract(shifted, k.logsumexp(shifted))


SUM = Op(
    "sum",
    _reduced,
    lambda k, a, axis: k.sum(a, axis=axis),
    (lambda k, g, y, a, axis: g,),  # of length 1 along the axis; differentiation repeats it
)
MEAN = Op(
    "mean",
    _reduced,
    lambda k, a, axis: k.divide(k.sum(a, axis=axis), k.literal(_count(a, axis))),
    (lambda k, g, y, a, axis: k.divide(g, k.literal(_count(a, axis))),),
)
LOGSUMEXP = Op(
    "logsumexp",
    lambda a: (_needs_columns(a)[0], 1),
    lambda k, a: k.logsumexp(a),
    (lambda k, g, y, a: k.multiply(g, _weights(k, a, y)),),
    local=True,
)
SOFTMAX = Op(
    "softmax",
    _needs_columns,
    lambda k, a: k.softmax(a),
    (lambda k, g, y, a: k.multiply(y, k.subtract(g, k.row_dot(g, y))),),
)
LOG_SOFTMAX = Op(
    "log_softmax",
    _needs_columns,
    _log_softmax,
    (lambda k, g, y, a: k.subtract(g, k.multiply(k.exp(y), k.sum(g, axis=1))),),
)


class Reductions(Operand):
    """Reductions as methods."""

    __slots__ = ()

    def sum(self, axis: int | None = None) -> Node:
        """The sum of all elements, of shape (1, 1), or along an axis.

        Parameters
        ----------
        axis
            0: down each column, of shape (1, columns). 1: along each row, of shape (rows, 1). ``None``: of all.
        """
        return self._unary(SUM, (("axis", _axis("sum", axis)),))

    def scalar_sum(self) -> Node:
        """The sum of all elements, of shape (1, 1)."""
        return self._unary(SUM, (("axis", None),))

    def mean(self, axis: int | None = None) -> Node:
        """The mean of all elements, or along an axis, as for :meth:`sum`; NaN of none."""
        return self._unary(MEAN, (("axis", _axis("mean", axis)),))

    def logsumexp(self) -> Node:
        """``ln(sum(exp(x)))`` of each row, without overflow, of shape (rows, 1).

        An element of -infinity, such as a mask, adds nothing and has a gradient of 0. A row of them alone gives -infinity, with
        gradients of 0; a row with +infinity gives +infinity, and has no finite gradient.
        """
        return self._unary(LOGSUMEXP)

    def softmax(self) -> Node:
        """Each row's exponentials, divided by their sum, without overflow.

        An element of -infinity, such as a mask, becomes 0. A row of -infinity alone, or with +infinity, has no limit: NaN.
        """
        return self._unary(SOFTMAX)

    def log_softmax(self) -> Node:
        """The logarithm of :meth:`softmax`, without loss where it is close to 0; of infinities, likewise."""
        return self._unary(LOG_SOFTMAX)


def _axis(op: str, axis: int | None) -> int | None:
    if axis is not None and (not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or axis not in (0, 1)):
        raise OptionError(f"{op}: expected axis 0, 1 or None, got {shown(axis)}")
    return axis
