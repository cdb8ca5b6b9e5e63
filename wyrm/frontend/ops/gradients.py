"""What steers gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wyrm.frontend.op import Op, Operand

if TYPE_CHECKING:
    from wyrm.frontend.node import Node

__all__ = ["Gradients"]

DETACH = Op("detach", lambda a: a, lambda k, a: a, (None,))


class Gradients(Operand):
    """Methods that steer gradients."""

    __slots__ = ()

    def detach(self) -> Node:
        """The same value, through which no gradient flows back."""
        return self._unary(DETACH)
