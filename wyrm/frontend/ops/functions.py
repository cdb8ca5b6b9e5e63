"""Functions of single elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wyrm.frontend.op import Op, Operand

if TYPE_CHECKING:
    from wyrm.frontend.node import Node

__all__ = ["Functions"]

EXP = Op(
    "exp",
    lambda a: a,
    lambda k, a: k.exp(a),
    (lambda k, g, y, a: k.multiply(g, y),),
    local=True,
)
LN = Op(
    "ln",
    lambda a: a,
    lambda k, a: k.log(a),
    (lambda k, g, y, a: k.divide(g, a),),
    local=True,
)
SQRT = Op(
    "sqrt",
    lambda a: a,
    lambda k, a: k.sqrt(a),
    (lambda k, g, y, a: k.divide(k.multiply(k.literal(0.5), g), y),),
    local=True,
)
ABS = Op(
    "abs",
    lambda a: a,
    lambda k, a: k.absolute(a),
    (lambda k, g, y, a: k.multiply(g, k.subtract(k.greater(a, k.literal(0.0)), k.greater(k.literal(0.0), a))),),
    local=True,
)
TANH = Op(
    "tanh",
    lambda a: a,
    lambda k, a: k.tanh(a),
    # 1 - y ** 2, in the form that keeps its digits where y is close to 1 or -1
    (lambda k, g, y, a: k.multiply(g, k.multiply(k.subtract(k.literal(1.0), y), k.add(k.literal(1.0), y))),),
    local=True,
)
SIGMOID = Op(
    "sigmoid",
    lambda a: a,
    lambda k, a: k.sigmoid(a),
    (lambda k, g, y, a: k.multiply(g, k.multiply(y, k.subtract(k.literal(1.0), y))),),
    local=True,
)
LOG_SIGMOID = Op(
    "log_sigmoid",
    lambda a: a,
    lambda k, a: k.negate(k.softplus(k.negate(a))),
    (lambda k, g, y, a: k.multiply(g, k.sigmoid(k.negate(a))),),
    local=True,
)
SOFTPLUS = Op(
    "softplus",
    lambda a: a,
    lambda k, a: k.softplus(a),
    (lambda k, g, y, a: k.multiply(g, k.sigmoid(a)),),
    local=True,
)


class Functions(Operand):
    """Functions of single elements as methods."""

    __slots__ = ()

    def exp(self) -> Node:
        """The exponential of each element."""
        return self._unary(EXP)

    def ln(self) -> Node:
        """The natural logarithm of each element; NaN of negative ones, as in NumPy."""
        return self._unary(LN)

    def sqrt(self) -> Node:
        """The square root of each element; NaN of negative ones, as in NumPy."""
        return self._unary(SQRT)

    def abs(self) -> Node:
        """The absolute value of each element; its slope at 0 is 0."""
        return self._unary(ABS)

    def __abs__(self) -> Node:
        return self._unary(ABS)

    def tanh(self) -> Node:
        """The hyperbolic tangent of each element."""
        return self._unary(TANH)

    def sigmoid(self) -> Node:
        """``1 / (1 + exp(-x))`` of each element x; exact to rounding at any x."""
        return self._unary(SIGMOID)

    def log_sigmoid(self) -> Node:
        """``ln(sigmoid(x))`` of each element x, without loss at any x."""
        return self._unary(LOG_SIGMOID)

    def softplus(self) -> Node:
        """``ln(1 + exp(x))`` of each element x, without loss at any x."""
        return self._unary(SOFTPLUS)
