"""Products of matrices and of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wyrm.frontend.op import Op, Operand
from wyrm.kernels import broadcast_shapes
from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.node import Node, NodeLike

__all__ = ["Products"]


def _dot(a: Shape, b: Shape) -> Shape:
    if a[1] != b[0]:
        raise ValueError(
            f"the columns of the left operand, {a[1]} of {a}, must equal the rows of the right one, {b[0]} of {b}; "
            f"transpose one of them with .t() if that is what you mean"
        )
    return a[0], b[1]


def _vector_dot(a: Shape, b: Shape) -> Shape:
    return broadcast_shapes(a, b)[0], 1


DOT = Op(
    "dot",
    _dot,
    lambda k, a, b: k.matmul(a, b),
    (
        lambda k, g, y, a, b: k.matmul(g, b, transpose_b=True),
        lambda k, g, y, a, b: k.matmul(a, g, transpose_a=True),
    ),
)
VECTOR_DOT = Op(
    "vector_dot",
    _vector_dot,
    lambda k, a, b: k.row_dot(a, b),
    (lambda k, g, y, a, b: k.multiply(g, b), lambda k, g, y, a, b: k.multiply(g, a)),
    local=True,
)


class Products(Operand):
    """Products as methods."""

    __slots__ = ()

    def dot(self, other: NodeLike) -> Node:
        """The product of matrices, (m, k) with (k, n), of shape (m, n)."""
        return self._binary(DOT, other)

    def __matmul__(self, other: NodeLike) -> Node:
        return self._binary(DOT, other)

    def __rmatmul__(self, other: NodeLike) -> Node:
        return self._binary_reflected(DOT, other)

    def vector_dot(self, other: NodeLike) -> Node:
        """The inner product of each row with the same row of ``other``, (m, n) with (m, n), of shape (m, 1)."""
        return self._binary(VECTOR_DOT, other)
