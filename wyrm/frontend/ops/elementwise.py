"""Arithmetic, element by element; operands broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wyrm.frontend.op import Op, Operand
from wyrm.kernels import broadcast_shapes

if TYPE_CHECKING:
    from wyrm.frontend.node import Node, NodeLike

__all__ = ["Elementwise"]


def _slope(k: Any, a: Any, p: Any) -> Any:
    """The derivative of a ** p by a: 0 where p is 0, though a ** (p - 1) may be infinite."""
    slope = k.multiply(p, k.power(a, k.subtract(p, k.literal(1.0))))
    return k.select(k.absolute(p), slope, k.literal(0.0))


def _slope_by_exponent(k: Any, y: Any, a: Any, p: Any) -> Any:
    """The derivative of y = a ** p by p: where a is 0, though ln(a) is infinite, 0 from p = 0 on and -infinity below."""
    at_zero = k.select(k.greater(k.literal(0.0), p), k.negate(y), k.literal(0.0))
    return k.select(a, k.multiply(y, k.log(a)), at_zero)


ADD = Op(
    "add",
    broadcast_shapes,
    lambda k, a, b: k.add(a, b),
    (lambda k, g, y, a, b: g, lambda k, g, y, a, b: g),
)
SUBTRACT = Op(
    "subtract",
    broadcast_shapes,
    lambda k, a, b: k.subtract(a, b),
    (lambda k, g, y, a, b: g, lambda k, g, y, a, b: k.negate(g)),
)
MULTIPLY = Op(
    "multiply",
    broadcast_shapes,
    lambda k, a, b: k.multiply(a, b),
    (lambda k, g, y, a, b: k.multiply(g, b), lambda k, g, y, a, b: k.multiply(g, a)),
    local=True,
)
DIVIDE = Op(
    "divide",
    broadcast_shapes,
    lambda k, a, b: k.divide(a, b),
    (lambda k, g, y, a, b: k.divide(g, b), lambda k, g, y, a, b: k.negate(k.multiply(g, k.divide(y, b)))),
    local=True,
)
POWER = Op(
    "power",
    broadcast_shapes,
    lambda k, a, p: k.power(a, p),
    (lambda k, g, y, a, p: k.multiply(g, _slope(k, a, p)), lambda k, g, y, a, p: k.multiply(g, _slope_by_exponent(k, y, a, p))),
    local=True,
)
NEG = Op(
    "neg",
    lambda a: a,
    lambda k, a: k.negate(a),
    (lambda k, g, y, a: k.negate(g),),
)
SQUARE = Op(
    "square",
    lambda a: a,
    lambda k, a: k.multiply(a, a),
    (lambda k, g, y, a: k.multiply(k.multiply(k.literal(2.0), g), a),),
    local=True,
)


class Elementwise(Operand):
    """Arithmetic as operators. Numbers and arrays on the other side become constants."""

    __slots__ = ()

    def __add__(self, other: NodeLike) -> Node:
        return self._binary(ADD, other)

    def __radd__(self, other: NodeLike) -> Node:
        return self._binary_reflected(ADD, other)

    def __sub__(self, other: NodeLike) -> Node:
        return self._binary(SUBTRACT, other)

    def __rsub__(self, other: NodeLike) -> Node:
        return self._binary_reflected(SUBTRACT, other)

    def __mul__(self, other: NodeLike) -> Node:
        return self._binary(MULTIPLY, other)

    def __rmul__(self, other: NodeLike) -> Node:
        return self._binary_reflected(MULTIPLY, other)

    def __truediv__(self, other: NodeLike) -> Node:
        return self._binary(DIVIDE, other)

    def __rtruediv__(self, other: NodeLike) -> Node:
        return self._binary_reflected(DIVIDE, other)

    def __pow__(self, exponent: NodeLike) -> Node:
        return self._binary(POWER, exponent)

    def __rpow__(self, base: NodeLike) -> Node:
        return self._binary_reflected(POWER, base)

    def __neg__(self) -> Node:
        return self._unary(NEG)

    def power(self, exponent: NodeLike) -> Node:
        """Each element to the power of ``exponent``, as ``node ** exponent``, with gradients for both.

        As in NumPy, a negative element has a power for whole exponents alone, else NaN. The gradient for the exponent is the
        result times the element's logarithm: NaN if the element is negative; if it is 0, 0 (for exponents below 0, -infinity).
        """
        return self._binary(POWER, exponent)

    def neg(self) -> Node:
        """The node with its sign changed, as ``-node``."""
        return self._unary(NEG)

    def square(self) -> Node:
        """Each element times itself."""
        return self._unary(SQUARE)
