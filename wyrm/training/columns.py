"""Columns: the data of one input or argument, a value for each example, checked and in the form that runners read.

NaN is looked for when a column is made, indices out of range and labels when it is known which tables and losses they go to.
:mod:`wyrm.training.reading` makes columns of what users feed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.borrowed import file_of, is_whole, pin
from wyrm.errors import FeedError, LabelError, OutOfRangeError
from wyrm.frontend.input_base import NO_LIMIT
from wyrm.frontend.inputs import IndexInputNode, InputNode
from wyrm.frontend.labels import Labels
from wyrm.frontend.node import Node
from wyrm.frontend.values import find_beyond, plain, unchangeable
from wyrm.memory import Source, aligned
from wyrm.program import Shape

__all__ = ["LARGEST", "Column", "outside"]

Array = npt.NDArray[Any]
#: Elements that are checked at a time, so that data on disk is never in memory as a whole.
_CHUNK = 1 << 20
#: Numbers of which Python finds the least sooner than NumPy.
_FEW = 16
#: What float32 holds.
LARGEST = float(np.finfo(np.float32).max)


class Column:
    """Real numbers, or indices, of one shape for each example; or sequences of these.

    Parameters
    ----------
    rows
        A row for each example; of sequences, a row for each position.
    shape
        That of an example's matrix, or of a position's; (count, 1) for ``count`` indices.
    index
        Whether they are indices.
    name
        How messages call it.
    offsets
        Of sequences, where each begins, and where the last one ends.
    """

    #: Whether a sequence is one input with a row for each position; else each position is an input.
    by_rows = False

    def __init__(
        self,
        rows: Array,
        shape: Shape,
        index: bool,
        name: str,
        offsets: Array | None = None,
        beside: Array | None = None,
    ) -> None:
        self.rows, self.shape, self.index, self.name, self.offsets = rows, shape, index, name, offsets
        self._pin, self._files = pin(rows), [file_of(rows)]
        if beside is not None:
            self._files.append(file_of(beside))
        self.check_files()
        self._starts = None if offsets is None else offsets[:-1]
        #: The shape of the array, or of the list of numbers, that they were given as; ``None``: as something else.
        self.given: tuple[int, ...] | None = None
        self._largest: int | None = None
        #: What all of it has been seen to be labels for.
        self._labels: set[Labels] = set()
        #: Whether all finite numbers are so in float32 as well.
        self._narrow = True
        if rows.dtype.kind == "f":
            self._check_numbers()

    def __len__(self) -> int:
        return len(self.rows) if self.offsets is None else len(self.offsets) - 1

    def check_files(self) -> None:
        """Require that files that hold the data are as long as they were.

        Raises
        ------
        FeedError
            If one has become shorter.
        """
        for file in self._files:
            if file is not None and not is_whole(file):
                raise FeedError(
                    f"{self.label}: the file that it is in (numpy.memmap) has become shorter than what is mapped of it: it has "
                    f"{file.size()} bytes, expected at least {len(file)}. Map it again"
                )

    @property
    def label(self) -> str:
        """What messages begin with."""
        return f"feed for {self.name}"

    @property
    def lengths(self) -> Array | None:
        """How long each example's sequence is; ``None`` where they are none."""
        return None if self.offsets is None else np.diff(self.offsets)

    @property
    def signature(self) -> tuple[Any, ...]:
        """What nodes for it depend on, beside the lengths of sequences."""
        return self.index, self.shape, self.offsets is not None

    def node(self, name: str, examples: int, dtype: str | None, length: int = 1) -> Node:
        """A node for the values of so many examples, one after the other; of sequences that are rows, of this length."""
        rows, cols = self.shape
        if self.index:
            return IndexInputNode(rows * examples, name=name)
        return InputNode((rows * examples, cols), name=name, dtype=dtype)

    def source(self, position: int = 0, length: int = 1) -> Source:
        """Where runners read it; of sequences, a position, or all of so many if they are rows."""
        return Source(self.rows) if self._starts is None else Source(self.rows, starts=self._starts, shift=position)

    # -- memory of its own, for the data of one call after the other

    @property
    def layout(self) -> tuple[Any, ...]:
        """What is equal for columns that can take each other's place in memory."""
        rows, lengths = self._used(), None if self.offsets is None else len(self)
        return self.index, self.shape, rows.dtype.char, rows.shape, lengths, self._narrow

    def own(self) -> Column:
        """The same data in memory of their own, of which others can take the place; sequences have one length."""
        rows = aligned((used := self._used()).shape, used.dtype, fill=None)
        rows[...] = used
        offsets = None if self.offsets is None else unchangeable(self.offsets - self.offsets[0])
        own = type(self)(rows, self.shape, self.index, self.name, offsets)
        own.given = self.given
        return own

    def read_in_place(self, data: Any) -> Column | None:
        """Data that are given as these were, read to where these are, and checked; ``None``: they are given otherwise."""
        array = plain(data)
        if array is None or array.dtype is not self.rows.dtype or array.shape != self.given:
            return None
        self.rows[...] = array.reshape(self.rows.shape)
        self._largest, self._narrow = None, True
        self._labels.clear()
        if array.dtype.kind == "f":
            self._check_numbers()
        return self

    def has_room(self, other: Column) -> bool:
        """Whether the data of a column of the same layout can take the place of these."""
        return True

    def replace(self, other: Column) -> None:
        """Let the data of a column of the same layout take the place of these."""
        if other is not self:
            self.rows[...] = other._used()

    def within(self, limit: int) -> bool:
        """Whether all indices are at least 0 and below ``limit``."""
        if self._largest is None:
            rows = self._used()
            if rows.size <= _FEW:
                few = rows.ravel().tolist()
                self._largest = max(few, default=-1) if min(few, default=0) >= 0 else NO_LIMIT
            else:
                unsigned = rows.view(np.dtype(f"u{rows.dtype.itemsize}"))  # what is negative is larger than any index
                self._largest = max(int(unsigned[part].max()) for part in _parts(*rows.shape))
        return self._largest < limit

    def check_range(self, limit: int, examples: Array | None = None, position: int = 0) -> None:
        """Require indices of at least 0 and below ``limit``.

        Parameters
        ----------
        examples, position
            Which examples, and which position of their sequences, are used; ``None``: all examples.

        Raises
        ------
        OutOfRangeError
            Naming the example and the column or position.
        """
        first = self._first(lambda values: (values < 0) | (values >= limit), examples, position)
        if first is not None:
            example, where, value = first
            raise OutOfRangeError(outside(self.label, example, where, int(value), limit))

    def check_labels(self, labels: Labels, examples: Array | None = None, position: int = 0) -> None:
        """Require numbers that a loss takes as labels; ``examples`` and ``position`` are as for :meth:`check_range`.

        Raises
        ------
        LabelError
            Naming the example and the column or position.
        """
        if labels in self._labels:
            return
        rows = self._used()
        if not any(labels.outside(rows[part]).any() for part in _parts(*rows.shape)):
            self._labels.add(labels)
            return
        first = self._first(labels.outside, examples, position)
        if first is not None:
            example, where, value = first
            raise LabelError(f"{self.label}: example {example}, {where} holds {labels.told(value)}")

    def check(
        self, dtype: str, limit: int, all_labels: Iterable[Labels], examples: Callable[[], Array | None], position: int
    ) -> None:
        """Require what a program takes: numbers that a dtype holds, indices below a limit, labels of losses; of examples."""
        self.check_dtype(dtype)
        if self.index and not self.within(limit):
            self.check_range(limit, examples(), position)
        for labels in all_labels:
            self.check_labels(labels, examples(), position)

    def check_dtype(self, dtype: str) -> None:
        """Require numbers that a dtype holds, if they are finite.

        Raises
        ------
        FeedError
            Naming the example.
        """
        if self._narrow or dtype == "float64":
            return
        numbers = self._numbers()
        with np.errstate(over="ignore"):
            place = find_beyond(numbers, numbers.astype(dtype))
        if place is not None:
            raise FeedError(
                f"{self.label}: example {self._example_of(place)} holds {numbers.reshape(-1)[place]}, which is beyond what "
                f"{dtype} holds; scale the data, or make the model's parameters of float64"
            )

    def _numbers(self) -> Array:
        """The real numbers that belong to an example."""
        return self._used()

    def _example_of(self, place: int) -> str:
        """The example of a place among the numbers, for messages."""
        row = place // max(1, self.rows.shape[1])
        if self.offsets is None:
            return str(row)
        row += int(self.offsets[0])
        example = int(np.searchsorted(self.offsets, row, "right")) - 1
        return f"{example}, position {row - self.offsets[example]},"

    def _first(self, wrong: Callable[[Array], Array], examples: Array | None, position: int) -> tuple[int, str, Any] | None:
        """The first value that is wrong: its example, where it stands, and what it is."""
        examples = np.arange(len(self)) if examples is None else examples
        places = examples if self.offsets is None else self.offsets[examples] + position
        for part in _parts(len(places), self.rows.shape[1]):
            values = self.rows[places[part]]
            found = np.argwhere(wrong(values))
            if len(found):
                n, column = int(found[0, 0]), int(found[0, 1])
                where = f"column {column}" if self.offsets is None else f"position {position}"
                if self.offsets is not None and values.shape[1] > 1:
                    where += f", column {column}"
                return int(examples[part][n]), where, values[n, column]
        return None

    def _used(self) -> Array:
        """The rows that belong to an example."""
        return self.rows if self.offsets is None else self.rows[self.offsets[0] : self.offsets[-1]]

    def _check_numbers(self) -> None:
        rows, wide = self._used(), self.rows.dtype.itemsize > 4
        parts = _parts(*rows.shape) if rows.size > _FEW else [slice(0, len(rows))]
        for part in parts:
            least, most = _ends(rows[part], wide)
            self._narrow &= not wide or (least >= -LARGEST and most <= LARGEST)
            if least == least:
                continue
            place = part.start + int(np.isnan(rows[part]).any(axis=1).argmax())
            if self.offsets is None:
                raise FeedError(f"{self.label}: example {place} holds NaN")
            place += int(self.offsets[0])
            example = int(np.searchsorted(self.offsets, place, "right")) - 1
            raise FeedError(f"{self.label}: example {example}, position {place - self.offsets[example]} holds NaN")


def _ends(numbers: Array, both: bool) -> tuple[float, float]:
    """The least number, which is NaN if one is, and if both are asked for, the greatest; infinities of none."""
    if numbers.size == 1:
        return (number := numbers.item()), number
    if numbers.size <= _FEW:
        few = numbers.ravel().tolist()
        if any(map(math.isnan, few)):
            return math.nan, math.nan
        return (min(few), max(few)) if few else (math.inf, -math.inf)
    least = float(np.minimum.reduce(numbers, None))  # a fraction of the cost of looking at each element
    return least, float(np.maximum.reduce(numbers, None)) if both else -math.inf


def outside(label: str, example: int, where: str, value: int, limit: int) -> str:
    """The error that an index lies outside."""
    return (
        f"{label}: example {example}, {where} holds {value}; "
        f"expected at least 0 and below {limit}, the rows of the smallest table that it looks up"
    )


def _parts(count: int, width: int) -> list[slice]:
    """Slices of a number of rows, of not too many elements each."""
    step = max(1, _CHUNK // max(1, width))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
