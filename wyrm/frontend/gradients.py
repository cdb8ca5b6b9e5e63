"""The sparse-gradient protocol: what a parameter's gradient looks like from outside.

A gradient is a :class:`DenseGradient`, a whole matrix, or a :class:`RowSparseGradient`, the rows that were touched. Which
one it is follows from how the parameter was used: look-ups give rows, everything else a matrix, and both together a matrix
that has lost neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import OutOfRangeError, ShapeError
from wyrm.memory import GradientBuffer
from wyrm.program import Shape

__all__ = ["DenseGradient", "Gradient", "RowSparseGradient", "read_gradient", "write_gradient"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class DenseGradient:
    """A gradient as a whole matrix.

    Attributes
    ----------
    values
        Of the parameter's shape.
    """

    values: Array

    @property
    def shape(self) -> Shape:
        """The parameter's shape."""
        rows, cols = self.values.shape
        return rows, cols

    def to_dense(self) -> Array:
        """The gradient as a matrix."""
        return self.values

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.values, dtype, copy=True if copy is None else copy)


@dataclass(frozen=True, eq=False)
class RowSparseGradient:
    """A gradient that is zero but for some rows.

    Attributes
    ----------
    rows
        Which, as int64: sorted, none twice.
    values
        Their gradients, of shape (len(rows), columns).
    shape
        Of the parameter.

    Examples
    --------
    >>> import numpy as np
    >>> gradient = RowSparseGradient(np.array([0, 2]), np.ones((2, 2)), (4, 2))
    >>> gradient.to_dense()[:, 0]
    array([1., 0., 1., 0.])
    """

    rows: npt.NDArray[np.int64]
    values: Array
    shape: Shape

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), self.shape[1]):
            raise ShapeError(
                f"row-sparse gradient: {len(self.rows)} rows of a parameter of shape {self.shape} need values of shape "
                f"{(len(self.rows), self.shape[1])}, got {self.values.shape}"
            )
        if np.any(np.diff(self.rows) <= 0):
            raise ShapeError("row-sparse gradient: rows must be sorted, with none twice")
        if len(self.rows) and not 0 <= self.rows[0] <= self.rows[-1] < self.shape[0]:
            raise OutOfRangeError(f"row-sparse gradient: rows must be within 0 and {self.shape[0] - 1}")

    def to_dense(self) -> Array:
        """The gradient as a matrix of the parameter's shape."""
        dense = np.zeros(self.shape, self.values.dtype)
        dense[self.rows] = self.values
        return dense

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self.to_dense().astype(self.values.dtype if dtype is None else dtype, copy=False)


Gradient = DenseGradient | RowSparseGradient


def read_gradient(buffer: GradientBuffer) -> Gradient:
    """What a gradient buffer has gathered, as a copy."""
    if buffer.touched and buffer.dense is not None:
        values = buffer.dense.copy()
        np.add.at(values, buffer.row_numbers[: buffer.count], buffer.row_values[: buffer.count])
        return DenseGradient(values)
    return RowSparseGradient(*buffer.merged_rows(), buffer.shape)


def write_gradient(buffer: GradientBuffer, gradient: Gradient) -> None:
    """Let a gradient buffer hold a gradient, and nothing else."""
    buffer.clear()
    if isinstance(gradient, DenseGradient):
        buffer.require_dense()[...] = gradient.values
        buffer.header[0] = 1
    else:
        buffer.reserve(len(gradient.rows))
        buffer.add_rows(gradient.rows, gradient.values)
