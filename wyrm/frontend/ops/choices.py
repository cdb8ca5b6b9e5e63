"""Ops that choose between elements. Where two are equal, each has half of the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wyrm.frontend.op import Op, Operand
from wyrm.kernels import broadcast_shapes

if TYPE_CHECKING:
    from wyrm.frontend.node import Node, NodeLike

__all__ = ["Choices", "where"]


def _share(k: Any, g: Any, mine: Any, other: Any) -> Any:
    """The gradient where ``mine`` is greater, half of it where both are equal."""
    half = k.multiply(k.literal(0.5), g)
    return k.select(k.greater(mine, other), g, k.select(k.greater(other, mine), k.literal(0.0), half))


MAXIMUM = Op(
    "maximum",
    broadcast_shapes,
    lambda k, a, b: k.maximum(a, b),
    (lambda k, g, y, a, b: _share(k, g, a, b), lambda k, g, y, a, b: _share(k, g, b, a)),
    masks=True,
)
MINIMUM = Op(
    "minimum",
    broadcast_shapes,
    lambda k, a, b: k.minimum(a, b),
    (lambda k, g, y, a, b: _share(k, g, b, a), lambda k, g, y, a, b: _share(k, g, a, b)),
    masks=True,
)
RELU = Op(
    "relu",
    lambda a: a,
    lambda k, a: k.maximum(a, k.literal(0.0)),
    (lambda k, g, y, a: k.select(k.greater(a, k.literal(0.0)), g, k.literal(0.0)),),
    masks=True,
)
CLIP = Op(
    "clip",
    broadcast_shapes,
    lambda k, a, low, high: k.minimum(k.maximum(a, low), high),
    # the gradient is the element's from bound to bound, both included; beyond, it is the bound's
    (
        lambda k, g, y, a, low, high: k.select(k.maximum(k.greater(low, a), k.greater(a, high)), k.literal(0.0), g),
        lambda k, g, y, a, low, high: k.select(
            k.greater(low, high), k.literal(0.0), k.select(k.greater(low, a), g, k.literal(0.0))
        ),
        lambda k, g, y, a, low, high: k.select(k.maximum(k.greater(a, high), k.greater(low, high)), g, k.literal(0.0)),
    ),
    masks=True,
)
WHERE = Op(
    "where",
    broadcast_shapes,
    lambda k, condition, a, b: k.select(condition, a, b),
    (
        None,
        lambda k, g, y, condition, a, b: k.select(condition, g, k.literal(0.0)),
        lambda k, g, y, condition, a, b: k.select(condition, k.literal(0.0), g),
    ),
    masks=True,
)


class Choices(Operand):
    """Choices as methods."""

    __slots__ = ()

    def maximum(self, other: NodeLike) -> Node:
        """The larger of each element and that of ``other``; NaN where either is."""
        return self._binary(MAXIMUM, other)

    def minimum(self, other: NodeLike) -> Node:
        """The smaller of each element and that of ``other``; NaN where either is."""
        return self._binary(MINIMUM, other)

    def relu(self) -> Node:
        """Each element, or 0 where it is negative; the slope at 0 is 0."""
        return self._unary(RELU)

    def clip(self, low: NodeLike, high: NodeLike) -> Node:
        """Each element, kept from ``low`` to ``high``: ``minimum(maximum(x, low), high)``.

        The gradient is the element's from bound to bound, both included, and the bound's beyond. Bounds may be nodes.
        """
        return self._general(CLIP, (low, high), ())


def where(condition: NodeLike, a: NodeLike, b: NodeLike) -> Node:
    """Elements of ``a`` where ``condition`` is not 0, of ``b`` elsewhere; all three broadcast.

    What is not chosen has a gradient of 0, also if it is outside of its domain, such as ``x.sqrt()`` where x is 0 or negative.

    Parameters
    ----------
    condition
        A mask, such as ``a > b``: 0 or not. No gradient flows to it. An array is data: another one gives the same program.
    a, b
        Nodes, numbers or arrays; one of the three must be a node.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> x = wyrm.InputNode((1, 3), [[1.0, 2.0, 3.0]])
    >>> wyrm.where(np.array([[True, False, True]]), x, -1.0).value
    array([[ 1., -1.,  3.]], dtype=float32)
    """
    from wyrm.frontend.node import apply

    return apply(WHERE, condition, a, b)
