"""What users pass as values, checked and turned into arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import DTypeError
from wyrm.memory import SOURCE_DTYPES

__all__ = ["as_indices", "as_reals", "is_native", "real_dtype"]

Array = npt.NDArray[Any]
#: As they are mostly given; NumPy needs longer to find a dtype's name than a node needs to be made.
_DTYPES = {None: "float32", "float32": "float32", "float64": "float64"}


def real_dtype(dtype: npt.DTypeLike | None, label: str) -> str:
    """The name of a dtype that a graph may have, float32 unless another is given.

    Raises
    ------
    DTypeError
        For any but float32 and float64, naming ``label``.
    """
    name = _DTYPES.get(dtype) if dtype is None or type(dtype) is str else None
    if name is None:
        name = np.dtype(dtype).name
        if name not in ("float32", "float64"):
            raise DTypeError(f"{label}: dtype must be float32 or float64, got {name}")
    return name


def as_reals(value: Any, label: str) -> Array:
    """``value`` as an array of real numbers, of whatever dtype: what ``numpy.asarray`` takes, or DLPack.

    Raises
    ------
    DTypeError
        For complex numbers, objects, strings and anything else that is not real, naming ``label``.
    """
    try:
        array = value if type(value) is np.ndarray else np.from_dlpack(value) if _by_dlpack(value) else np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise DTypeError(f"{label}: expected real numbers, got something that is no array: {error}") from None
    except (BufferError, RuntimeError, TypeError) as error:  # memory of another device, for instance
        raise DTypeError(f"{label}: {type(value).__name__} cannot be read as an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{label}: expected real numbers, got {type(value).__name__} of dtype {array.dtype}")
    return array


def _by_dlpack(value: Any) -> bool:
    """Whether DLPack is the only way to an array."""
    return hasattr(value, "__dlpack__") and not (hasattr(value, "__array__") or hasattr(value, "__array_interface__"))


def is_native(array: Array) -> bool:
    """Whether native code can read an array's elements as they are."""
    return array.dtype.name in SOURCE_DTYPES and array.dtype.isnative


def as_indices(value: Any, label: str) -> npt.NDArray[np.int64]:
    """``value`` as an array of int64 row numbers, a copy.

    Raises
    ------
    DTypeError
        For anything but whole numbers, naming ``label``.
    """
    array = as_reals(value, label)
    if array.dtype.kind == "b":
        raise DTypeError(f"{label}: expected row numbers, got booleans")
    if array.dtype.kind == "f":
        wrong = array[~(np.isfinite(array) & (array == np.floor(array)))]
        if wrong.size:
            raise DTypeError(f"{label}: expected whole row numbers, got {wrong.flat[0]}")
        wrong = array[np.abs(array) >= 2.0**63]
        if wrong.size:
            raise DTypeError(f"{label}: row number {wrong.flat[0]} does not fit into 64 bits")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DTypeError(f"{label}: row number {int(array.max())} does not fit into 64 bits")
    return array.astype(np.int64)
