"""Faulty passes that begin at once, and values that are read so, and faulty setters."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

import numpy as np

from wyrm.backend import BagSource, Pass
from wyrm.leaves import Leaves
from wyrm.memory import GradientBuffer, address
from wyrm.turns import CHANGE, NOT_AT_ONCE, NOW, OPEN, READY, TIME, AtOnce, at_once
from wyrm_conformance.faults.subject import Subject, backend_fault, correct_backend
from wyrm_conformance.faults.wrapping import Wrapped, wrapping

__all__: list[str] = []

_PASSES, _SETTERS, _FAILED = "contract/passes at once", "contract/setters", "contract/a pass at once that fails"


class _Turns(Pass):
    """A pass that begins at once by code of its own, which a fault changes."""

    def __init__(self, inner: Any, change: Callable[[_Turns, AtOnce], AtOnce]) -> None:
        self.inner, self.change = inner, change
        self.memory, self.cells = inner.bound.memory, inner.cells

    def forward(self, leaves: Leaves) -> int:
        status: int = self.inner.forward(leaves)
        return status

    def backward(self, weight: float) -> int:
        status: int = self.inner.backward(weight)
        return status

    def at_once(self, leaves: Leaves) -> AtOnce:
        """As Wyrm does it, but for the fault."""
        self.leaves, self.date = leaves, self.memory.date
        gradients = [buffer for buffer in self.memory.buffers if isinstance(buffer, GradientBuffer)]

        def backward(weight: float) -> int:
            return -2 if any(gradient.busy[0] for gradient in gradients) else self.backward(weight)

        ways = at_once((lambda: self.forward(leaves), backward), self.memory, leaves, self.cells)
        return self.change(self, ways)


def _turning(name: str, *checks: str, change: Callable[[_Turns, AtOnce], AtOnce]) -> None:
    def bind(executable: Wrapped, bound: Pass) -> Pass:
        return _Turns(bound, change) if executable.program.purpose == "interactive" else bound

    wrapping(name, *checks, bind=bind)


def _unasked(turns: _Turns, ways: AtOnce) -> AtOnce:
    def forward() -> int:
        TIME[NOW] += 1
        turns.date[0] = TIME[NOW]
        return turns.forward(turns.leaves)

    return ways._replace(forward=forward)


def _undated(turns: _Turns, ways: AtOnce) -> AtOnce:
    def forward() -> int:
        before, status = turns.date[0], ways.forward()
        turns.date[0] = before
        return status

    return ways._replace(forward=forward)


def _standing(turns: _Turns, ways: AtOnce) -> AtOnce:
    def forward() -> int:
        status = ways.forward()
        if status == 0:
            TIME[NOW] -= 1
        return status

    return ways._replace(forward=forward)


def _kept(turns: _Turns, ways: AtOnce) -> AtOnce:
    def forward() -> int:
        status = ways.forward()
        turns.date[0] = turns.date[0] or TIME[NOW]
        return status

    return ways._replace(forward=forward)


def _closing(turns: _Turns, ways: AtOnce) -> AtOnce:
    def forward() -> int:
        status = ways.forward()
        turns.leaves.header[READY] = 0
        return status

    return ways._replace(forward=forward)


def _stale(looked_at: Callable[[list[int]], list[int]], change: int, open_too: bool = True, same: int = 0) -> Any:
    def changed(turns: _Turns, ways: AtOnce) -> AtOnce:
        def is_fresh() -> bool:
            date = turns.date[0]
            dates = [turns.leaves.dates[cell] for cell in looked_at(turns.cells)]
            return date > 0 and (not change or TIME[CHANGE] < date + (change - 1)) and all(d < date + same for d in dates)

        def backward(weight: float) -> int:
            if not is_fresh() or (open_too and not turns.leaves.header[OPEN]):
                return NOT_AT_ONCE
            return turns.backward(weight)

        return ways._replace(backward=backward, is_fresh=is_fresh)

    return changed


def _reading(made: Callable[[_Turns, AtOnce, np.ndarray[Any, Any]], Any]) -> Any:
    def changed(turns: _Turns, ways: AtOnce) -> AtOnce:
        return ways._replace(copying=lambda array: lambda: made(turns, ways, array))

    return changed


def _of_any(turns: _Turns, ways: AtOnce, array: np.ndarray[Any, Any]) -> Any:
    return array.copy() if ways.is_fresh() else None


def _of_old(turns: _Turns, ways: AtOnce, array: np.ndarray[Any, Any]) -> Any:
    return array.copy() if turns.leaves.header[READY] == address(turns.date) else None


def _shared(turns: _Turns, ways: AtOnce, array: np.ndarray[Any, Any]) -> Any:
    return None if ways.copying(array)() is None else array


def _kept_closed(turns: _Turns, ways: AtOnce, array: np.ndarray[Any, Any]) -> Any:
    copy = ways.copying(array)()
    turns.leaves.header[OPEN] = 0
    return copy


_turning("a value is read whatever ran last", _PASSES, change=_reading(_of_any))
_turning("a value is read that is stale", _PASSES, change=_reading(_of_old))
_turning("a value that is read is no copy", _PASSES, change=_reading(_shared))
_turning("a graph is not open after a value was read", _PASSES, change=_reading(_kept_closed))
_turning("a pass begins at once whatever ran last", _PASSES, change=_unasked)
_turning("a pass that begins at once is not dated", _PASSES, change=_undated)
_turning("time does not go on with a pass", _PASSES, change=_standing)
_turning("a graph is not open after a pass", _PASSES, change=_closing)
_turning("a pass that failed keeps its date", _FAILED, change=_kept)
_turning("a backward pass asks for no dates", _PASSES, change=_stale(lambda cells: [], 1))
_turning("a backward pass asks for the first input's date alone", _PASSES, change=_stale(lambda cells: cells[:1], 1))
_turning("a backward pass asks for all dates but the last input's", _PASSES, change=_stale(lambda cells: cells[:-1], 1))
_turning(
    "an input that was set right after a pass counts as set before", _PASSES, change=_stale(lambda cells: cells, 1, same=1)
)
_turning("a backward pass does not ask whether a parameter changed", _PASSES, change=_stale(lambda cells: cells, 0))
_turning("a change at the date of a pass counts as one before", _PASSES, change=_stale(lambda cells: cells, 2))
_turning("a backward pass begins while others are at work", _PASSES, change=_stale(lambda cells: cells, 1, open_too=False))
_turning("a backward pass works on a gradient in use", _PASSES, change=_stale(lambda cells: cells, 1))


def _setting(name: str, *left_out: str) -> None:
    """A setter in which something is left out."""

    class Setting(Subject):
        def setter(
            self, leaves: Leaves, number: int, limit: int | None = None, held: Any = None
        ) -> Callable[[Any], bool] | None:
            graphs = leaves.header[leaves.HEADER.index("graphs")]
            word = _word_at(leaves.header[OPEN])

            def may() -> bool:
                if not leaves.header[OPEN] and "open" not in left_out:
                    return False
                if word[0] != (0 if "ended" in left_out and not word[0] else get_ident()) and "owner" not in left_out:
                    return False
                return "graph" in left_out or graphs == leaves.header[leaves.HEADER.index("graphs")]

            def fits(value: Any) -> bool:
                if limit is None:
                    return type(value) in (float, np.float64, np.float32) or (type(value) is int and abs(value) < 10**300)
                whole = type(value) is int or ("bool" in left_out and type(value) is bool)
                return whole and ("negative" in left_out or value >= 0) and (value < limit or "limit" in left_out)

            def setter(value: Any) -> bool:
                if held is None:
                    if not fits(value) or not may() or abs(value) >= 2**62:
                        return False
                    (leaves.reals if limit is None else leaves.indices)[number] = value
                else:
                    if type(value) is not list or not may():
                        return False
                    numbers = held.values if isinstance(held, BagSource) else held
                    if len(value) > len(numbers) or (numbers is held and len(value) != len(held) and "length" not in left_out):
                        return False
                    if "first" not in left_out and not all(map(fits, value)):
                        return False
                    for n, item in enumerate(value):
                        if not fits(item) or abs(item) >= 2**62:
                            return False
                        numbers[n] = item
                    if numbers is not held and "end" not in left_out:
                        held.begins[0], held.ends[0] = 0, len(value)
                if "date" not in left_out:
                    leaves.dates[number] = TIME[NOW]
                return True

            return setter

    backend_fault(name, _SETTERS, make=lambda: correct_backend(Setting))


def _word_at(place: int) -> Any:
    """The word of a thread, by its address."""
    import ctypes

    return (ctypes.c_int64 * 1).from_address(place)


_setting("a setter sets what is not open", "open", "owner")
_setting("a setter does not ask who calls", "owner")
_setting("a setter takes a thread that has ended for any", "ended")
_setting("a setter writes into the cells of another graph", "graph")
_setting("a setter does not date", "date")
_setting("a setter asks for no limit", "limit")
_setting("a setter takes negative row numbers", "negative")
_setting("a setter takes truth values for row numbers", "bool")
_setting("a setter of several row numbers takes fewer", "length")
_setting("a setter writes row numbers before all are known to be right", "first")
_setting("a setter leaves a bag as long as it was", "end")
