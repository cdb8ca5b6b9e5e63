"""Constraints on the rows of a parameter: rows that are frozen, and the greatest norm of a row.

Each is a number for every row, which update rules read beside the value (:mod:`wyrm.optim.constraints`): 1 where the row is
frozen, and the square of the greatest norm over the number of columns, which the mean square of a row may not exceed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import as_float, shown
from wyrm.errors import DTypeError, OptionError, OutOfRangeError, ShapeError
from wyrm.frontend.values import as_indices, as_reals

__all__ = ["FROZEN", "LARGEST", "checked_norm", "frozen_mask", "scale_rows"]

Array = npt.NDArray[Any]
#: The names under which storage keeps them; no rule's state has a name without a dot there.
FROZEN, LARGEST = "frozen rows", "largest mean square"


def frozen_mask(rows: npt.ArrayLike | None, count: int, label: str) -> npt.NDArray[np.bool_]:
    """Which of ``count`` rows are frozen, from row numbers or from a truth value for each row; ``None``: none.

    Raises
    ------
    DTypeError, ShapeError, OutOfRangeError
        If it is neither, or names rows that there are not.
    """
    mask = np.zeros(count, np.bool_)
    if rows is None:
        return mask
    array = as_reals(rows, f"{label}: frozen_rows")
    if array.dtype == np.bool_ and array.ndim:
        if array.shape not in ((count,), (count, 1)):
            raise ShapeError(
                f"{label}: expected a truth value for each of {count} rows as frozen_rows, got shape {array.shape}"
            )
        mask[...] = array.reshape(-1)
        return mask
    numbers = as_indices(array, f"{label}: frozen_rows") if array.size else np.zeros(0, np.int64)
    if numbers.ndim > 1:
        raise ShapeError(f"{label}: expected row numbers as frozen_rows, got shape {numbers.shape}")
    wrong = numbers[(numbers < 0) | (numbers >= count)]
    if wrong.size:
        raise OutOfRangeError(f"{label}: frozen_rows has {wrong.flat[0]}, and there are rows 0 to {count - 1}")
    mask[numbers] = True
    return mask


def checked_norm(norm: Any, label: str) -> float:
    """The greatest norm of a row.

    Raises
    ------
    DTypeError, OptionError
        If it is no finite number above 0.
    """
    if not isinstance(norm, (int, float, np.integer, np.floating)) or isinstance(norm, bool):
        raise DTypeError(f"{label}: expected a number or None as max_norm, got {shown(norm)}")
    number = as_float(norm)
    if not 0 < number < np.inf:
        raise OptionError(f"{label}: expected max_norm to be finite and above 0, got {shown(norm)}")
    return number


def scale_rows(value: Array, norm: float, frozen: npt.NDArray[np.int64]) -> bool:
    """Scale those rows back to a norm that exceed it, in place, but for frozen ones; whether there are any."""
    norms = np.sqrt(np.square(value, dtype=np.float64).sum(axis=1))
    norms[frozen] = 0
    long = np.flatnonzero(norms > norm)
    value[long] *= (norm / norms[long]).reshape(-1, 1)
    return bool(len(long))
