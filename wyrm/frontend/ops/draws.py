"""Numbers that are drawn, such as the negatives of ranking losses, and drawn again until a node is positive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wyrm.errors import DTypeError, OptionError, ShapeError
from wyrm.frontend.op import Op, Operand
from wyrm.frontend.structure import STORE
from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.node import Node
    from wyrm.frontend.samples import SampledIndexNode

__all__ = ["SAMPLE", "Draws"]

#: So that no draw goes on for longer than Ctrl-C may have to wait.
MOST_TRIES = 2**16


def _sample_shape(key: Shape, *beside: Shape, rows: int, count: int, weighted: bool, excluding: bool) -> Shape:
    if excluding and beside[-1][0] not in (1, count):
        raise ValueError(f"expected one bag of excluded numbers, or {count}, one for each number drawn; got {beside[-1][0]}")
    return count, 1


SAMPLE = Op(
    "sample",
    _sample_shape,
    lambda k, key, *beside, **attributes: k.draw(key, *beside, **attributes),
    (None,),
    variadic=True,
    takes_indices=True,
    indices=True,
)
REDRAW = Op(
    "redraw",
    lambda until, sample, tries: until,
    lambda k, until, sample, tries: k.redraw(until, sample, tries),
    (lambda k, g, y, until, sample, tries: g, None),
    takes_indices=True,
)
RANK = Op(
    "rank",
    lambda redrawn, sample: redrawn,
    lambda k, redrawn, sample: k.rank(sample),
    (None, None),
    takes_indices=True,
)


class Draws(Operand):
    """Draws as methods."""

    __slots__ = ()

    def redraw(self, sample: SampledIndexNode, tries: int) -> Node:
        """The value after ``sample`` has been drawn until it is positive, ``tries`` times at most.

        In passes that compute the result, whatever depends on the sample sees the number drawn last. A draw repeats only what
        lies between the sample and this node. The gradient passes as if the number had been given. A number that the sample
        excludes counts as a draw and does not end them; the last draw is one of what is not excluded. If nothing is left to
        draw, the node is at most 0.

        Parameters
        ----------
        sample
            One number that is drawn, on which this node depends. It can be drawn again for one node only.
        tries
            From 1 to 65,536.

        Raises
        ------
        ShapeError
            Where the node has not the shape (1, 1), or the sample more than one number.
        DTypeError
            Where ``sample`` is not drawn.
        OptionError
            Where the node does not depend on the sample, another one ends its draws already, or ``tries`` is not in its range.

        Examples
        --------
        >>> import numpy as np, wyrm
        >>> scores = wyrm.ParameterNode(np.arange(10.0).reshape(10, 1))
        >>> sample = wyrm.SampledIndexNode(10, seed=1)
        >>> violation = (scores.index(sample) - 6.5).redraw(sample, tries=100)
        >>> violation.forward()
        >>> bool(sample.value[0, 0] > 6.5), bool(violation.value > 0)
        (True, True)
        """
        from wyrm.frontend.samples import SampledIndexNode

        node: Any = self
        if not isinstance(sample, SampledIndexNode):
            raise DTypeError(f"redraw: expected a SampledIndexNode, got {sample!r}")
        if self.shape != (1, 1) or sample.shape != (1, 1):
            raise ShapeError(f"redraw: expected a node and a sample of shape (1, 1), got {node!r} and {sample!r}")
        whole = isinstance(tries, (int, np.integer)) and not isinstance(tries, bool)
        if not whole or not 1 <= tries <= MOST_TRIES:
            raise OptionError(f"redraw of {sample._label()}: expected tries from 1 to {MOST_TRIES}, got {tries!r}")
        attributes = (("tries", int(tries)),)
        # a structure that is known has passed this before: graphs that are rebuilt need not be walked
        if (REDRAW, node._structure, sample._structure, attributes) not in STORE and not node._depends_on(sample):
            raise OptionError(f"redraw: {node._label()} does not depend on {sample._label()}, so drawing again changes nothing")
        result: Node = node._general(REDRAW, (sample,), attributes)
        sample._end_draws(result, node)
        return result

    def rank(self) -> Node:
        """Of the result of :meth:`redraw`: at which rank the draws made place what they were compared with, of shape (1, 1).

        ``max(1, (rows - 1) // draws)``, where the sample draws from ``rows`` numbers (Weston, Bengio and Usunier, IJCAI 2011).
        No gradient flows through it.

        Raises
        ------
        DTypeError
            For other nodes.
        """
        node: Any = self
        if node._structure.op.name != "redraw":
            raise DTypeError(f"rank: expected the result of redraw, got {node!r}")
        result: Node = node._general(RANK, (node._parents[1],), ())
        return result
