"""Kinds of data that an array cannot tell: :class:`Ragged`, sequences of any length; :class:`Dense`, numbers, not indices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import shown
from wyrm.borrowed import pin
from wyrm.errors import DTypeError, ShapeError
from wyrm.frontend.values import as_indices, as_lists, as_reals, unchangeable, view_of

__all__ = ["Dense", "Ragged"]

Array = npt.NDArray[Any]


class Dense:
    """Whole numbers that are to be read as real numbers, where integers would be indices.

    Parameters
    ----------
    values
        An array, or what can be made one.

    Examples
    --------
    >>> import wyrm
    >>> wyrm.evaluate(lambda age: age * 0.5, {"age": wyrm.Dense([30, 41])})[:, 0, 0]
    array([15. , 20.5], dtype=float32)
    """

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = as_reals(values, "dense data")

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Dense({self.values.shape}, {self.values.dtype})"


class Ragged:
    """Sequences of any length: sequence n is ``values[offsets[n] : offsets[n + 1]]``.

    A function that :func:`wyrm.fit` trains gets one as a list of nodes, one for each position; or as one node with a row for
    each position, which :func:`wyrm.scan` goes over.

    Parameters
    ----------
    values
        The entries of all sequences, one after the other: (T,), or (T, count) for several numbers each. Whole numbers are
        indices, unless they are wrapped in :class:`Dense`. Not copied, so they may be in a file (``numpy.memmap``).
    offsets
        Where each sequence begins, and where the last one ends: one more than there are sequences. Values before the first and
        behind the last one belong to none, so that a part of what is in a file can be read.
    rows
        Whether a function gets a sequence as one node, of shape (n, count); of (n, 1) for indices, of which a position has one.
        The function describes one sequence then, whatever ``rows=`` the runs have.

    Raises
    ------
    DTypeError, ShapeError
        Where these are no numbers, or do not fit together.

    Examples
    --------
    >>> import wyrm
    >>> words = wyrm.Ragged([3, 1, 4, 1, 5], offsets=[0, 2, 5])
    >>> words.to_lists(), words.lengths.tolist()
    ([[3, 1], [4, 1, 5]], [2, 3])
    """

    __slots__ = ("_offsets", "_pin", "_values", "dense", "rows")

    def __init__(self, values: Any, offsets: npt.ArrayLike, *, rows: bool = False) -> None:
        if not isinstance(rows, (bool, np.bool_)):
            raise DTypeError(f"ragged: expected True or False as rows, got {shown(rows)}")
        #: Whether a sequence is the rows of one node.
        self.rows = bool(rows)
        #: Whether whole numbers are to be read as real ones.
        self.dense = isinstance(values, Dense)
        numbers = values.values if self.dense else as_reals(values, "ragged: values")
        self._values = numbers.view()  # whose shape and dtype nobody else changes
        self._pin = pin(self._values)
        self._offsets = unchangeable(as_indices(offsets, "ragged: offsets"))  # native code relies on them
        if self._values.ndim not in (1, 2) or self._offsets.ndim != 1 or len(self._offsets) == 0:
            raise ShapeError(
                f"ragged: expected values of shape (T,) or (T, count) and a vector of at least one offset, got shapes "
                f"{self._values.shape} and {self._offsets.shape}"
            )
        falls = np.flatnonzero(np.diff(self._offsets) < 0)
        if len(falls):
            n = int(falls[0])
            raise ShapeError(
                f"ragged: offsets must not fall; sequence {n} begins at {self._offsets[n]} and ends at {self._offsets[n + 1]}"
            )
        first, last = int(self._offsets[0]), int(self._offsets[-1])
        if first < 0 or last > len(self._values):
            raise ShapeError(
                f"ragged: offsets must be within 0 and {len(self._values)}, the number of values; they go from {first} to "
                f"{last}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), rows=self.rows), (Dense(self._values) if self.dense else self._values, self._offsets)

    @classmethod
    def of(cls, data: Any, *, rows: bool = False) -> Ragged:
        """Sequences from a list, or a column of a table, that holds lists or arrays; or from others.

        Parameters
        ----------
        data
            The sequences.
        rows
            Whether a function gets a sequence as the rows of one node.

        Raises
        ------
        DTypeError, ShapeError
            Where they are no sequences of numbers, or differ in the shape of their entries.

        Examples
        --------
        >>> import wyrm
        >>> wyrm.Ragged.of([[3, 1], [], [4, 1, 5]])
        Ragged(3 sequences, 5 values of int64)
        """
        if isinstance(data, Ragged):
            return cls(Dense(data.values) if data.dense else data.values, data.offsets, rows=True) if rows > data.rows else data
        sequences = as_lists(data, "ragged")
        if sequences is None:
            raise DTypeError(f"Ragged.of: expected a sequence of sequences, got {type(data).__name__}")
        return cls(*_together([_entries(n, sequence) for n, sequence in enumerate(sequences)]), rows=rows)

    @property
    def values(self) -> Array:
        """The entries of all sequences; they can be read, not written."""
        return view_of(self._values)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each sequence begins, and where the last one ends; they can be read, not written."""
        return view_of(self._offsets)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How long each sequence is."""
        return np.diff(self._offsets)

    def to_lists(self) -> list[list[Any]]:
        """The entries of each sequence."""
        return [self._values[a:b].tolist() for a, b in zip(self._offsets[:-1], self._offsets[1:], strict=True)]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __repr__(self) -> str:
        count, rows = int(self._offsets[-1] - self._offsets[0]), ", as rows" if self.rows else ""
        return f"Ragged({len(self)} sequences, {count} values of {self._values.dtype}{rows})"


def _entries(number: int, sequence: Any) -> Array:
    array = as_reals(sequence, f"ragged: sequence {number}")
    if array.ndim not in (1, 2):
        raise ShapeError(f"ragged: sequence {number} is no sequence; its shape is {array.shape}")
    return array


def _together(sequences: Sequence[Array]) -> tuple[Array, Array]:
    """Values and offsets. Empty sequences have whatever shape and dtype the others have."""
    offsets = np.zeros(len(sequences) + 1, np.int64)
    offsets[1:] = np.cumsum([len(sequence) for sequence in sequences])
    filled = [sequence for sequence in sequences if len(sequence)]
    if not filled:
        return np.zeros(0, np.int64), offsets
    shapes = {sequence.shape[1:] for sequence in filled}
    if len(shapes) > 1:
        raise ShapeError(f"ragged: entries must have one shape, got {' and '.join(map(str, sorted(shapes)))}")
    return np.concatenate(filled), offsets
