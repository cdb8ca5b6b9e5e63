"""Inputs: leaves that users set, and constants."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import ShapeError
from wyrm.frontend.graph import current_graph
from wyrm.frontend.index_rows import IndexRowsNode, index_rows
from wyrm.frontend.input_base import NO_LIMIT, BoundedIndex, InputBase, checked_count
from wyrm.frontend.node import Node
from wyrm.frontend.op import INDEX, INPUT
from wyrm.frontend.ops.shapes import Range
from wyrm.frontend.structure import STORE, input_structure
from wyrm.frontend.values import as_indices, as_reals, real_dtype
from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.labels import LabelUse

__all__ = [
    "ConstantNode",
    "IndexInputNode",
    "InputNode",
    "constant",
]

Array = npt.NDArray[Any]
#: What a cell takes as it is.
_REALS = frozenset({float, int, np.float64, np.float32})
_INTEGERS = frozenset({int, np.int64, np.int32})


def _check_shape(shape: Any, kind: str) -> Shape:
    try:
        rows, cols = shape
    except (TypeError, ValueError):
        raise ShapeError(f"{kind}: expected a shape (rows, columns), got {shape!r}") from None
    if type(rows) is type(cols) is int and rows >= 0 and cols >= 0:
        return rows, cols
    for length in (rows, cols):
        if not isinstance(length, (int, np.integer)) or isinstance(length, bool) or length < 0:
            raise ShapeError(f"{kind}: expected a shape of two whole numbers, got {shape!r}")
    return int(rows), int(cols)


class InputNode(InputBase):
    """Real numbers that are set before each pass, or fed by :func:`wyrm.fit`.

    Parameters
    ----------
    shape
        (rows, columns).
    value
        What it is set to at first.
    name
        For messages and pictures.
    constant
        Whether :func:`wyrm.fit` and :func:`wyrm.evaluate` take the value that it is set to, where the feed has none.
    dtype
        ``float32`` or ``float64``; a graph has one. Without, that of the first node that it meets in an op, and ``float32``
        if it meets none that has one.

    Raises
    ------
    ShapeError, DTypeError
        Where shape, dtype or value are of the wrong kind.
    """

    __slots__ = ("_dtype_given", "_given", "_uses", "constant")

    #: The array that it was set to while it might still take another dtype, with all digits.
    _given: Array
    #: The losses that it feeds labels to.
    _uses: list[LabelUse]
    #: Whether the dtype is not for others to choose.
    _dtype_given: bool

    def __init__(
        self,
        shape: Shape,
        value: npt.ArrayLike | None = None,
        *,
        name: str | None = None,
        constant: bool = False,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        kind = real_dtype(dtype, "InputNode")
        shape = _check_shape(shape, "InputNode")
        self.name = name
        self.constant = constant
        self._dtype_given = dtype is not None
        number = self._enter(current_graph())
        self._structure = STORE.get((INPUT, number, shape, kind)) or input_structure(INPUT, number, shape, kind)
        if value is not None:
            self._set(value)

    def set_value(self, value: npt.ArrayLike) -> None:
        """Set the value, for the passes to come.

        Parameters
        ----------
        value
            Real numbers of the node's shape; a plain number for shape (1, 1).

        Raises
        ------
        ShapeError
            Where the shape is another.
        DTypeError
            Where the value does not hold real numbers.
        """
        at_once = self._setter
        if at_once is None or not at_once(value):
            self._set_alone(value)

    def _set(self, value: Any) -> None:
        if type(value) in _REALS and self.shape == (1, 1):
            return self._hold(value)
        if type(value) is np.ndarray and value.dtype.kind in "fiub":
            reals: Array = value
        else:
            reals = as_reals(value, self._label())
        shape = self._structure.shape
        if reals.shape != shape and not (reals.size == 1 and shape == (1, 1)):
            raise ShapeError(f"{self._label()}: set_value expected shape {shape}, got {reals.shape}")
        self._store(reals, self._structure.dtype)
        if self._array is not None and self.is_open:
            self._given = reals.copy()

    @property
    def is_open(self) -> bool:
        """Whether it may still take another dtype: none was given, and nothing of its graph has been run."""
        return not (getattr(self, "_dtype_given", True) or self._graph.closed)  # type: ignore[union-attr]

    def take_dtype(self, dtype: str) -> None:
        """Become an input of another dtype: another leaf of the graph. What was made of the one before has no value."""
        graph = self._graph
        assert graph is not None
        value: Array | None = None
        if self.is_set:
            value = np.array(graph.reals[self._number]) if self._array is None else self._given
        graph.leaves.arrays.pop(self._number, None)
        graph.unset.add(self._number)
        self._dtype_given = True
        self._structure = input_structure(INPUT, self._enter(graph), self.shape, dtype)
        if value is not None:
            self._store(value, dtype)

    def _kind(self) -> str:
        return "InputNode"


class IndexInputNode(BoundedIndex):
    """Row numbers, to look up tables with; set before each pass, or fed by :func:`wyrm.fit`.

    Parameters
    ----------
    count
        How many rows are looked up in a step; may be 0.
    value
        What it is set to at first.
    name
        For messages and pictures.
    """

    __slots__ = ("_highest",)

    #: The highest index, or more if it is not known; not looked at if there is a setter, which does not note it.
    _highest: int

    def __init__(self, count: int = 1, value: npt.ArrayLike | None = None, *, name: str | None = None) -> None:
        if type(count) is not int or count < 0:
            count = checked_count("IndexInputNode", "indices", count)
        self.name = name
        self._limit = NO_LIMIT
        self._graph = graph = current_graph()
        self._array = self._setter = self._asked = None
        self._number = number = graph.new_leaf()
        shape = (count, 1)
        self._structure = STORE.get((INDEX, number, shape, "int64")) or input_structure(INDEX, number, shape, "int64")
        if count == 1 and type(value) is int and 0 <= value < NO_LIMIT:
            graph.indices[number] = value
            self._highest = value
        else:
            graph.unset.add(number)
            self._highest = NO_LIMIT
            if value is not None:
                self._set(value)

    def _restrict(self, rows: int, table: Node) -> None:
        if rows < self._limit:
            if self._setter is None and self._highest < rows:
                self._set_limit(rows, table)
            else:
                self._highest = NO_LIMIT
                super()._restrict(rows, table)

    def set_value(self, value: npt.ArrayLike) -> None:
        """Set the indices, for the passes to come.

        Parameters
        ----------
        value
            ``count`` whole numbers, each at least 0 and below the rows of every table that is looked up with it; a plain
            number for one.

        Raises
        ------
        ShapeError
            Where there are more or fewer.
        DTypeError
            Where they are not whole numbers.
        OutOfRangeError
            Where one lies outside a table.
        """
        at_once = self._setter
        if at_once is None or not at_once(value):
            self._set_alone(value)

    def _set(self, value: Any) -> None:
        if type(value) in _INTEGERS and 0 <= value < self._limit and self.shape == (1, 1):
            self._highest = int(value)
            return self._hold(value)
        count = self.shape[0]
        if isinstance(value, list) and len(value) == count > 1 and self._take(value):
            return
        indices = as_indices(value, self._label())
        if indices.shape not in ((count,), (count, 1)) and not (indices.ndim == 0 and count == 1):
            raise ShapeError(f"{self._label()}: set_value expected {count} indices, got shape {indices.shape}")
        self._checked(indices.reshape(-1))
        self._highest = NO_LIMIT
        self._store(indices, "int64")

    def slice(self, rows: Range = slice(None), cols: Range = slice(None)) -> IndexRowsNode:
        """Some of the row numbers, as ``node[rows]``, to look up tables with; a single number is a range of one."""
        return index_rows(self, rows, cols)

    def _take(self, numbers: list[Any]) -> bool:
        """Set several indices, where it is plain that they may be, without what NumPy needs to see what a list holds."""
        graph = self._graph
        assert graph is not None
        try:
            taken, highest = array("Q", numbers), max(numbers)
        except (TypeError, OverflowError):  # one is no whole number, or below 0
            return False
        if highest >= self._limit or type(numbers[0]) is bool:
            return False
        self._highest = highest
        self._array = np.frombuffer(taken, np.int64).reshape(-1, 1)
        self._asked = None
        graph.leaves.set_array(self._number, self._array, taken.buffer_info()[0])
        self._was_set(graph)
        return True

    def _kind(self) -> str:
        return "IndexInputNode"


class ConstantNode(InputBase):
    """A number or array that was written into an expression. It is data: other numbers give the same program."""

    __slots__ = ()

    def _kind(self) -> str:
        return "constant"


def constant(value: Any, beside: Node) -> ConstantNode:
    """A constant in the graph, and of the dtype, of another node."""
    reals = as_reals(value, "constant")
    if reals.ndim < 2:
        reals = reals.reshape(1, -1)  # a vector is a row, as in NumPy's broadcasting
    if reals.ndim != 2:
        raise ShapeError(f"expected a number, a vector or a matrix, got an array of shape {reals.shape}")
    node = ConstantNode()
    node.name = None
    shape: Shape = reals.shape
    dtype = beside.dtype if beside.dtype != "int64" else "float32"
    node._structure = input_structure(INPUT, node._enter(beside._graph or current_graph()), shape, dtype)
    node._store(reals, dtype)
    return node
