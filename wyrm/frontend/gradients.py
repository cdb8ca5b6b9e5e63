"""The sparse-gradient protocol: what a parameter's gradient looks like from outside.

A gradient is a :class:`DenseGradient`, a whole matrix, or a :class:`RowSparseGradient`, the rows that were touched. Which
one it is follows from how the parameter was used: look-ups give rows, everything else a matrix, and both together a matrix
that has lost neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import shown
from wyrm.errors import DTypeError, OutOfRangeError, ShapeError
from wyrm.frontend.values import as_indices, as_reals, unchangeable
from wyrm.memory import GradientBuffer
from wyrm.program import Shape
from wyrm.whole import finish

__all__ = ["DenseGradient", "Gradient", "RowSparseGradient", "as_gradient", "read_gradient", "write_gradient"]

Array = npt.NDArray[Any]


class _Arithmetic:
    """What both kinds of gradient can do."""

    def __add__(self, other: Gradient) -> Gradient:
        """The sum: row-sparse where both are, else dense; nothing is lost.

        Raises
        ------
        ShapeError
            Where the shapes differ.
        """
        if not isinstance(other, (DenseGradient, RowSparseGradient)):
            return NotImplemented
        me: Gradient = self  # type: ignore[assignment]
        if me.shape != other.shape:
            raise ShapeError(f"gradients of shapes {me.shape} and {other.shape} cannot be added")
        if isinstance(me, RowSparseGradient) and isinstance(other, RowSparseGradient):
            rows = np.concatenate([me.rows, other.rows])
            return RowSparseGradient.merged(rows, np.concatenate([me.values, other.values]), me.shape)
        return DenseGradient(me.to_dense() + other.to_dense())

    def __mul__(self, factor: float) -> Gradient:
        """The gradient scaled by a number."""
        if not isinstance(factor, (int, float, np.number)):
            return NotImplemented
        return replace(self, values=self.values * self.values.dtype.type(factor))  # type: ignore

    __rmul__ = __mul__

    def norm(self) -> float:
        """The root of the sum of the squares of all elements."""
        return float(np.sqrt(np.sum(np.square(self.values, dtype=np.float64))))  # type: ignore


@dataclass(frozen=True, eq=False)
class DenseGradient(_Arithmetic):
    """A gradient as a whole matrix.

    Attributes
    ----------
    values
        Of the parameter's shape.

    Examples
    --------
    >>> import numpy as np
    >>> gradient = DenseGradient(np.array([[3.0, 4.0]]))
    >>> gradient.norm(), (0.5 * gradient + gradient).values
    (5.0, array([[4.5, 6. ]]))
    """

    values: Array

    @property
    def shape(self) -> Shape:
        """The parameter's shape."""
        if self.values.ndim != 2:
            raise ShapeError(f"gradient: expected a matrix, got shape {self.values.shape}")
        rows, cols = self.values.shape
        return rows, cols

    def to_dense(self) -> Array:
        """The gradient as a matrix."""
        return self.values

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.values, dtype, copy=True if copy is None else copy)


@dataclass(frozen=True, eq=False)
class RowSparseGradient(_Arithmetic):
    """A gradient that is zero but for some rows.

    Attributes
    ----------
    rows
        Which, as int64: sorted, none twice. A copy of what was given, which cannot be written to.
    values
        Their gradients, real numbers of shape (len(rows), columns). Not copied.
    shape
        Of the parameter.

    Raises
    ------
    DTypeError
        If rows are no whole numbers, or values no real ones.
    ShapeError, OutOfRangeError
        If rows and values do not fit together, or rows are not sorted, not distinct or outside the parameter.

    Examples
    --------
    >>> import numpy as np
    >>> gradient = RowSparseGradient(np.array([0, 2]), np.ones((2, 2)), (4, 2))
    >>> gradient.to_dense()[:, 0]
    array([1., 0., 1., 0.])
    >>> (gradient + RowSparseGradient(np.array([2, 3]), np.ones((2, 2)), (4, 2))).to_dense()[:, 0]
    array([1., 0., 2., 1.])
    """

    rows: npt.NDArray[np.int64]
    values: Array
    shape: Shape

    def __post_init__(self) -> None:
        rows = unchangeable(as_indices(self.rows, "row-sparse gradient: rows"))
        values = as_reals(self.values, "row-sparse gradient: values")
        shape = _shape_of(self.shape)
        if rows.ndim != 1 or values.shape != (len(rows), shape[1]):
            raise ShapeError(
                f"row-sparse gradient: expected a vector of rows, and for {rows.size} rows of a parameter of shape {shape} "
                f"values of shape {(rows.size, shape[1])}; got shapes {rows.shape} and {values.shape}"
            )
        if (rows[1:] <= rows[:-1]).any():
            raise ShapeError("row-sparse gradient: rows must be sorted, with none twice; RowSparseGradient.merged sees to it")
        if len(rows) and not 0 <= rows[0] <= rows[-1] < shape[0]:
            raise OutOfRangeError(
                f"row-sparse gradient: rows must be within 0 and {shape[0] - 1}; they go from {rows[0]} to {rows[-1]}"
            )
        for name, checked in (("rows", rows), ("values", values), ("shape", shape)):
            object.__setattr__(self, name, checked)

    @classmethod
    def merged(cls, rows: npt.ArrayLike, values: npt.ArrayLike, shape: Shape) -> RowSparseGradient:
        """From rows in any order; those that stand several times are summed. It raises what the class raises."""
        numbers, parts = as_indices(rows, "row-sparse gradient: rows"), as_reals(values, "row-sparse gradient: values")
        distinct, place = np.unique(numbers, return_inverse=True)
        if numbers.ndim != 1 or parts.shape != (len(numbers), _shape_of(shape)[1]):
            return cls(numbers, parts, shape)  # which says what is wrong
        total = np.zeros((len(distinct), parts.shape[1]), parts.dtype)
        np.add.at(total, place.reshape(-1), parts)
        return cls(distinct, total, shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> RowSparseGradient:
        """From a ``scipy.sparse`` matrix or array: the rows in which it stores anything."""
        if not hasattr(matrix, "tocsr"):
            raise DTypeError(f"RowSparseGradient: expected a matrix of scipy.sparse, got {shown(matrix)}")
        stored = matrix.tocsr()
        rows = np.flatnonzero(np.diff(stored.indptr)).astype(np.int64)
        return cls(rows, np.asarray(stored[rows].todense()), (int(stored.shape[0]), int(stored.shape[1])))

    def to_scipy(self) -> Any:
        """The gradient as a ``scipy.sparse.csr_array``; SciPy must be installed."""
        from scipy.sparse import csr_array

        cols = self.shape[1]
        lengths = np.zeros(self.shape[0], np.int64)
        lengths[self.rows] = cols
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return csr_array((self.values.reshape(-1), np.tile(np.arange(cols), len(self.rows)), offsets), shape=self.shape)

    def to_dense(self) -> Array:
        """The gradient as a matrix of the parameter's shape."""
        dense = np.zeros(self.shape, self.values.dtype)
        dense[self.rows] = self.values
        return dense

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self.to_dense().astype(self.values.dtype if dtype is None else dtype, copy=False)


Gradient = DenseGradient | RowSparseGradient


def _shape_of(shape: Any) -> Shape:
    """A parameter's shape, checked."""
    try:
        rows, cols = (index(length) for length in shape)
    except (TypeError, ValueError):
        raise ShapeError(f"row-sparse gradient: expected a parameter's shape, (rows, columns), got {shape!r}") from None
    return rows, cols


def read_gradient(buffer: GradientBuffer, frozen: npt.NDArray[np.int64] | None = None) -> Gradient:
    """What a gradient buffer has gathered, as a copy; rows that are frozen have none."""
    if buffer.touched and buffer.dense is not None:
        values = buffer.dense.copy()
        np.add.at(values, buffer.row_numbers[: buffer.count], buffer.row_values[: buffer.count])
        if frozen is not None:
            values[frozen] = 0
        return DenseGradient(values)
    rows, values = buffer.merged_rows()
    if frozen is not None:
        free = ~np.isin(rows, frozen)
        rows, values = rows[free], values[free]
    return RowSparseGradient(rows, values, buffer.shape)


def as_gradient(value: Any, shape: Shape, label: str) -> Gradient:
    """A gradient for a parameter of a shape, from one, from a matrix or from a ``scipy.sparse`` one.

    What was checked when a gradient was made is checked again here: since then, its arrays may have been changed.

    Raises
    ------
    ShapeError, DTypeError, OutOfRangeError
        If the shape is another, it holds no real numbers, or it is row-sparse and its rows are not what they have to be.
    """
    if hasattr(value, "tocsr"):
        value = RowSparseGradient.from_scipy(value)
    gradient: Gradient
    if isinstance(value, RowSparseGradient):
        try:
            gradient = RowSparseGradient(value.rows, value.values, value.shape)
        except (DTypeError, ShapeError, OutOfRangeError) as error:
            raise type(error)(f"{label}: {error}") from None
        found: tuple[int, ...] = gradient.shape
    else:
        gradient = DenseGradient(as_reals(value.values if isinstance(value, DenseGradient) else value, label))
        found = gradient.values.shape
    if found != shape:
        raise ShapeError(f"{label}: set_gradient expected shape {shape}, got {found}")
    return gradient


def write_gradient(buffer: GradientBuffer, gradient: Gradient) -> None:
    """Let a gradient buffer hold a gradient, and nothing else; or leave it as it was."""
    if isinstance(gradient, DenseGradient):
        dense, values = buffer.require_dense(), gradient.values.astype(buffer.dtype, copy=False)

        def write() -> None:
            buffer.clear()
            buffer.doubt()
            dense[...] = values
            buffer.header[0] = 1
    else:
        numbers, values = gradient.rows, gradient.values.astype(buffer.dtype, copy=False)
        buffer.extend(len(numbers))

        def write() -> None:
            buffer.clear()
            buffer.doubt()
            buffer.add_rows(numbers, values)

    finish(write)
