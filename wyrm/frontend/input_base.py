"""What inputs have in common: their leaf in a graph, how a value is set there, and bounds of row numbers.

:class:`InputBase` is the base of all inputs and constants; :class:`BoundedIndex` that of inputs that look up tables, which
remembers the smallest of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import DTypeError, MissingValueError, OutOfRangeError, ShapeError
from wyrm.frontend.graph import Graph, no_value
from wyrm.frontend.node import Node
from wyrm.frontend.threads import begin_setting, end, note_set
from wyrm.turns import NOW, OPEN, READY, TIME, setting

if TYPE_CHECKING:
    from wyrm.backend import Backend
    from wyrm.leaves import Leaves

__all__ = ["NO_LIMIT", "BoundedIndex", "InputBase", "checked_count"]

Array = npt.NDArray[Any]
#: Dtypes by name, which NumPy looks up at length.
_NUMPY = {name: np.dtype(name) for name in ("float32", "float64", "int64")}
#: The bound of row numbers that look up no table.
NO_LIMIT = 2**63 - 1


class InputBase(Node):
    """What inputs have in common: a cell in their graph, and an array of their own unless the cell holds the value."""

    __slots__ = ("_array", "_asked", "_number", "_setter")

    _parents = ()
    _array: Array | None
    _number: int
    #: What sets plain values at once, and returns whether it did, once the backend has given it (:meth:`Backend.setter`).
    _setter: Callable[[Any], bool] | None
    #: The leaves for which the backend was asked for it; ``None``: it has to be asked, as what it would write has changed.
    _asked: Leaves | None

    def _enter(self, graph: Graph) -> int:
        """Become a leaf of a graph, without a value."""
        self._graph = graph
        self._array = self._setter = self._asked = None
        self._number = number = graph.new_leaf()
        graph.unset.add(number)
        return number

    @property
    def is_set(self) -> bool:
        """Whether it has been given a value."""
        assert self._graph is not None
        return self._number not in self._graph.unset

    def _missing(self) -> MissingValueError:
        """The error that there is no value."""
        graph = self._graph
        assert graph is not None
        if graph.traced:
            return MissingValueError(no_value(self._label(), graph.traced))
        return MissingValueError(f"{self._label()} has no value yet; call its set_value")

    def _store(self, values: Array, dtype: str) -> None:
        """Keep a checked value."""
        graph = self._graph
        assert graph is not None
        shape = self._structure.shape
        if values.size == 1 and shape == (1, 1):
            self._hold(values.item())
        else:
            converted = values.reshape(shape).astype(_NUMPY[dtype], copy=False)  # may raise: before anything changes
            own = self._array
            if own is None or not own.flags.writeable:  # it is shared
                own = self._array = np.empty(shape, _NUMPY[dtype])
                self._asked = None
                graph.leaves.set_array(self._number, own)
            own[...] = converted
            self._was_set(graph)

    def _hold(self, number: float) -> None:
        """Keep a checked number in the graph's cell."""
        graph = self._graph
        assert graph is not None
        try:
            if self.dtype == "int64":
                graph.indices[self._number] = int(number)
            else:
                graph.reals[self._number] = number
        except (OverflowError, ValueError):  # of a whole number, by memoryviews
            raise DTypeError(f"{self._label()}: got a whole number that is beyond what {self.dtype} holds") from None
        self._was_set(graph)

    def _set_alone(self, value: Any) -> None:
        """Set the value, checked, while no other thread uses the graph."""
        graph = self._graph
        assert graph is not None
        words, who = graph.words, get_ident()
        opened, ready = words[OPEN], words[READY]
        if opened and graph.word[0] == who:  # nothing has been called since: nobody begins meanwhile
            words[OPEN] = words[READY] = 0
            try:
                self._set(value)
                if self._asked is not graph.leaves:
                    self._ask(graph)
            finally:
                words[OPEN], words[READY] = opened, ready
        else:
            ready = begin_setting(self)
            self._setter = self._asked = None
            try:
                self._set(value)
            finally:
                end(graph, ready)

    def _ask(self, graph: Graph) -> None:
        """Ask the backend on which the graph ran last, if it has run, for what sets the input at once from now on."""
        self._setter = None
        if graph.workspaces:
            limit, held = self._settable()
            if limit is not None or held is None:
                self._setter = graph.workspaces[-1].binding.backend.setter(graph.leaves, self._number, limit, held)
            elif isinstance(held, np.ndarray):
                self._setter = setting(graph.leaves, self._number, held, graph.word)
            self._asked = graph.leaves

    def _settable(self) -> tuple[int | None, Any]:
        """What row numbers are below, if it holds such, and what its cell points to, if it points to anything."""
        return None, self._array

    def _set(self, value: Any) -> None:
        """Check a value and keep it."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is set")

    def _was_set(self, graph: Graph) -> None:
        """Take note that it has been set to another value."""
        if graph.use is not None:
            note_set(self, self.is_set)
        graph.unset.discard(self._number)
        graph.dates[self._number] = TIME[NOW]

    def forward(self, backend: str | Backend | None = None) -> None:
        """Nothing: an input has its value."""

    def backward(self, weight: float = 1.0) -> None:
        """Nothing: no parameter stands behind an input."""

    @property
    def value(self) -> Array:
        """What the input is set to, as a copy; an error where it is not."""
        graph = self._graph
        assert graph is not None
        if not self.is_set:
            raise self._missing()
        if self._array is not None:
            copy: Array = self._array.copy()
            return copy
        cells = graph.indices if self.dtype == "int64" else graph.reals
        return np.array([[cells[self._number]]], self.dtype)


class BoundedIndex(InputBase):
    """An input that tables are looked up with: what it holds is checked against each of them."""

    __slots__ = ("_limit", "_table")

    _limit: int
    #: The smallest table, which may be gone by now; set with the limit.
    _table: weakref.ref[Node]

    @property
    def table(self) -> tuple[int, Node] | None:
        """The rows of the smallest table, and the table; ``None``: no table is looked up."""
        table = None if self._limit == NO_LIMIT else self._table()
        return None if table is None else (self._limit, table)

    def _settable(self) -> tuple[int | None, Any]:
        return self._limit, self._array

    def _looked_up(self) -> Array:
        """The row numbers that it is set to, as a vector."""
        return self.value.reshape(-1)

    def _check_range(self, indices: Array, limit: int, table: Node | None) -> None:
        if len(indices) == 1 and 0 <= indices[0] < limit:
            return
        wrong = np.flatnonzero((indices < 0) | (indices >= limit))
        if len(wrong):
            place = int(wrong[0])
            whose = "a table" if table is None else table._label()
            upper = "" if limit == NO_LIMIT else f" and below {limit}, the rows of {whose}"
            raise OutOfRangeError(
                f"{self._label()}: expected indices of at least 0{upper}; got {int(indices[place])} at position {place}"
            )

    def _restrict(self, rows: int, table: Node) -> None:
        """Take note of a table that is looked up with this input."""
        if rows < self._limit:
            if self.is_set:
                self._check_range(self._looked_up(), rows, table)
            self._set_limit(rows, table)

    def _set_limit(self, rows: int, table: Node) -> None:
        self._limit, self._table = rows, weakref.ref(table)
        self._setter = self._asked = None

    def _checked(self, indices: Array) -> None:
        """Check what it is to be set to."""
        self._check_range(indices, self._limit, None if self._limit == NO_LIMIT else self._table())


def checked_count(kind: str, what: str, count: Any) -> int:
    """How many of something there are in a step."""
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 0:
        raise ShapeError(f"{kind}: expected how many {what} there are, a whole number, got {count!r}")
    return int(count)
