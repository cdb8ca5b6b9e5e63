"""What users pass as values, checked and turned into arrays."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import shown
from wyrm.errors import DTypeError
from wyrm.memory import SOURCE_DTYPES

__all__ = [
    "as_dtype",
    "as_indices",
    "as_lists",
    "as_reals",
    "find_beyond",
    "is_native",
    "plain",
    "real_dtype",
    "unchangeable",
    "view_of",
]

Array = npt.NDArray[Any]
#: As they are mostly given; NumPy needs longer to find a dtype's name than a node needs to be made.
_DTYPES = {None: "float32", "float32": "float32", "float64": "float64"}
#: What native code reads as it is, by how NumPy writes dtype and byte order.
_NATIVE = frozenset(np.dtype(name).str for name in SOURCE_DTYPES)
#: What is no array, nor holds any.
_NUMBERS = frozenset({bool, int, float, str, np.float32, np.float64, np.int32, np.int64})


#: Numbers of which NumPy makes arrays as anybody expects.
_REALS = frozenset({int, float, np.float32, np.float64, np.int32, np.int64})

#: How many axes an array of NumPy may have.
_DEEPEST = 64


def real_dtype(dtype: npt.DTypeLike | None, label: str) -> str:
    """The name of a dtype that a graph may have, float32 unless another is given.

    Raises
    ------
    DTypeError
        For any but float32 and float64, naming ``label``.
    """
    name = _DTYPES.get(dtype) if dtype is None or type(dtype) is str else None
    if name is None:
        try:
            name = np.dtype(dtype).name
        except (TypeError, ValueError):
            raise DTypeError(f"{label}: dtype must be float32 or float64, got {shown(dtype)}") from None
        if name not in ("float32", "float64"):
            raise DTypeError(f"{label}: dtype must be float32 or float64, got {name}")
    return name


def as_reals(value: Any, label: str) -> Array:
    """``value`` as an array of real numbers, of whatever dtype: what ``numpy.asarray`` takes, or DLPack.

    Arrays of objects, such as columns of lists, are read as lists of these objects.

    Raises
    ------
    DTypeError
        For complex numbers, strings, missing values and anything else that is not real, and for masked elements, naming
        ``label``.
    """
    if type(value) is np.ndarray:
        array = value
    elif type(value) is list and _NUMBERS.issuperset(map(type, value)):
        array = np.asarray(value)
    else:
        _refuse_masked(value, label)
        _refuse_categories(value, label)
        array = _converted(value, label)
    if array.dtype.kind == "O" and array.ndim:
        entries = array.tolist()
        _refuse_masked(entries, label)
        array = _converted(entries, label)
    if array.dtype.kind not in "fiub":
        raise DTypeError(
            f"{label}: expected real numbers, got {type(value).__name__} of dtype {array.dtype}{_remedy(value, array)}"
        )
    return array


def plain(value: Any) -> Array | None:
    """An array itself, or a list of numbers, or of lists of numbers, as an array; ``None``: it is anything else."""
    if type(value) is np.ndarray:
        return value
    if type(value) is not list:
        return None
    kinds = set(map(type, value))
    if kinds == {list}:
        kinds = set(map(type, chain.from_iterable(value)))
    if not kinds <= _REALS:
        return None
    try:
        return np.asarray(value)
    except (ValueError, OverflowError):  # lists of several lengths
        return None


def _converted(value: Any, label: str) -> Array:
    try:
        return np.from_dlpack(value) if _by_dlpack(value) else np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise DTypeError(f"{label}: expected real numbers, got something that is no array: {error}") from None
    except (BufferError, RuntimeError, TypeError) as error:  # memory of another device, for instance
        raise DTypeError(f"{label}: {type(value).__name__} cannot be read as an array: {error}") from None


def _refuse_masked(value: Any, label: str, depth: int = 0) -> None:
    """Raise if elements of an array, or of arrays in a list, are masked: NumPy would read what is behind the mask."""
    if isinstance(value, (list, tuple)):
        if depth > _DEEPEST:
            raise DTypeError(f"{label}: expected real numbers, got lists in lists, deeper than any array")
        if not _NUMBERS.issuperset(map(type, value)):
            for part in value:
                _refuse_masked(part, label, depth + 1)
    elif isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        place = tuple(int(n) for n in np.argwhere(np.ma.getmaskarray(value))[0])
        where = f" at {place[0] if len(place) == 1 else place}" if place else ""
        raise DTypeError(
            f"{label}: expected real numbers, got a masked array with a masked element{where}; fill masked elements with "
            f"filled(), or leave their examples out"
        )


def _refuse_categories(value: Any, label: str) -> None:
    """Raise for a categorical column, which may stand for its values or for their numbers."""
    if str(getattr(value, "dtype", "")).lower() == "category":
        raise DTypeError(
            f"{label}: a categorical column has no numbers of its own; feed its codes (.cat.codes), of the same categories in "
            f"all data, or the values themselves (.astype(int))"
        )


def _remedy(value: Any, array: Array) -> str:
    """What to do with values that are no real numbers."""
    kinds = {type(entry) for entry in array.reshape(-1)[:1000].tolist()} if array.dtype.kind == "O" else set()
    if hasattr(value, "tocsr"):
        return "; a BagInputNode reads a sparse matrix, and toarray() makes it dense"
    if array.dtype.kind in "UST" or str in kinds:
        return "; names and ids are numbered first, by numpy.unique(ids, return_inverse=True)"
    if array.dtype.kind in "mM":
        return "; dates and durations have to be made numbers first, such as days"
    if type(None) in kinds or any(kind.__name__ in ("NAType", "NaTType") for kind in kinds):
        return "; values are missing (None or NA): fill them, or leave their examples out"
    if array.dtype.kind == "O" and array.ndim == 0 and isinstance(value, Iterable):
        return "; make a list or an array of it"
    if kinds == {int}:
        return "; a whole number is beyond 64 bits: make floating-point numbers of them, within what these hold"
    if kinds:
        return f", which holds {' and '.join(sorted(kind.__name__ for kind in kinds))}; convert it by astype(float)"
    return ""


def as_lists(data: Any, label: str) -> list[Any] | None:
    """The entries of a list, an array or a column of a table (pandas, Polars); ``None`` if ``data`` is none of these.

    Raises
    ------
    DTypeError
        For an array with masked elements, naming ``label``.
    """
    if isinstance(data, (list, tuple)):
        return list(data)
    if not hasattr(data, "__array__") or len(getattr(data, "shape", ())) == 0:
        return None
    _refuse_masked(data, label)
    return data.to_list() if hasattr(data, "to_list") else list(np.asarray(data))


def _by_dlpack(value: Any) -> bool:
    """Whether DLPack is the only way to an array."""
    return hasattr(value, "__dlpack__") and not (hasattr(value, "__array__") or hasattr(value, "__array_interface__"))


def is_native(array: Array) -> bool:
    """Whether native code can read an array's elements as they are."""
    return array.dtype.str in _NATIVE


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
        array = array.astype(np.promote_types(array.dtype, np.float64))  # in which bounds can be written
        with np.errstate(invalid="ignore"):
            wrong = array[~(np.isfinite(array) & (array == np.floor(array)))]
        if wrong.size:
            missing = ", which stands for a missing value" if np.isnan(wrong.flat[0]) else ""
            raise DTypeError(f"{label}: expected whole row numbers, got {wrong.flat[0]}{missing}")
        wrong = array[np.abs(array) >= 2.0**63]
        if wrong.size:
            raise DTypeError(f"{label}: row number {wrong.flat[0]} does not fit into 64 bits")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DTypeError(f"{label}: row number {int(array.max())} does not fit into 64 bits")
    return array.astype(np.int64)


def as_dtype(array: Array, dtype: str, label: str) -> Array:
    """Real numbers in a dtype that a graph may have: the array itself if it has it.

    Raises
    ------
    DTypeError
        If a number is finite and beyond what the dtype holds, naming ``label``.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        converted: Array = array.astype(dtype, copy=False)
    place = find_beyond(array, converted)
    if place is not None:
        raise DTypeError(f"{label}: {array.reshape(-1)[place]} is beyond what {dtype} holds; scale it, or use float64")
    return converted


def find_beyond(array: Array, converted: Array) -> int | None:
    """The place, in C order, of the first finite number that became infinite in another dtype; ``None`` if there is none."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= converted.dtype.itemsize or np.isfinite(converted).all():
        return None
    beyond = (np.isinf(converted) & np.isfinite(array)).reshape(-1)
    return int(beyond.argmax()) if beyond.any() else None


def unchangeable(array: Array) -> Array:
    """A copy that stays as it is: its memory is that of a ``bytes`` object, so NumPy lets nobody write to it."""
    copy: Array = np.ndarray(array.shape, array.dtype, array.tobytes())
    return copy


def view_of(array: Array) -> Array:
    """A view that can be read but not written; whoever gives it another shape or dtype changes that view alone."""
    view: Array = array.view()
    view.flags.writeable = False
    return view
