"""What users feed, as columns: arrays, data frames' columns, sparse matrices, bags and sequences.

:func:`column_for` reads data for an input node, which says what they have to be; :func:`column_of` those for an argument of a
function, where the data say it themselves. Arrays are read where they stand: float32, float64, int32 or int64, each row
contiguous, from memory or from a file. Others are converted, unless they are in a file: nobody copies a file into memory by
mistake.
"""

from __future__ import annotations

import mmap
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import DTypeError, FeedError
from wyrm.frontend.bag_inputs import BagInputNode
from wyrm.frontend.bags import Bags
from wyrm.frontend.inputs import IndexInputNode
from wyrm.frontend.node import Node
from wyrm.frontend.values import as_dtype, as_indices, as_lists, as_reals, is_native
from wyrm.program import Shape
from wyrm.training.bag_columns import BagColumn
from wyrm.training.columns import Column
from wyrm.training.data import Dense, Ragged
from wyrm.training.row_columns import RowsColumn

__all__ = ["column_for", "column_of"]

Array = npt.NDArray[Any]


def column_for(node: Node, data: Any) -> Column:
    """The data that a feed has for an input node.

    Raises
    ------
    FeedError, DTypeError
        Where they are no data for it: another shape, NaN, no real or whole numbers.
    """
    name = node._label()
    label = f"feed for {name}"
    if isinstance(data, Ragged):
        raise FeedError(
            f"{label}: sequences of any length need a model given as a function, which gets a node for each position"
        )
    if isinstance(node, BagInputNode):
        return BagColumn(Bags.of(data, label), node.shape[0], name)
    index = isinstance(node, IndexInputNode)
    values = _indices(data, label) if index else _reals(data, label)
    shape = node.shape
    if values.ndim == 0 or values.shape[1:] not in _forms(shape, index):
        raise FeedError(f"{label}: expected shape (N, {', '.join(map(str, shape))}), got {values.shape}")
    column = Column(_rows(values, shape, label), shape, index, name)
    column.given = _given(data, values)
    return column


def _given(data: Any, values: Array) -> tuple[int, ...] | None:
    """The shape of data that are an array or a list."""
    return values.shape if type(data) in (list, np.ndarray) else None


@lru_cache(256)
def _forms(shape: Shape, index: bool) -> set[tuple[int, ...]]:
    """The shapes in which an example's data may come for an input."""
    if index:
        return {(shape[0],), shape, *([()] if shape[0] == 1 else [])}
    return {shape, tuple(length for length in shape if length != 1), *((length,) for length in shape if 1 in shape)}


def column_of(name: str, data: Any) -> Column:
    """The data that a feed has for an argument of a function, which say themselves what they are.

    Raises
    ------
    FeedError, DTypeError
        Where they are no data: of more axes than a matrix for each example, NaN, no real numbers.
    """
    label = f"feed for {name}"
    if isinstance(data, Bags) or hasattr(data, "tocsr") or hasattr(data, "indptr"):
        return BagColumn(Bags.of(data, label), 1, name)
    offsets = data.offsets if isinstance(data, Ragged) else None
    values = data.values if isinstance(data, (Ragged, Dense)) else _array(data, label)
    dense = data.dense if isinstance(data, Ragged) else isinstance(data, Dense)
    index = values.dtype.kind in "iu" and not dense
    values = _indices(values, label) if index else _native(values, label)
    if not 1 <= values.ndim <= (2 if index or offsets is not None else 3):
        raise FeedError(
            f"{label}: expected a number, a row or a matrix of real numbers for each example, (N,), (N, columns) or (N, rows, "
            f"columns), or (N,) or (N, count) indices; got {'indices' if index else 'numbers'} of shape {values.shape}"
        )
    shape: Shape = (1, 1)
    if values.ndim > 1:
        shape = (values.shape[1], 1) if index else (1, values.shape[1]) if values.ndim == 2 else values.shape[1:]
    by_rows = isinstance(data, Ragged) and data.rows
    if by_rows and index and shape != (1, 1):
        raise FeedError(
            f"{label}: expected one index for each position of a sequence whose positions are rows, got {shape[0]}; feed the "
            f"sequences of each as an argument of its own"
        )
    made = RowsColumn if by_rows else Column
    column = made(_rows(values, shape, label, by_rows), shape, index, name, offsets)
    column.given = _given(data, values)
    return column


def _array(data: Any, label: str) -> Array:
    try:
        return as_reals(data, label)
    except DTypeError as error:
        if all(isinstance(entry, (list, tuple, np.ndarray)) for entry in as_lists(data, label) or [None]):
            found = str(error).rstrip(".")  # NumPy's sentence has one
            raise DTypeError(f"{found}. Sequences of any length are wrapped in wyrm.Ragged.of, bags in wyrm.Bags.of") from None
        raise


def _reals(data: Any, label: str) -> Array:
    return _native(as_reals(data.values if isinstance(data, Dense) else data, label), label)


def _native(values: Array, label: str) -> Array:
    """Real numbers in a dtype in which runners read them."""
    if is_native(values):
        return values
    _refuse_copy(values, label)
    small = values.dtype.kind == "b" or values.dtype.itemsize < 4
    return as_dtype(values, "float32" if small else "float64", label)


def _indices(data: Any, label: str) -> Array:
    values = as_reals(data, label)
    if values.dtype.kind == "i" and is_native(values):
        return values
    _refuse_copy(values, label)
    return as_indices(values, label)


def _rows(values: Array, shape: Shape, label: str, gapless: bool = False) -> Array:
    """``values`` with one row for each example, without gaps between them if asked for; a view wherever it can be one."""
    if not (values if gapless else values[:1]).flags.c_contiguous:
        _refuse_copy(values, label)
        values = np.ascontiguousarray(values)
    return values.reshape(len(values), shape[0] * shape[1])


def _refuse_copy(array: Array, label: str) -> None:
    """Raise where an array is in a file."""
    base: Any = array
    while base is not None:
        if isinstance(base, (np.memmap, mmap.mmap)):
            raise FeedError(
                f"{label}: data in a file is read where it stands, and never copied as a whole: it must be float32, float64, "
                f"int32 or int64, in this machine's byte order, each example contiguous; this is {array.dtype.str} of strides "
                f"{array.strides}. Convert the file, or feed it in chunks"
            )
        base = getattr(base, "base", None)
