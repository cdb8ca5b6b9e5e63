"""Memory that is borrowed: arrays that belong to users, and that native code works on.

Whoever has an array may do with it what NumPy lets him do, at any time: give it another shape, dtype or strides, make it
read-only, or have its memory moved. So native code works on a view, which has a shape of its own, and :func:`pin` keeps the
memory where it is. What a parameter has adopted is looked at before each pass (:class:`Adopted`): to go on with an array
that is something else by now is not what anybody wants.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import OptionError
from wyrm.memory import address

__all__ = ["CHANGED", "Adopted", "file_of", "is_whole", "pin", "watched"]

Array = npt.NDArray[Any]
#: What a pass returns that found an adopted array changed, beside the statuses of :class:`wyrm.memory.Report`.
CHANGED = -4


def pin(array: Array) -> weakref.ref[Array]:
    """A weak reference to whoever has the memory of an array: as long as it is there, NumPy does not move that memory.

    ``resize`` in place refuses what is referred to so, even with ``refcheck=False``. Other owners of memory, such as
    ``bytearray`` and ``mmap``, do not move it as long as there are arrays over it.
    """
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return weakref.ref(owner)


def file_of(array: Array) -> mmap.mmap | None:
    """The mapped file that an array is in; ``None``: it is in none."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "obj", None) if isinstance(base, memoryview) else getattr(base, "base", None)
    return base


def is_whole(file: mmap.mmap) -> bool:
    """Whether a file is still as long as what is mapped of it: the system ends a process that reads behind the end."""
    try:
        return file.size() >= len(file)
    except OSError:  # memory without a file
        return True


class Adopted:
    """An array that a parameter has adopted.

    Attributes
    ----------
    array
        The array.
    view
        A view of it, which nobody else has.
    expected
        What it was: flags, shape, strides, dtype and address.
    """

    __slots__ = ("_pin", "_place", "array", "expected", "view")

    def __init__(self, array: Array) -> None:
        self.array, self.view, self._pin = array, array.view(np.ndarray), pin(array)
        #: The address, where NumPy's arrays have it: behind what all objects have. Other ways to it take ten times as long.
        self._place = ctypes.c_void_p.from_address(id(array) + object.__basicsize__)
        self.expected = self._found()
        if self.expected[-1] != address(array):
            raise OptionError("parameter: copy=False cannot look after the arrays of this NumPy and Python; pass copy=True")

    def _found(self) -> tuple[int, tuple[int, ...], tuple[int, ...], npt.DTypeLike, int | None]:
        array = self.array
        return array.flags.num, array.shape, array.strides, array.dtype, self._place.value

    @property
    def is_intact(self) -> bool:
        """Whether the array is what it was when it was adopted."""
        return self._found() == self.expected

    def changed(self, label: str) -> OptionError:
        """The error that it is not; messages call the parameter by the label."""
        _, shape, strides, dtype, place = self._found()
        _, old_shape, old_strides, old_dtype, old_place = self.expected
        found = f"{dtype}, shape {shape}, strides {strides}" + ("" if self.array.flags.writeable else ", read-only")
        found += "" if place == old_place else ", at another address"
        return OptionError(
            f"{label}: the array that it adopted (copy=False) is not what it was; expected {old_dtype}, shape {old_shape}, "
            f"strides {old_strides}, writable; found {found}. Nothing was computed. Put back what was changed; who needs the "
            f"array in another shape, of another dtype, or read-only, takes a view of it"
        )


def watched(run: Callable[..., int], adopted: Sequence[Adopted]) -> Callable[..., int]:
    """A pass as one that looks at adopted arrays first, and returns :data:`CHANGED` if one is not what it was."""
    if not adopted:
        return run

    def careful(*weight: Any) -> int:
        for array in adopted:
            if not array.is_intact:
                return CHANGED
        return run(*weight)

    return careful
