"""Rows of tables, and elements of rows. The gradient of a table that is a parameter stays row-sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wyrm.errors import DTypeError
from wyrm.frontend.op import BAG, INDEX, Op, Operand
from wyrm.frontend.ops.draws import SAMPLE
from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.bag_inputs import BagInputNode
    from wyrm.frontend.node import Node

__all__ = ["Lookups"]


def _index(table: Shape, index: Shape) -> Shape:
    return index[0], table[1]


def _pick(a: Shape, index: Shape) -> Shape:
    if a[0] != index[0]:
        raise ValueError(f"expected as many indices as rows, {a[0]}, got {index[0]}")
    return a[0], 1


LOOKUP = Op(
    "index",
    _index,
    lambda k, table, index: k.gather(table, index),
    (lambda k, g, y, table, index: k.rows(index, g, table.shape), None),
    takes_indices=True,
)
INDEX_SUM = Op(
    "index_sum",
    _index,
    lambda k, table, bag: k.gather_bag(table, bag, mean=False),
    (lambda k, g, y, table, bag: k.bag_rows(bag, g, table.shape, mean=False), None),
    takes_indices=True,
)
INDEX_MEAN = Op(
    "index_mean",
    _index,
    lambda k, table, bag: k.gather_bag(table, bag, mean=True),
    (lambda k, g, y, table, bag: k.bag_rows(bag, g, table.shape, mean=True), None),
    takes_indices=True,
)
PICK = Op(
    "pick",
    _pick,
    lambda k, a, index: k.pick(a, index),
    (lambda k, g, y, a, index: k.place(index, g, shape=a.shape), None),
    takes_indices=True,
)


INDEX_SLICE = Op(
    "index_slice",
    lambda a, rows: (rows[1] - rows[0], 1),
    lambda k, a, rows: k.slice(a, rows, (0, 1)),
    (None,),
    takes_indices=True,
    indices=True,
)


#: What rows are looked up with.
_ROW_NUMBERS = (INDEX, SAMPLE, INDEX_SLICE)


class Lookups(Operand):
    """Look-ups as methods."""

    __slots__ = ()

    def index(self, index: Node) -> Node:
        """The rows that ``index`` names, of shape (count, columns).

        Parameters
        ----------
        index
            An index input, or some of its rows (``index[1:]``); what it is set to, all of it, must lie within this node's rows.
            Or numbers that are drawn.

        Raises
        ------
        OutOfRangeError
            Where the index input is set to something beyond, now or later, or numbers beyond may be drawn.
        """
        _restrict("index", _ROW_NUMBERS, "an IndexInputNode or a SampledIndexNode", index, self._structure.shape[0], self)
        return self._binary(LOOKUP, index)

    def index_sum(self, bag: BagInputNode) -> Node:
        """For each bag, the sum of the rows that it names, times their weights: shape (bags, columns). Zeros for empty bags.

        Parameters
        ----------
        bag
            A bag input; what it is set to must lie within this node's rows.
        """
        _restrict("index_sum", (BAG,), "a BagInputNode", bag, self.shape[0], self)
        return self._binary(INDEX_SUM, bag)

    def index_mean(self, bag: BagInputNode) -> Node:
        """As :meth:`index_sum`, divided by the sum of the weights: without weights, by how many rows the bag names.

        Zeros, and no gradient, for bags whose weights sum to 0, exactly or to rounding. NaN where their sum is infinite, or
        beyond what the dtype holds.
        """
        _restrict("index_mean", (BAG,), "a BagInputNode", bag, self.shape[0], self)
        return self._binary(INDEX_MEAN, bag)

    def pick(self, index: Node) -> Node:
        """The element of each row that ``index`` names, of shape (rows, 1).

        Parameters
        ----------
        index
            An index input, some of its rows, or a sample, with one index for each row, all below the columns.
        """
        _restrict("pick", _ROW_NUMBERS, "an IndexInputNode or a SampledIndexNode", index, self.shape[1], self)
        return self._binary(PICK, index)


def _restrict(op: str, kinds: tuple[Any, ...], expected: str, index: Any, length: int, table: Any) -> None:
    """Check that a look-up has an input of one of the right kinds, which is to stay below a length from now on."""
    kind = index._structure.op if isinstance(index, Operand) else None
    if kind not in kinds:
        remedy = ""
        if kind is None:
            remedy = "; numbers that stay as they are can be the value of an input: IndexInputNode(2, [3, 1])"
        elif kind is BAG:
            remedy = "; bags are looked up by index_sum and index_mean"
        raise DTypeError(f"{op}: expected {expected}, got {index!r}{remedy}")
    index._restrict(length, table)
