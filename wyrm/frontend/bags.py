"""Bags: any number of row numbers for each example, with weights, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import shown
from wyrm.borrowed import pin
from wyrm.errors import DTypeError, OutOfRangeError, ShapeError
from wyrm.frontend.values import as_indices, as_lists, as_reals, is_native, unchangeable, view_of
from wyrm.memory import SOURCE_DTYPES, BagSource, address, aligned

__all__ = ["Bags", "HeldBags"]

Array = npt.NDArray[Any]


class Bags:
    """Bags of row numbers: bag b has ``values[offsets[b] : offsets[b + 1]]``, and the weights that stand likewise.

    ``begins`` and ``ends`` say where each bag stands in ``values``. All of these can be read, not written.

    This is also how the rows of a ``scipy.sparse`` CSR matrix are stored; :meth:`of` takes one as it is.

    Parameters
    ----------
    values
        The row numbers of all bags, one after the other. Arrays of int32 and int64 are kept, not copied.
    offsets
        Where each bag begins, and where the last one ends: one more than there are bags. The first is 0, none is smaller than
        the one before it, and the last is the number of values.
    weights
        What each row is multiplied with; without, 1. Arrays of float32 and float64 are kept, not copied.

    Raises
    ------
    DTypeError, ShapeError
        If these are not whole numbers, or do not fit together.

    Examples
    --------
    >>> import wyrm
    >>> bags = wyrm.Bags([3, 1, 4, 1, 5], offsets=[0, 2, 2, 5])
    >>> bags.to_lists()
    [[3, 1], [], [4, 1, 5]]
    """

    __slots__ = ("_begins", "_ends", "_pins", "_values", "_weights")

    def __init__(self, values: npt.ArrayLike, offsets: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        self._values = _indices(values, "bags: values").view()  # whose shape and dtype nobody else changes
        places = as_indices(offsets, "bags: offsets")
        self._weights = None if weights is None else _weights(weights).view()
        if self._values.ndim != 1 or places.ndim != 1 or len(places) == 0:
            raise ShapeError(
                f"bags: expected vectors of values and of at least one offset, got shapes {self._values.shape} and "
                f"{places.shape}"
            )
        falls = places[1:] < places[:-1]
        if falls.any():
            n = int(falls.argmax())
            raise ShapeError(f"bags: offsets must not fall; bag {n} begins at {places[n]} and ends at {places[n + 1]}")
        if places[0] != 0 or places[-1] != len(self._values):
            raise ShapeError(
                f"bags: offsets must lie within 0 and {len(self._values)}, the number of values, and begin and end there; they "
                f"go from {places[0]} to {places[-1]}. There is one more offset than there are bags: where the last bag ends"
            )
        if self._weights is not None and self._weights.shape != self._values.shape:
            raise ShapeError(f"bags: expected {len(self._values)} weights, as many as values, got shape {self._weights.shape}")
        places = unchangeable(places)
        self._begins, self._ends = places[:-1], places[1:]
        self._hold()

    def _hold(self) -> None:
        """Have the memory of what is not copied stay where it is."""
        self._pins = [pin(array) for array in (self._values, self._weights) if array is not None]

    def __getstate__(self) -> tuple[Array, Array, Array, Array | None]:
        return self._values, self._begins, self._ends, self._weights

    def __setstate__(self, state: tuple[Array, Array, Array, Array | None]) -> None:
        self._values, begins, ends, self._weights = state
        self._begins, self._ends = unchangeable(begins), unchangeable(ends)
        self._hold()

    @classmethod
    def from_lists(cls, lists: Sequence[Any], weights: Sequence[Any] | None = None) -> Bags:
        """Bags from a sequence of row numbers for each, and of weights likewise.

        Raises
        ------
        DTypeError, ShapeError
            If they are no whole numbers, or weights are missing for some.
        """
        values, lengths = _joined(lists, "bags")
        offsets = np.array([0, *accumulate(lengths)], np.int64)
        if weights is None:
            bags = cls.__new__(cls)  # of offsets that fit
            bags._values, bags._weights = _indices(values, "bags: values").view(), None
            bags._pins = [pin(bags._values)]
            places = unchangeable(offsets)
            bags._begins, bags._ends = places[:-1], places[1:]
            return bags
        factors, counts = _joined(weights, "bags: weights")
        if counts != lengths:
            raise ShapeError("bags: expected as many weights in each bag as row numbers")
        return cls(values, offsets, factors.astype(np.float64))

    @classmethod
    def of(cls, data: Any, label: str = "bags") -> Bags:
        """Bags from bags, a sparse matrix (its rows, with its elements as weights), or a list of row numbers for each.

        Parameters
        ----------
        data
            Bags; a matrix of ``scipy.sparse``, which is converted unless it is CSR; a sequence, an array or a column of a table
            (pandas, Polars) that holds a list or array of row numbers for each bag; or an array with as many in each row.
        label
            What messages begin with.

        Raises
        ------
        DTypeError, ShapeError
            For anything else, such as a dense matrix of real numbers, or one of zeros and ones, naming ``label``.
        """
        if isinstance(data, Bags):
            return data
        if type(data) is list and all(type(bag) is list for bag in data):
            return _named(label, cls.from_lists, data)
        if hasattr(data, "tocsr"):
            if len(data.shape) != 2:
                raise ShapeError(f"{label}: expected a sparse matrix with a row for each bag, got shape {data.shape}")
            data = _as_csr(data, label)
        if all(hasattr(data, name) for name in ("indptr", "indices", "data")) and getattr(data, "format", "csr") == "csr":
            return _named(label, cls._of_csr, data)
        shape: tuple[int, ...] = tuple(getattr(data, "shape", ()))
        if len(shape) == 2 and shape[1] > 2 and _indicates(as_reals(data, label)):
            raise DTypeError(
                f"{label}: expected row numbers, got a matrix of zeros and ones, of shape {shape}; if it says which rows "
                f"are meant, make bags of it by scipy.sparse.csr_matrix(matrix)"
            )
        lists = as_lists(data, label)
        wrong = [n for n, bag in enumerate(lists or ()) if not hasattr(bag, "__len__") or isinstance(bag, (str, bytes))]
        if lists is None or wrong:
            got = repr(data)[:200] if lists is None else f"{type(data).__name__} whose entry {wrong[0]} is {lists[wrong[0]]!r}"
            raise DTypeError(
                f"{label}: expected Bags, a sparse matrix such as CSR, or a sequence of lists of row numbers, got {got}"
            )
        return _named(label, cls.from_lists, lists)

    @classmethod
    def _of_csr(cls, matrix: Any) -> Bags:
        places = as_indices(matrix.indptr, "bags: offsets")
        count = int(places[-1]) if places.size else 0  # there may be room for more behind
        return cls(matrix.indices[:count], places, matrix.data[:count])

    def take(self, numbers: npt.ArrayLike) -> Bags:
        """The bags of these numbers, in this order, any of them as often as it is named; what is in them is not copied.

        So examples share bags: what is known of a user, or not to be drawn for one, is stored once for each user.

        Raises
        ------
        DTypeError, ShapeError, OutOfRangeError
            Where the numbers are no vector of whole numbers, or one is not that of a bag.

        Examples
        --------
        >>> import wyrm
        >>> of_users = wyrm.Bags.from_lists([[3, 1], [4]])
        >>> of_users.take([1, 0, 1]).to_lists()
        [[4], [3, 1], [4]]
        """
        places = as_indices(numbers, "bags: numbers")
        if places.ndim != 1:
            raise ShapeError(f"bags: expected a vector of numbers of bags, got shape {places.shape}")
        wrong = (places < 0) | (places >= len(self))
        if wrong.any():
            n = int(wrong.argmax())
            raise OutOfRangeError(f"bags: place {n} names bag {places[n]}; expected at least 0 and below {len(self)}")
        taken = Bags.__new__(Bags)
        taken._values, taken._weights, taken._pins = self._values, self._weights, self._pins
        taken._begins, taken._ends = unchangeable(self._begins[places]), unchangeable(self._ends[places])
        return taken

    @property
    def span(self) -> slice:
        """The part of the values in which all bags lie."""
        if len(self._begins) == 1:
            return slice(self._begins.item(), self._ends.item())
        return slice(int(self._begins.min()), int(self._ends.max())) if len(self._begins) else slice(0)

    def copy(self) -> Bags:
        """The same bags, which share nothing with these, one after the other."""
        return Bags(*self._copied())

    def _copied(self) -> tuple[Array, Array, Array | None]:
        """Copies of the values of all bags, one after the other, of the offsets and of the weights."""
        if len(self._begins) == 1:
            part = self.span
            weights = None if self._weights is None else self._weights[part].copy()
            return self._values[part].copy(), np.array([0, part.stop - part.start]), weights
        lengths = self._ends - self._begins
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        places = np.arange(offsets[-1]) + np.repeat(self._begins - offsets[:-1], lengths)
        return self._values[places], offsets, None if self._weights is None else self._weights[places]

    @property
    def values(self) -> Array:
        """The row numbers of all bags."""
        return view_of(self._values)

    @property
    def begins(self) -> npt.NDArray[np.int64]:
        """Where each bag begins in ``values``."""
        return view_of(self._begins)

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """Where each bag ends in ``values``."""
        return view_of(self._ends)

    @property
    def weights(self) -> Array | None:
        """What each row is multiplied with; ``None``: 1."""
        return None if self._weights is None else view_of(self._weights)

    def to_lists(self) -> list[list[int]]:
        """The row numbers of each bag."""
        return [self._values[a:b].tolist() for a, b in zip(self._begins, self._ends, strict=True)]

    def __len__(self) -> int:
        return len(self._begins)

    def __repr__(self) -> str:
        weighted = "" if self._weights is None else ", weighted"
        return f"Bags({len(self)} bags, {int((self._ends - self._begins).sum())} values{weighted})"


def _named(label: str, make: Callable[[Any], Bags], data: Any) -> Bags:
    """Make bags of data; if they are refused, the message begins with the label."""
    try:
        return make(data)
    except (DTypeError, ShapeError) as error:
        raise error if label == "bags" else type(error)(f"{label}: {error}") from None


def _as_csr(matrix: Any, label: str) -> Any:
    """A sparse matrix as CSR, after what its conversion relies on has been checked: SciPy would read and write anywhere."""
    kind = getattr(matrix, "format", "csr")
    rows, cols = matrix.shape
    try:
        if kind in ("csc", "bsr"):
            block = np.shape(matrix.data)[1:] if kind == "bsr" else (1, 1)
            major, minor = (cols, rows) if kind == "csc" else (rows // block[0], cols // block[1])
            starts = np.asarray(matrix.indptr)
            fits = len(starts) == major + 1 and starts[0] == 0 and bool((np.diff(starts) >= 0).all())
            fits = fits and starts[-1] <= min(len(matrix.indices), len(matrix.data)) and _within(matrix.indices, minor)
        elif kind == "coo":
            fits = _within(matrix.row, rows) and _within(matrix.col, cols)
        else:
            fits = True
        if fits:
            return matrix.tocsr()
        why = "its indices do not fit its shape"
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        why = str(error)
    raise DTypeError(f"{label}: this sparse matrix, of format {kind}, cannot be read as CSR: {why}")


def _within(numbers: Any, limit: int) -> bool:
    numbers = np.asarray(numbers)
    return not numbers.size or bool(numbers.min() >= 0 and numbers.max() < limit)


def _indicates(matrix: Array) -> bool:
    """Whether a matrix of whole numbers holds zeros and ones alone: it says which rows are meant, but does not name them."""
    return matrix.dtype.kind in "iu" and matrix.size > 0 and bool(matrix.min() >= 0 and matrix.max() <= 1)


def _joined(lists: Sequence[Any], label: str) -> tuple[Array, list[int]]:
    """The numbers of all lists, one after the other, and how many each has."""
    if not isinstance(lists, (list, tuple)):
        try:
            lists = list(lists)
        except TypeError:
            raise DTypeError(f"{label}: expected a list for each bag, got {shown(lists)}") from None
    if all(type(part) is list for part in lists):
        flat, lengths = as_reals(list(chain.from_iterable(lists)), label), [len(part) for part in lists]
    else:
        arrays = [as_reals(part, label) for part in lists]
        wrong = [n for n, array in enumerate(arrays) if array.ndim != 1]
        if wrong:
            n = wrong[0]
            raise ShapeError(f"{label}: expected a vector for each bag, got shape {arrays[n].shape} for bag {n}")
        lengths, filled = [len(array) for array in arrays], [array for array in arrays if len(array)]
        flat = np.concatenate(filled) if filled else np.zeros(0, np.int64)
    if flat.ndim != 1:
        raise ShapeError(f"{label}: expected a vector for each bag, got bags of lists, {flat.shape[1:]} numbers each")
    return flat, lengths


def _indices(values: Any, label: str) -> Array:
    array = as_reals(values, label)
    if array.dtype.kind == "i" and is_native(array) and array.flags.c_contiguous:
        return array
    if array.dtype.kind == "f" and array.size:
        raise DTypeError(
            f"{label}: expected whole row numbers of an integer dtype, got {array.dtype}; a dense matrix becomes bags, with "
            f"its elements as weights, by scipy.sparse.csr_matrix(matrix), and row numbers become integers by astype(int)"
        )
    return as_indices(array, label)


def _weights(values: Any) -> Array:
    array = as_reals(values, "bags: weights")
    if array.dtype.kind != "f" or not is_native(array):
        array = array.astype(np.float64)
    if np.isnan(array).any():
        raise DTypeError(f"bags: weight {int(np.isnan(array).argmax())} is NaN")
    return np.ascontiguousarray(array)


class HeldBags(BagSource):
    """Bags, one after the other, in memory with room for more of them, which others take the place of.

    Passes on other threads may be reading it: what they find stays where it is. So memory that has become too small is kept by
    what takes its place, which is twice as large.

    Attributes
    ----------
    room
        For how many indices there is room.
    bounds
        Where each bag begins, and where the last one ends.
    indices, offsets
        Memory of ``values``, unsigned, and of ``bounds``, to be written at the least cost.
    """

    __slots__ = ("_previous", "_weights", "bounds", "indices", "offsets", "room")

    def __init__(self, rows: int, room: int, previous: HeldBags | None) -> None:
        self.bounds = aligned(rows + 1, np.int64)
        super().__init__(aligned(room, np.int64), self.bounds[:-1], self.bounds[1:])
        self.room, self._previous = room, previous
        self.indices = memoryview(self.values.data).cast("B").cast("Q")
        self.offsets = memoryview(self.bounds.data)
        self._weights: Array | None = None

    @property
    def count(self) -> int:
        """How many indices there are."""
        return self.offsets[-1]

    def hold(self, bags: Bags) -> None:
        """Take the place of what was there; there has to be room."""
        values, offsets, weights = bags._copied()
        self.values[: len(values)] = values
        self.weigh(weights)
        self.bounds[:] = offsets

    def weigh(self, weights: Array | None) -> None:
        """Set the weights of all indices; ``None``: 1."""
        if weights is None:
            self.header[3], self.weights = 0, None
            return
        if self._weights is None:
            self._weights = aligned(self.room, np.float64)
            self.header[5] = SOURCE_DTYPES.index("float64")
        self._weights[: len(weights)] = weights
        self.header[3], self.weights = address(self._weights), self._weights
