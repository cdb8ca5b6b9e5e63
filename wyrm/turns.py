"""Whether a pass, the reading of a value or the setting of an input may begin at once: a few words that native code looks at.

A graph's words stand before its cells (:class:`wyrm.leaves.Leaves`). ``open`` is not 0 while nobody is at work in the graph and
one thread alone sets its inputs: it is the address of that thread's word, which holds the thread's number, and 0 once it has
ended. ``ready`` names the workspace that ran last, if its next pass may begin without more ado, by the address of its date. Who
is at work, for longer than Python's lock (the GIL) is held, clears both meanwhile.

Whether values hold is told by dates alone. :data:`TIME` goes on with each pass and each change of a parameter; a workspace has
the date of its last pass, and each cell that of when its input was last set, which is that of the pass before. So an input was
set after a pass if its date is not before that of the pass.

Python sees to all of this by itself, if a backend does not: :func:`at_once` says what is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.leaves import Leaves
from wyrm.memory import Memory, address, aligned

__all__ = [
    "CHANGE",
    "NOT_AT_ONCE",
    "NOW",
    "OPEN",
    "READY",
    "TIME",
    "TIME_ADDRESS",
    "UNKNOWN",
    "AtOnce",
    "at_once",
    "copying",
    "note_change",
    "setting",
]

Array = npt.NDArray[Any]

#: What a pass returns that may not begin at once, beside the statuses of :class:`wyrm.memory.Report`; nothing has changed then.
NOT_AT_ONCE = -3
#: Words of a graph, by their places.
OPEN, READY = (Leaves.HEADER.index(name) for name in ("open", "ready"))
#: The words of the time, by their places: the date, and that of a parameter's last change by anything but an optimizer's step.
NOW, CHANGE = 0, 1
_time = aligned(2, "int64")
#: Of the whole process.
TIME: memoryview[int] = memoryview(_time.data)
#: Where native code finds it.
TIME_ADDRESS = address(_time)
#: Of how many elements NumPy copies arrays without letting go of Python's lock: since 2.0 (``NPY_BEGIN_THREADS_THRESHOLDED``).
_COPIED_AT_ONCE = 500 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 0
#: The type codes of what NumPy converts by itself: real numbers.
_CONVERTED = frozenset("?bBhHiIlLqQfd")
#: The date of a cell of which only another graph knows when it was set.
UNKNOWN = 2**62


def note_change() -> int:
    """The date of a parameter's change."""
    TIME[NOW] += 1
    TIME[CHANGE] = date = TIME[NOW]
    return date


class AtOnce(NamedTuple):
    """The passes of a workspace, if they may begin at once.

    Attributes
    ----------
    forward, backward
        As :attr:`wyrm.backend.Pass.attached` has them; or they return :data:`NOT_AT_ONCE`.
    is_fresh
        Whether neither an input of the program nor any parameter was set since the last forward pass.
    copying
        Makes of an array of the workspace's a function that returns a copy of it, or ``None`` unless a forward pass of the
        workspace was the last one of its graph, nobody is at work there, and all is fresh.
    """

    forward: Callable[[], int]
    backward: Callable[[float], int]
    is_fresh: Callable[[], bool]
    copying: Callable[[Array], Callable[[], Array | None]]


def at_once(
    passes: tuple[Callable[[], int], Callable[[float], int]], memory: Memory, leaves: Leaves, cells: Sequence[int]
) -> AtOnce:
    """Passes over a graph's leaves, of which the inputs have these cells, as Python sees to it that they may begin at once."""
    run_forward, run_backward = passes
    words, dates, date, me = leaves.header, leaves.dates, memory.date, address(memory.date)

    def is_fresh() -> bool:
        now = date[0]
        return now > 0 and TIME[CHANGE] < now and all(dates[cell] < now for cell in cells)

    def forward() -> int:
        owner, ready = words[OPEN], words[READY]
        if ready != me:
            return NOT_AT_ONCE
        words[OPEN] = words[READY] = 0
        status = NOT_AT_ONCE
        try:
            TIME[NOW] += 1
            date[0] = TIME[NOW]
            status = run_forward()
            return status
        finally:
            if status:
                date[0] = 0
            words[OPEN], words[READY] = owner, ready

    def backward(weight: float) -> int:
        if not is_fresh():
            return NOT_AT_ONCE
        owner, ready = words[OPEN], words[READY]
        if not owner:
            return NOT_AT_ONCE
        words[OPEN] = words[READY] = 0
        try:
            return run_backward(weight)
        finally:
            words[OPEN], words[READY] = owner, ready

    return AtOnce(forward, backward, is_fresh, lambda array: copying(array, is_fresh, memory, leaves))


def copying(array: Array, is_fresh: Callable[[], bool], memory: Memory, leaves: Leaves) -> Callable[[], Array | None]:
    """What copies an array of a workspace's at once, as Python sees to it; see :attr:`AtOnce.copying`."""
    words, me, copy = leaves.header, address(memory.date), array.copy

    def read() -> Array | None:
        owner, ready = words[OPEN], words[READY]
        if ready != me:
            return None
        words[OPEN] = words[READY] = 0
        try:
            return copy() if is_fresh() else None
        finally:
            words[OPEN], words[READY] = owner, ready

    return read


def setting(leaves: Leaves, number: int, held: Array, word: memoryview[int]) -> Callable[[Any], bool]:
    """What sets an input of real numbers to an array of its shape at once, and returns whether it did.

    Parameters
    ----------
    leaves, number
        The cell.
    held
        The array to which it points.
    word
        That of the thread which may set inputs at once.
    """
    words, dates, dtype, shape = leaves.header, leaves.dates, held.dtype, held.shape
    opened, array, large = address(word), np.ndarray, held.size > _COPIED_AT_ONCE

    def set_array(value: Any) -> bool:
        if type(value) is not array or value.shape != shape:
            return False
        if value.dtype is not dtype:
            if value.dtype.char not in _CONVERTED:
                return False
            value = value.astype(dtype)  # may raise, or warn and run anything: so before anything is looked at or changed
        if word[0] != get_ident() or words[OPEN] != opened:
            return False
        ready = words[READY]
        try:
            if large:  # others may run while it is copied
                words[OPEN] = words[READY] = 0
            held[...] = value
            dates[number] = TIME[NOW]
        except ValueError:  # somebody else has the array, too, and nobody may write to it
            return False
        finally:
            if large:
                words[OPEN], words[READY] = opened, ready
        return True

    return set_array
