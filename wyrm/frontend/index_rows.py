"""Some of the row numbers of an index input, such as all but the first: ``index[1:]``.

They are a part of the input's memory, so looking up by them costs what looking up by an input does.
"""

from __future__ import annotations

from wyrm.errors import ShapeError
from wyrm.frontend.node import Node
from wyrm.frontend.ops.lookups import INDEX_SLICE
from wyrm.frontend.ops.shapes import Range, range_of

__all__ = ["IndexRowsNode", "index_rows"]


class IndexRowsNode(Node):
    """Row numbers that are a part of an input's. The whole input has to lie within each table that a part of it looks up."""

    __slots__ = ()

    def slice(self, rows: Range = slice(None), cols: Range = slice(None)) -> IndexRowsNode:
        """Some of these row numbers."""
        return index_rows(self, rows, cols)

    def _restrict(self, rows: int, table: Node) -> None:
        """Take note of a table, as the input does."""
        self._parents[0]._restrict(rows, table)  # type: ignore[attr-defined]


def index_rows(index: Node, rows: Range, cols: Range) -> IndexRowsNode:
    """A range of an index input's row numbers.

    Raises
    ------
    OutOfRangeError, OptionError
        If the range reaches beyond the input, or has steps other than 1.
    ShapeError
        If it leaves out the only column.
    """
    if range_of("columns", cols, 1) != (0, 1):
        raise ShapeError(f"slice of {index._label()}: row numbers have one column, 0; got {cols!r}")
    node = index._unary(INDEX_SLICE, (("rows", range_of("rows", rows, index.shape[0])),))
    part = IndexRowsNode.__new__(IndexRowsNode)
    part._structure, part._graph, part._parents = node._structure, node._graph, node._parents
    return part
