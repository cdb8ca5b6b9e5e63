"""Comparisons: masks, 1 where they hold and 0 elsewhere, through which no gradient flows.

NaN compares as in NumPy: with nothing, not even itself, so ``!=`` alone holds. All are made of the kernel ``greater``.

Since ``==`` makes a node, nodes are told apart by ``is``. Dictionaries and sets of nodes do so by themselves; lists and tuples
compare (``in``, ``index``, ``remove``), which ends in the error of ``bool(node)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from wyrm.errors import DTypeError
from wyrm.frontend.op import Op, Operand
from wyrm.kernels import broadcast_shapes

if TYPE_CHECKING:
    from wyrm.frontend.node import Node, NodeLike

__all__ = ["Comparisons"]


def _ordered(k: Any, a: Any, b: Any) -> Any:
    """1 where neither is NaN: every other number is above -1 or below 1."""
    either = k.maximum(a, b)
    return k.maximum(k.greater(either, k.literal(-1.0)), k.greater(k.literal(1.0), either))


def _at_least(k: Any, a: Any, b: Any) -> Any:
    return k.select(k.greater(b, a), k.literal(0.0), _ordered(k, a, b))


def _equal(k: Any, a: Any, b: Any) -> Any:
    return k.select(k.maximum(k.greater(a, b), k.greater(b, a)), k.literal(0.0), _ordered(k, a, b))


def _comparison(name: str, forward: Any) -> Op:
    return Op(name, broadcast_shapes, forward, (None, None))


GREATER = _comparison("greater", lambda k, a, b: k.greater(a, b))
LESS = _comparison("less", lambda k, a, b: k.greater(b, a))
AT_LEAST = _comparison("greater_equal", _at_least)
AT_MOST = _comparison("less_equal", lambda k, a, b: _at_least(k, b, a))
EQUAL = _comparison("equal", _equal)
NOT_EQUAL = _comparison("not_equal", lambda k, a, b: k.subtract(k.literal(1.0), _equal(k, a, b)))


class Comparisons(Operand):
    """Comparisons as operators: with nodes, numbers and arrays on either side."""

    __slots__ = ()

    def __gt__(self, other: NodeLike) -> Node:  # type: ignore[misc]
        return self._binary(GREATER, other)

    def __lt__(self, other: NodeLike) -> Node:  # type: ignore[misc]
        return self._binary(LESS, other)

    def __ge__(self, other: NodeLike) -> Node:  # type: ignore[misc]
        return self._binary(AT_LEAST, other)

    def __le__(self, other: NodeLike) -> Node:  # type: ignore[misc]
        return self._binary(AT_MOST, other)

    def __eq__(self, other: NodeLike) -> Node:  # type: ignore[override]
        return self._binary(EQUAL, other)

    def __ne__(self, other: NodeLike) -> Node:  # type: ignore[override]
        return self._binary(NOT_EQUAL, other)

    #: Nodes are keys, by identity.
    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        node: Any = self
        raise DTypeError(
            f"{node._label()} is neither true nor false: a node stands for numbers that are computed later, for each example. "
            f"Choose between nodes with wyrm.where(condition, a, b) in place of `if`, `and`, `or` and `not`; look at numbers "
            f"with .value; and tell nodes apart with `is`, also in lists: any(node is other for other in nodes)"
        )
