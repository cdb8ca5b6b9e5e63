"""Inputs with any number of row numbers at each step, pooled to one row by a look-up."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import ShapeError
from wyrm.frontend.bags import Bags, HeldBags
from wyrm.frontend.graph import Graph, current_graph
from wyrm.frontend.input_base import NO_LIMIT, BoundedIndex, checked_count
from wyrm.frontend.op import BAG
from wyrm.frontend.structure import input_structure

__all__ = ["BagInputNode"]

Array = npt.NDArray[Any]
#: How many numbers Python looks through faster than NumPy.
_FEW = 64


def _plain(numbers: list[Any]) -> array[int] | None:
    """A list of whole numbers as an array, without what NumPy needs to see what a list holds; ``None`` if it holds others."""
    try:
        taken = array("Q", numbers)
    except (TypeError, OverflowError):
        return None
    return None if numbers and type(numbers[0]) is bool else taken


def _is_number(value: Any) -> bool:
    """Whether an entry is no list of entries itself."""
    return not isinstance(value, (list, tuple)) and np.ndim(value) == 0


class BagInputNode(BoundedIndex):
    """Bags of row numbers, to look up tables with by ``index_sum`` and ``index_mean``; one bag, or several.

    Parameters
    ----------
    rows
        How many bags there are at each step: the rows of what is looked up.
    value
        What it is set to at first.
    name
        For messages and pictures.

    Examples
    --------
    >>> import wyrm
    >>> words = wyrm.BagInputNode(1, [[0, 2]], name="words")
    >>> table = wyrm.ParameterNode([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    >>> table.index_sum(words).value
    array([[101., 202.]], dtype=float32)
    """

    __slots__ = ("_source",)

    _source: HeldBags | None

    def __init__(self, rows: int = 1, value: Any = None, *, name: str | None = None) -> None:
        count = checked_count("BagInputNode", "bags", rows)
        self.name = name
        self._limit = NO_LIMIT
        self._source = None
        self._structure = input_structure(BAG, self._enter(current_graph()), (count, 1), "int64")
        if value is not None:
            self._set(value)

    def set_value(self, value: Any) -> None:
        """Set the bags, for the passes to come.

        Parameters
        ----------
        value
            What :meth:`Bags.of` takes, such as :class:`Bags`, a sparse matrix, or a list of row numbers for each bag; if there
            is one bag, also its row numbers. Copied.

        Raises
        ------
        ShapeError
            Where there are more bags or fewer.
        DTypeError
            Where they do not hold whole numbers.
        OutOfRangeError
            Where one lies outside a table.
        """
        at_once = self._setter
        if at_once is None or not at_once(value):
            self._set_alone(value)

    def _set(self, value: Any) -> None:
        rows = self._structure.shape[0]
        if rows == 1 and self._take(value):
            return
        listed = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)
        flat = rows == 1 and listed and (not len(value) or _is_number(value[0]))
        bags = Bags.of([value] if flat else value, self._label())
        if len(bags) != rows:
            raise ShapeError(f"{self._label()}: set_value expected {rows} bags, got {len(bags)}")
        values, offsets, weights = bags._copied()
        self._checked(values)
        self._keep(values, weights, offsets)

    def _take(self, value: Any) -> bool:
        """Set the only bag, if it is plain that it may be; returns whether it was."""
        numbers: Any
        weights = None
        if type(value) is list and len(value) == 1 and type(value[0]) in (list, np.ndarray):
            value = value[0]
        elif type(value) is Bags and len(value._begins) == 1:
            part = slice(value._begins.item(), value._ends.item())
            weights = None if value._weights is None else value._weights[part]
            value = value._values[part]
        if type(value) is np.ndarray:
            if value.ndim != 1 or value.dtype.kind not in "iu":
                return False
            if len(value) < _FEW:
                value = value.tolist()
        if type(value) is list:
            numbers = _plain(value)
            if numbers is None:
                return False
            highest = max(value) if value else 0
        elif type(value) is np.ndarray:
            numbers = value.astype(np.uint64)  # a negative number becomes one that no table has a row of
            highest = numbers.max().item()
        else:
            return False
        if highest >= self._limit:
            return False
        self._keep(numbers, weights)
        return True

    def _keep(self, numbers: Any, weights: Array | None, offsets: Array | None = None) -> None:
        """Keep checked row numbers, as an array of NumPy's or of the type code Q; without offsets, those of one bag."""
        graph = self._graph
        assert graph is not None
        count = len(numbers)
        source = self._source
        if source is None or count > source.room:
            source = self._make_room(graph, count)
        if type(numbers) is array:
            source.indices[:count] = numbers
        else:
            source.values[:count] = numbers
        if weights is not None or source.weights is not None:
            source.weigh(weights)
        if offsets is None:
            source.offsets[1] = count
        else:
            source.bounds[:] = offsets
        self._was_set(graph)

    def _make_room(self, graph: Graph, count: int) -> HeldBags:
        """Memory for so many indices and more, which the cell points to from now on."""
        source = self._source = HeldBags(self._structure.shape[0], max(16, 2 * count), self._source)
        graph.leaves.set_bags(self._number, source)
        self._asked = None
        return source

    @property
    def value(self) -> Any:
        """The :class:`Bags` that it is set to, a copy; an error where it is not."""
        source = self._source
        if source is None:
            raise self._missing()
        count = source.count
        weights = None if source.weights is None else source.weights[:count].copy()
        return Bags(source.values[:count].copy(), source.bounds, weights)

    def _settable(self) -> tuple[int | None, Any]:
        one = self._structure.shape[0] == 1
        return (self._limit, self._source) if one else (None, self._source)

    def _looked_up(self) -> Array:
        assert self._source is not None
        return self._source.values[: self._source.count]

    def _kind(self) -> str:
        return "BagInputNode"
