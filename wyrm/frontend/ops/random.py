"""What is random in training, and left out when evaluating."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wyrm.errors import OptionError
from wyrm.frontend.op import Op, Operand
from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.node import Node

__all__ = ["Random"]


def _mask(k: Any, key: Any, rate: Any, shape: Shape) -> Any:
    if k.evaluating:
        return k.call("copy", k.literal(1.0), shape=shape)
    return k.call("dropout_mask", key, rate, shape=shape)


DROPOUT_MASK = Op("dropout_mask", lambda key, rate, shape: shape, _mask, (None, None), takes_indices=True)


class Random(Operand):
    """Random methods."""

    __slots__ = ()

    def dropout(self, rate: float, seed: int | None = None) -> Node:
        """Each element 0 with probability ``rate``, else divided by ``1 - rate``; in evaluation, the node as it is.

        Which elements these are follows from the seed and the number of steps made: it is the same until an optimizer's
        next step (Srivastava et al., JMLR 2014).

        Parameters
        ----------
        rate
            At least 0 and below 1.
        seed
            A whole number; without, :func:`wyrm.fit` uses its own seed, and other passes one that is drawn here.

        Raises
        ------
        OptionError
            For a rate or seed outside its range.
        """
        from wyrm.frontend.graph import current_graph
        from wyrm.frontend.node import apply
        from wyrm.frontend.random import random_key

        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise OptionError(f"dropout: expected a rate of at least 0 and below 1, got {rate!r}")
        node: Any = self
        key = random_key(node._graph or current_graph(), seed, node._label())
        result: Node = node * apply(DROPOUT_MASK, key, node._constant(rate, DROPOUT_MASK), attributes=(("shape", self.shape),))
        return result
