"""The memory that the frontend allocates and backends work in: all of it host memory, 64-byte aligned.

* :func:`aligned` makes an array;
* :class:`GradientBuffer` gathers the gradient of one parameter;
* :class:`BagSource` holds bags, :class:`BagBuffer` those of one pass;
* :class:`Memory` is everything that one bound program runs over;
* :class:`Source` is one input of a feed, :class:`Sink` where one output goes.

Native code finds its way by the addresses and the integer headers described here; they are part of the contract.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.program import Program, Shape
from wyrm.whole import finish

__all__ = [
    "ALIGNMENT",
    "SOURCE_DTYPES",
    "BagBuffer",
    "BagSource",
    "GradientBuffer",
    "Memory",
    "Report",
    "Sink",
    "Source",
    "address",
    "aligned",
]

Array = npt.NDArray[Any]
#: Bytes; the width of a cache line and of the widest vector register in use.
ALIGNMENT = 64
#: The dtypes in which runners take values from where they stand, by their code in headers and tables.
SOURCE_DTYPES = ("float32", "float64", "int32", "int64")


def address(array: Array | memoryview[Any]) -> int:
    """The address of an array's first element."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # of no elements, read-only, or with gaps: NumPy's own way takes longer
        result: int = np.asarray(array).__array_interface__["data"][0]
        return result


def aligned(shape: int | tuple[int, ...], dtype: npt.DTypeLike, fill: float | None = 0) -> Array:
    """A C-contiguous array whose first element is 64-byte aligned; ``fill=None`` leaves it uninitialised.

    Zeros come from the operating system untouched: a table's pages are only taken up when they are written.
    """
    dtype = np.dtype(dtype)
    count = math.prod(shape) if isinstance(shape, tuple) else int(shape)
    allocate = np.empty if fill is None else np.zeros
    raw = allocate(count * dtype.itemsize + ALIGNMENT, np.uint8)
    skip = -address(raw) % ALIGNMENT
    array = raw[skip : skip + count * dtype.itemsize].view(dtype).reshape(shape)
    if fill:
        array.fill(fill)
    return array


class GradientBuffer:
    """The gradient of one parameter, as it gathers during backward passes: dense, row-sparse or both.

    Dense contributions are added to a matrix of the parameter's shape, which exists only for parameters used so. Row
    contributions are appended to a list of (row, values); rows may repeat, and whoever reads the list sums them.
    The gradient is the sum of both.

    Attributes
    ----------
    header
        Twelve int64 for native code: 0 whether the matrix was touched, 1 or 0; 1 its address (0: none); 2 the number of rows
        in the list; 3 its capacity; 4 the address of the row numbers (int64); 5 of their values; 6 of a scratch table of
        int32, to find duplicates with; 7 the length of that table less 1 (a power of two, at least twice the capacity);
        8 and 9 the parameter's shape; 10 the number of steps that have been made with this gradient, which is the step in the
        keys of random numbers; 11 whether it may be NaN or infinite: 0 if whoever has added to it knows that it is not. The
        second bit stays: passes that do not look at gradients may add to it.
    busy
        One int64 behind the header: not 0 while somebody is at work on it (:mod:`wyrm.gradient_use`).
    """

    #: The words of the header, in order.
    HEADER = (
        *("touched", "dense", "count", "capacity", "row_numbers", "row_values", "scratch", "scratch_mask"),
        *("rows", "columns", "steps", "doubt"),
    )

    __slots__ = ("_scratch", "busy", "dense", "header", "row_numbers", "row_values", "shape")

    def __init__(self, shape: Shape, dtype: npt.DTypeLike) -> None:
        self.shape = shape
        words = aligned(len(self.HEADER) + 1, np.int64)
        self.header = words[:-1]
        self.busy: memoryview[int] = memoryview(words.data)[-1:]
        self.header[8:10] = shape
        self.dense: Array | None = None
        self.row_numbers = aligned(0, np.int64)
        self.row_values = aligned((0, shape[1]), dtype)
        self._scratch = aligned(0, np.int32)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.row_values.dtype

    @property
    def touched(self) -> bool:
        """Whether the dense matrix holds a contribution."""
        return bool(self.header[0])

    @property
    def count(self) -> int:
        """How many row contributions the list holds."""
        return int(self.header[2])

    @property
    def capacity(self) -> int:
        """How many the list has room for."""
        return len(self.row_numbers)

    def doubt(self, always: bool = False) -> None:
        """Note that nobody has seen to it that the gradient is finite; ``always``: nor will be when it has been cleared."""
        self.header[11] |= 3 if always else 1

    def require_dense(self) -> Array:
        """The dense matrix, allocated (and zero) if there was none."""
        if self.dense is None:
            new = aligned(self.shape, self.dtype)
            place = address(new)
            if self.dense is None:  # no other thread has made one meanwhile
                self.dense, self.header[1] = new, place
        return self.dense

    def reserve(self, rows: int) -> bool:
        """Make room for ``rows`` more contributions, summing duplicates first where the list is full; whether it was."""
        if full := self.count + rows > self.capacity:
            numbers, values = self.merged_rows()
            self._move(max(16, 2 * (len(numbers) + rows)), numbers, values)
        return full

    def extend(self, rows: int) -> bool:
        """Make room for ``rows`` more contributions, and leave those that there are as they stand; whether there was none."""
        count = self.count
        if full := count + rows > self.capacity:
            self._move(max(16, 2 * (count + rows)), self.row_numbers[:count], self.row_values[:count])
        return full

    def _move(self, capacity: int, numbers: Array, values: Array) -> None:
        """Have room for so many contributions, which are these so far."""
        rows, contributions = aligned(capacity, np.int64), aligned((capacity, self.shape[1]), self.dtype, fill=None)
        scratch = aligned(1 << (2 * capacity - 1).bit_length(), np.int32)
        rows[: len(numbers)], contributions[: len(numbers)] = numbers, values
        words = [len(numbers), capacity, *map(address, (rows, contributions, scratch)), len(scratch) - 1]

        def take() -> None:
            self.header[2:8] = words
            self.row_numbers, self.row_values, self._scratch = rows, contributions, scratch

        finish(take)

    def merged_rows(self) -> tuple[Array, Array]:
        """The row contributions as sorted, distinct row numbers and the sums of their values."""
        count = self.count
        numbers, place = np.unique(self.row_numbers[:count], return_inverse=True)
        values = np.zeros((len(numbers), self.shape[1]), self.dtype)
        np.add.at(values, place.reshape(-1), self.row_values[:count])
        return numbers, values

    def add_rows(self, numbers: Array, values: Array) -> None:
        """Append contributions; room for them must have been reserved."""
        start, stop = self.count, self.count + len(numbers)
        self.row_numbers[start:stop] = numbers
        self.row_values[start:stop] = values
        self.header[2] = stop

    def gathered(self) -> Array:
        """The dense matrix, with the rows of the list added to it, which is empty then."""
        dense = self.require_dense()
        np.add.at(dense, self.row_numbers[: self.count], self.row_values[: self.count])
        self.header[2] = 0
        return dense

    def is_finite(self) -> bool:
        """Whether no element is NaN or infinite."""
        with np.errstate(all="ignore"):  # what is added up may overflow
            numbers, values = self.merged_rows()
            if self.dense is None or not self.touched:
                return bool(np.isfinite(values).all())
            return bool(np.isfinite(self.dense).all() and np.isfinite(self.dense[numbers] + values).all())

    def clear(self) -> None:
        """Set the gradient to zero."""
        if self.dense is not None and self.touched:
            self.dense.fill(0)
        self.header[0] = 0
        self.header[2] = 0
        self.header[11] &= 2


class BagSource:
    """Bags of indices: bag b has the indices ``values[begins[b] : ends[b]]``, and the weights that stand likewise.

    Native code reads begin and end of a bag once in each run, and checks that they lie within the values: a bag that does not
    is reported (:data:`Report.ORDER_OUT_OF_RANGE`). Values and weights may stand at any address, begins and ends are aligned.

    Attributes
    ----------
    header
        Seven int64 for native code: the addresses of values, begins and ends (int64), and weights (0: none), the codes of
        the dtypes of values and weights, their places in :data:`SOURCE_DTYPES`, and the number of values.
    """

    #: The words of the header, in order.
    HEADER = ("values", "begins", "ends", "weights", "dtype", "weights_dtype", "length")

    __slots__ = ("begins", "ends", "header", "values", "weights")

    def __init__(self, values: Array, begins: Array, ends: Array, weights: Array | None = None) -> None:
        self.values, self.begins, self.ends, self.weights = values, begins, ends, weights
        self.header = aligned(len(self.HEADER), np.int64)
        self.header[:3] = address(values), address(begins), address(ends)
        self.header[4], self.header[6] = SOURCE_DTYPES.index(values.dtype.name), len(values)
        if weights is not None:
            self.header[3], self.header[5] = address(weights), SOURCE_DTYPES.index(weights.dtype.name)

    def __len__(self) -> int:
        return len(self.begins)


class BagBuffer:
    """The bags of one pass, copied from where they come from.

    Attributes
    ----------
    header
        Eight int64 for native code: the number of indices; the capacity; the number of bags; the addresses of the indices
        (int64), of the bags' begins and the last one's end (int64), and of the weights (in the program's dtype; all 1 where
        there are none); the code of the source's dtype, and the address of where each bag begins and ends there, two
        addresses a bag.
    """

    #: The words of the header, in order.
    HEADER = ("count", "capacity", "bags", "indices", "offsets", "weights", "dtype", "places")

    __slots__ = ("dtype", "header", "indices", "offsets", "places", "weights")

    def __init__(self, rows: int, dtype: npt.DTypeLike) -> None:
        self.dtype = dtype
        self.header = aligned(len(self.HEADER), np.int64)
        self.offsets = aligned(rows + 1, np.int64)
        self.places = aligned((rows, 2), np.int64)
        self.header[2] = rows
        self.header[4], self.header[7] = address(self.offsets), address(self.places)
        self.reserve(16)

    def reserve(self, count: int) -> None:
        """Make room for so many indices; what was there is gone."""
        indices, weights = aligned(count, np.int64), aligned(count, self.dtype)

        def take() -> None:
            self.header[:6] = 0, count, self.header[2], address(indices), self.header[4], address(weights)
            self.indices, self.weights = indices, weights

        finish(take)

    @property
    def count(self) -> int:
        """How many indices there are."""
        return int(self.header[0])


class Report:
    """Why a native call did not return 0: five int64 that the callee fills.

    (status, where, place, value, position); the last is the position of the run in the order.
    """

    #: An index input holds a number outside 0 <= index < limit: where: input, place: which of its indices, value: the index.
    INDEX_OUT_OF_RANGE = 1
    #: The row list of a gradient buffer has no room for what is to be added: value: how much room is needed.
    ROWS_FULL = 2
    #: The loss is NaN or infinite: where: the first example of the run.
    NOT_FINITE = 3
    #: A bag buffer is too small: where: input, value: how many indices there are.
    BAG_FULL = 4
    #: An order names an example that there is none of, a position beyond its sources, or a part that there is none of: value:
    #: which. Likewise a bag that does not lie within its values: where: input, place: which of the run's bags.
    ORDER_OUT_OF_RANGE = 5
    #: A gradient has no matrix, to which something is to be added.
    NO_MATRIX = 6
    #: A team was abandoned while a thread waited for the others.
    ABANDONED = 7

    __slots__ = ("words",)

    def __init__(self) -> None:
        self.words = aligned(5, np.int64)

    def set(self, status: int, where: int = 0, place: int = 0, value: int = 0) -> int:
        """Fill the report; returns the status."""
        self.words[:4] = status, where, place, value
        return status


@dataclass
class Memory:
    """All the buffers that a bound program runs over, and the date of its last forward pass, one int64 (:mod:`wyrm.turns`).

    The date is 0 if there was no pass, or if it failed.

    ``buffers`` has one entry for each of the program's: flat arrays for ``real`` and ``index``, a :class:`BagBuffer` for a
    bag, a 2-D array for a value or state, a :class:`GradientBuffer` for a gradient, a row for scalars, a
    :class:`wyrm.clocks.Clock`. ``adopted`` are the arrays of users among them (:class:`wyrm.borrowed.Adopted`).
    """

    program: Program
    buffers: Sequence[Any]
    report: Report = field(default_factory=Report)
    adopted: Sequence[Any] = ()
    date: memoryview[int] = field(default_factory=lambda: memoryview(aligned(1, np.int64).data))

    @staticmethod
    def own(program: Program) -> list[Array]:
        """New ``real`` and ``index`` buffers for a program, with its literals in place."""
        real = aligned(program.real_length, program.dtype)
        for value, slot in program.literals:
            real[slot.offset] = value
        return [real, aligned(program.index_length, np.int64)]


@dataclass
class Source:
    """One input's values for a whole data set: row e of ``array`` is the value for example e.

    ``array`` is 2-D, of float32, float64, int32 or int64, each row contiguous. ``constant``: its only row is the value in every
    run. ``by_position``: row p is the value in run p of the order. With ``starts``, of int64, the value for example e is row
    ``starts[e] + shift``: position ``shift`` of a sequence that begins there. For a bag input there are ``bags``
    instead, as many for each example as the input has; for a random one, the array's only row has seed and stream.
    """

    array: Array
    constant: bool = False
    by_position: bool = False
    bags: BagSource | None = None
    starts: Array | None = None
    shift: int = 0

    def __len__(self) -> int:
        """How many examples, or positions, there are."""
        return len(self.array if self.starts is None else self.starts)

    def rows(self, examples: Any) -> Array:
        """The values for examples, where they are rows of the array: neither constant nor by position."""
        places = examples if self.starts is None else self.starts[examples] + self.shift
        values: Array = self.array[places]
        return values


@dataclass
class Sink:
    """Where an output goes: row e of ``array`` (2-D, in the program's dtype, each row contiguous) takes example e's."""

    array: Array
