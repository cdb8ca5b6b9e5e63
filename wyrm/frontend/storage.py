"""The storage of parameters: values and what optimizers keep beside them, which the nodes of several threads may share."""

from __future__ import annotations

import itertools
import threading
import weakref
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wyrm.borrowed import Adopted, pin
from wyrm.clocks import Clock
from wyrm.errors import OptionError, ShapeError
from wyrm.frontend.constraints import FROZEN, LARGEST, checked_norm, frozen_mask, scale_rows
from wyrm.frontend.mode import traced_by
from wyrm.frontend.stale_rows import StaleRows
from wyrm.frontend.values import as_dtype, as_reals, real_dtype
from wyrm.memory import aligned
from wyrm.program import Buffer, Shape
from wyrm.turns import note_change

if TYPE_CHECKING:
    from wyrm.frontend.parameters import ParameterNode

__all__ = ["HogwildParameter"]

Array = npt.NDArray[Any]


#: Numbers storage in the order in which it is made.
_NUMBERS = itertools.count()
#: Of how many elements, at most, a fingerprint is made.
_FINGERPRINT = 1024


class HogwildParameter(StaleRows):
    """The storage of a parameter: its value and what optimizers keep for it, without locks.

    Several nodes may share one, each thread with nodes, graph and optimizer of its own: their
    updates meet in this storage without locks ("Hogwild": Niu et al., NIPS 2011).

    Parameters
    ----------
    value
        A matrix, (rows, columns), or a number for (1, 1).
    dtype
        ``float32`` unless given as ``float64``.
    copy
        Whether to copy the value. ``False`` adopts the array itself, which must be writable, C-contiguous and of
        the dtype: training then changes it in place. As long as the storage is there, the array has to stay so, and of its
        shape: what is done next with one that was given another shape, dtype or strides, or was made read-only, raises
        :class:`OptionError` and changes nothing. NumPy does not resize it.

    Notes
    -----
    The storage can be copied and pickled: value, states and constraints on rows travel, an adopted array by its value.

    Rows that steps did not touch may be behind (:mod:`wyrm.clocks`). Only updates bring them up to date; whoever reads gets a
    copy in which they are. So training does not depend on who looks, and when.

    Raises
    ------
    DTypeError
        If the value does not hold real numbers, or one that is finite and beyond what the dtype holds.
    ShapeError
        Where it is not a matrix.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> shared = wyrm.HogwildParameter(np.zeros((2, 3)))
    >>> a, b = wyrm.ParameterNode.shared(shared), wyrm.ParameterNode.shared(shared)
    >>> a.set_value(np.ones((2, 3)))
    >>> float(b.value.sum())
    6.0
    """

    __slots__ = ("__weakref__", "_pin", "adopted", "change", "changed_by", "fingerprint", "number")

    def __init__(self, value: npt.ArrayLike, *, dtype: npt.DTypeLike | None = None, copy: bool = True) -> None:
        name = real_dtype(dtype, "parameter")
        array = as_reals(value, "parameter")
        if array.ndim == 0:
            array = array.reshape(1, 1)
        if array.ndim != 2:
            raise ShapeError(
                f"parameter: expected a matrix, (rows, columns), got shape {array.shape}; reshape a vector to (1, n) or (n, 1)"
            )
        if copy:
            self._array = aligned(array.shape, name, fill=None)
            self._array[...] = as_dtype(array, name, "parameter")
            self._begin()
        else:
            if not isinstance(value, np.ndarray) or value.dtype.name != name or not value.flags.carray:
                raise OptionError(
                    f"parameter: copy=False adopts an array that is writable, C-contiguous and of dtype {name}; "
                    f"this one is not, so pass copy=True or convert it first"
                )
            self._array = array
            self._begin(Adopted(value))

    def _begin(self, adopted: Adopted | None = None) -> None:
        who = traced_by()
        if who:
            raise OptionError(
                f"parameter: {who}, which is called once for each structure of the data, so a parameter that is made inside "
                f"would be another one for each; make it outside, and use it inside"
            )
        #: The array of a user that the value is a view of, if it is one.
        self.adopted = adopted
        if adopted is not None:
            self._array = adopted.view.reshape(self._array.shape)
        self._pin = pin(self._array)  # whoever has a view could have its memory moved
        self._states = {}
        self._clock = self._rule = self._waiting = self._max_norm = None
        self._nodes = weakref.WeakValueDictionary()
        self._lock = threading.RLock()
        #: The date of the last change, by anything but an optimizer's step (:mod:`wyrm.frontend.current`), and who made it.
        self.change = self.changed_by = 0
        #: Which storage was made before which; and a checksum of its first elements as it was made. In checkpoints, these tell
        #: parameters apart that have no names.
        self.number = next(_NUMBERS)
        self.fingerprint = zlib.crc32(np.ascontiguousarray(self._array.reshape(-1)[:_FINGERPRINT]).view(np.uint8).data)

    @property
    def shape(self) -> Shape:
        """(rows, columns)."""
        rows, cols = self._array.shape
        return rows, cols

    @property
    def dtype(self) -> str:
        """``float32`` or ``float64``."""
        name: str = self._array.dtype.name
        return name

    @property
    def value(self) -> Array:
        """A view of the value; or a copy, not to be written to, if optimizers have left rows behind: they are up to date there.

        Nodes do not notice what is written into it: after that, call their ``forward``. They notice :meth:`set_value`.
        """
        value = self.read()
        return value.view() if value is self._array else value

    def read(self) -> Array:
        """The value, for programs that read it: its memory; or a copy if rows are behind."""
        self.check_adopted()
        rows = self.behind()
        if not len(rows):
            return self._array
        copy = _aligned_copy(self._array)
        copy[rows], _ = self._caught_up(rows)
        copy.flags.writeable = False
        return copy

    def set_value(self, value: npt.ArrayLike, label: str = "parameter") -> None:
        """Overwrite the value, in place, for all nodes over this storage; messages call it by the label.

        A row that is set to what it is stays as it is kept: to put back what was read changes nothing.

        Raises
        ------
        ShapeError
            If the shape is another.
        DTypeError
            If the value does not hold real numbers, or one that is finite and beyond what the dtype holds.
        """
        self.check_adopted()
        array = as_reals(value, label)
        if array.shape != self.shape and not (array.ndim == 0 and self.shape == (1, 1)):
            raise ShapeError(f"{label}: set_value expected shape {self.shape}, got {array.shape}")
        new = np.broadcast_to(as_dtype(array, self.dtype, label), self.shape)
        try:
            self._write(new)
        finally:
            self.note_change()

    def check_adopted(self) -> None:
        """Raise if the array that was adopted is not what it was then."""
        if self.adopted is not None and not self.adopted.is_intact:
            raise self.adopted.changed(next((node._label() for node in self._nodes.values()), "parameter"))

    def note_change(self) -> None:
        """Take note that the value is another one now, by other means than an optimizer's step."""
        self.change = note_change()
        self.changed_by = threading.get_ident()

    # -- constraints on rows

    @property
    def constraints(self) -> tuple[str, ...]:
        """Those that rows have, by the names of their numbers."""
        return tuple(name for name in (FROZEN, LARGEST) if name in self._states)

    @property
    def frozen_rows(self) -> npt.NDArray[np.int64]:
        """The rows that no step changes, sorted; see :attr:`wyrm.ParameterNode.frozen_rows`."""
        return np.flatnonzero(self._states[FROZEN]) if FROZEN in self._states else np.zeros(0, np.int64)

    def set_frozen_rows(self, rows: npt.ArrayLike | None, label: str) -> None:
        """Set the rows that no step changes, for a node that messages call by a label."""
        mask = frozen_mask(rows, self.shape[0], label)
        self._constrain(FROZEN, mask if mask.any() else None)

    @property
    def max_norm(self) -> float | None:
        """The greatest norm of a row after an update; see :attr:`wyrm.ParameterNode.max_norm`."""
        return self._max_norm

    def set_max_norm(self, norm: float | None, label: str) -> None:
        """Set the greatest norm of a row, for a node that messages call by a label."""
        if norm is not None:
            norm = checked_norm(norm, label)
            limits = np.finfo(self.dtype)
            if not float(limits.tiny) <= norm * norm / max(self.shape[1], 1) <= float(limits.max):
                raise OptionError(f"{label}: max_norm is {norm}, and {self.dtype} does not hold its square")
            self.settle()
            if scale_rows(self._array, norm, self.frozen_rows):
                self.note_change()
        self._max_norm = norm
        self._constrain(LARGEST, None if norm is None else norm**2 / max(self.shape[1], 1))

    def _constrain(self, name: str, numbers: Any) -> None:
        """Set the numbers of a constraint, or take it away; rows are brought up to date first, under what held so far."""
        self.settle()
        with self._lock:
            before = self.constraints
            if numbers is None:
                self._states.pop(name, None)
            else:
                kept = self._states.setdefault(name, aligned((self.shape[0], 1), self.dtype))
                kept[...] = np.reshape(numbers, (-1, 1))
            self._exempt()
            if self.constraints != before:  # rules that have the constraints come with the next step
                self._expire()

    # -- for nodes and programs

    def buffer(self, buffer: Buffer) -> Any:
        """The memory that programs know under this name: the value, a state or a clock."""
        if buffer.kind == "value":
            self.check_adopted()
            return self._array
        return self._states[buffer.name] if buffer.kind == "state" else self._clock

    def enter(self, node: ParameterNode) -> None:
        """Take note of a node over this storage."""
        with self._lock:
            self._nodes[id(node)] = node

    # -- copies

    def __getstate__(self) -> tuple[Any, ...]:
        """Everything that training goes on from; who shares the storage here is nobody there."""
        clock = self._clock
        told = None if clock is None else (clock.numbers, clock.keeps_up, *clock.history(), clock.last.copy())
        return self._array.view(np.ndarray), dict(self._states), self._max_norm, self._rule, told

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        value, states, norm, rule, told = state
        self._array = _aligned_copy(value)
        self._begin()
        self._max_norm = norm
        self._states = {name: _aligned_copy(array) for name, array in states.items()}
        if told is not None:
            numbers, keeps_up, now, rates, last = told
            self._rule, self._clock = rule, Clock(self.shape[0], *numbers)
            if keeps_up:
                self._clock.keep_up()
            self._clock.resume(now, rates, last)

    def __repr__(self) -> str:
        return f"HogwildParameter(shape={self.shape}, dtype={self.dtype})"


def _aligned_copy(array: Array) -> Array:
    """A copy in memory of our own, whose place suits native code."""
    copy = aligned(array.shape, array.dtype, fill=None)
    copy[...] = array
    return copy
