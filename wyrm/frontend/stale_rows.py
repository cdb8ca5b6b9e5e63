"""Rows of parameters that steps have not touched: how they are brought up to date, read, kept in files and put back.

:mod:`wyrm.clocks` says what the steps that a row has missed come to. Only updates bring rows up to date; whoever reads gets
copies in which they are. What goes into files has the rows as they are kept, so that training goes on to the bit.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.clocks import NEVER_BEHIND, Clock
from wyrm.errors import OptionError
from wyrm.memory import aligned
from wyrm.program import Rule, Shape
from wyrm.whole import finish

if TYPE_CHECKING:
    from wyrm.frontend.parameters import ParameterNode

__all__ = ["StaleRows", "check_missed"]

Array = npt.NDArray[Any]


class _Rows(NamedTuple):
    """Rows as they are kept: their numbers, the steps that each has seen, and their values and velocities, none caught up."""

    numbers: Array
    since: Array
    values: Array
    velocities: Array | None


class StaleRows:
    """The base of a parameter's storage: a matrix, the states of optimizers, and the rows of both that may be behind."""

    __slots__ = ("_array", "_clock", "_lock", "_max_norm", "_nodes", "_rule", "_states", "_waiting")

    _array: Array
    _states: dict[str, Array]
    _max_norm: float | None
    #: Of the rule under which rows may be behind, if there is one.
    _clock: Clock | None
    _rule: Rule | None
    #: Rows of a state that was put back, if the values that belong to it may come next; these values, and the steps made.
    _waiting: tuple[_Rows, Array, int] | None
    #: By identity: a set would compare nodes, which makes masks.
    _nodes: weakref.WeakValueDictionary[int, ParameterNode]
    _lock: threading.RLock

    if TYPE_CHECKING:

        @property
        def shape(self) -> Shape: ...  # noqa: D102
        @property
        def dtype(self) -> str: ...  # noqa: D102
        @property
        def frozen_rows(self) -> npt.NDArray[np.int64]: ...  # noqa: D102
        def check_adopted(self) -> None: ...  # noqa: D102

    # -- what optimizers keep

    def state(self, rule: Rule) -> dict[str, Array]:
        """What optimizers with this rule keep for the parameter, by name; made when it is first asked for.

        Raises
        ------
        OptionError
            Where another rule of the same name keeps something of another shape.
        """
        found = {}
        with self._lock:
            for state in rule.states:
                shape = (self.shape[0], self.shape[1] if state.per == "element" else 1)
                name = rule.key(state)
                if name not in self._states:
                    self._states[name] = aligned(shape, self.dtype, state.initial)
                elif self._states[name].shape != shape:
                    raise OptionError(f"parameter: two rules named {rule.name!r} keep a {state.name!r} of different shapes")
                found[state.name] = self._states[name]
        return found

    # -- rows that are behind

    @property
    def lazy(self) -> Rule | None:
        """The rule under which rows may be behind; ``None``: there is none, or its steps bring every row up to date."""
        return None if self._clock is None or self._clock.keeps_up else self._rule

    def behind(self) -> Array:
        """The numbers of the rows that are not up to date."""
        return np.zeros(0, np.int64) if self._clock is None else self._clock.behind()

    def follow(self, rule: Rule, scalars: Array) -> None:
        """Make ready for steps by a rule.

        If it leaves rows behind, or another one has done so by other numbers, all rows are brought up to date first, and
        everything that was bound to the parameter is bound anew.

        Parameters
        ----------
        scalars
            Those of a step: decay and momentum are taken from them.
        """
        self.state(rule)
        with self._lock:
            clock, missed = self._clock, rule.catch_up
            if missed is None and clock is None:
                return
            new: Clock | None = None
            if missed is not None:
                decay, momentum = (0.0 if n is None else float(scalars[0, n]) for n in (missed.decay, missed.momentum))
                numbers = decay, momentum, missed.rate, -1 if missed.state is None else missed.state
                if clock is not None and clock.numbers == numbers and _alike(self._rule, rule):
                    return
                new = Clock(self.shape[0], *numbers)
            self.settle()
            self._clock, self._rule, self._waiting = new, None if new is None else rule, None
            self._exempt()
            self._expire()

    def keep_up(self) -> None:
        """Let every step bring all rows up to date from now on: the parameter is trained as a whole."""
        with self._lock:
            if self._clock is not None and not self._clock.keeps_up:
                self.settle()
                self._clock.keep_up()
                self._expire()

    def _expire(self) -> None:
        for node in list(self._nodes.values()):
            node._expire()

    def _exempt(self) -> None:
        """Let no step count as missed by a frozen row. No other row may be behind."""
        if self._clock is not None:
            self._clock.last[...] = self._clock.now
            self._clock.last[self.frozen_rows] = NEVER_BEHIND

    def settle(self) -> None:
        """Bring every row up to date. This is a part of training: what merely reads has no need of it."""
        self.check_adopted()
        self._settle(self.behind())

    def _settle(self, rows: Array) -> None:
        if not len(rows):
            return
        assert self._clock is not None
        values, velocities = self._caught_up(rows)
        clock, now = self._clock, np.full(len(rows), self._clock.now)

        def write() -> None:
            self._array[rows] = values
            if velocities is not None:
                self._velocity[rows] = velocities
            clock.last[rows] = now

        finish(write)

    @property
    def _velocity(self) -> Array:
        assert self._rule is not None
        assert self._clock is not None
        return self._states[self._rule.key(self._rule.states[self._clock.moving])]

    def _caught_up(self, rows: Array) -> tuple[Array, Array | None]:
        """The values of rows as they are after all steps, and their velocities, if there are any."""
        clock = self._clock
        if clock is None:
            return self._array[rows], None
        velocities = self._velocity[rows] if clock.moving >= 0 else None
        return _advanced(clock, _Rows(rows, clock.last[rows], self._array[rows], velocities))

    def _write(self, value: Array) -> None:
        """Overwrite the value; rows that are set to what they are stay as they are kept."""
        waiting, self._waiting = self._waiting, None
        kept = self.behind()
        current, _ = self._caught_up(kept)
        fits = _same(current, value[kept])
        self._settle(kept[~fits])
        kept = kept[fits]
        before = self._array[kept]
        self._array[...] = value
        self._array[kept] = before
        if waiting is not None and self._clock is not None and waiting[2] == self._clock.now:
            self._take(waiting[0], waiting[1], value)

    @contextmanager
    def on_trial(self) -> Iterator[Array]:
        """The value, up to date and to be written to; afterwards everything is as it was."""
        with self._lock:
            undo = self.undo()
            try:
                self.settle()
                yield self._array
            finally:
                finish(undo)

    def undo(self) -> Callable[[], None]:
        """What lets value, states and clock be as they are now."""
        clock, rule, waiting = self._clock, self._rule, self._waiting
        arrays = [self._array, *self._states.values(), *(() if clock is None else clock.arrays)]
        copies = [array.copy() for array in arrays]

        def write() -> None:
            for array, before in zip(arrays, copies, strict=True):
                array[...] = before
            self._clock, self._rule, self._waiting = clock, rule, waiting

        return write

    # -- what goes into files

    def kept(self, rule: Rule) -> dict[str, Array]:
        """What optimizers with this rule keep, as copies, by name.

        The states are up to date. If rows may be behind, ``missed.now``, ``missed.rates``, ``missed.rows``, ``missed.since``,
        ``missed.value`` and ``missed.STATE`` have the steps made, the rates of the last ones, and those rows, not up to date.
        """
        shared = {state.name for state in rule.states if state.shared}
        kept = {name: array.copy() for name, array in self.state(rule).items() if name not in shared}
        missed = rule.catch_up
        if missed is None:
            return kept
        clock = self._clock if self._rule is not None and self._rule.name == rule.name else None
        rows = np.zeros(0, np.int64) if clock is None else clock.behind()
        now, rates = (0, np.zeros(0)) if clock is None else clock.history()
        kept["missed.now"], kept["missed.rates"], kept["missed.rows"] = np.array(now), rates, rows
        kept["missed.since"] = rows if clock is None else clock.last[rows]
        kept["missed.value"] = self._array[rows]
        if missed.state is not None:
            name = rule.states[missed.state].name
            kept[f"missed.{name}"] = kept[name][rows]
            _, velocities = self._caught_up(rows)
            if velocities is not None:
                kept[name][rows] = velocities
        return kept

    def put_back(self, rule: Rule, scalars: Array, kept: Mapping[str, Array]) -> None:
        """Take over what :meth:`kept` gave.

        Rows that were behind are so again if they have the values that belong to that state, or are set to these next. Other
        values are left alone, and count as up to date.
        """
        self.follow(rule, scalars)
        self.settle()
        for name, array in self.state(rule).items():
            if name in kept:
                array[...] = kept[name]
        clock, missed = self._clock, rule.catch_up
        if clock is None or missed is None:
            return
        now = int(kept["missed.now"])
        clock.resume(now, np.asarray(kept["missed.rates"], np.float64), np.full(len(self._array), now))
        self._exempt()
        velocities = None if missed.state is None else np.asarray(kept[f"missed.{rule.states[missed.state].name}"], self.dtype)
        numbers, since = (np.asarray(kept[f"missed.{name}"], np.int64) for name in ("rows", "since"))
        rows = _Rows(numbers, since, np.asarray(kept["missed.value"], self.dtype), velocities)
        if len(numbers) and not clock.keeps_up:
            current, _ = _advanced(clock, rows)
            self._take(rows, current, self._array)
            self._waiting = rows, current, now

    def _take(self, rows: _Rows, current: Array, value: Array) -> None:
        """Let rows be kept as they were, if the value is what they are when they are up to date."""
        assert self._clock is not None
        fits = _same(current, np.broadcast_to(value, self.shape)[rows.numbers])
        numbers = rows.numbers[fits]
        self._array[numbers] = rows.values[fits]
        if rows.velocities is not None:
            self._velocity[numbers] = rows.velocities[fits]
        self._clock.last[numbers] = rows.since[fits]


def _alike(one: Rule | None, other: Rule) -> bool:
    """Whether rules keep the same states."""
    return one is not None and (one.name, one.states) == (other.name, other.states)


def _same(a: Array, b: Array) -> Array:
    """For each row, whether two matrices have the same there."""
    same: Array = (a == b).all(axis=1)
    return same


def _advanced(clock: Clock, rows: _Rows) -> tuple[Array, Array | None]:
    """Values and velocities of rows after all steps that they have not seen."""
    keep, move, fade = clock.missed(rows.since)[:, :, None]
    dtype = rows.values.dtype
    if rows.velocities is None:
        return (keep * rows.values).astype(dtype), None
    return (keep * rows.values - move * rows.velocities).astype(dtype), (fade * rows.velocities).astype(dtype)


def check_missed(owner: str, kept: Mapping[str, Array], shape: Shape) -> None:
    """Raise if what :meth:`StaleRows.kept` says of rows that are behind cannot be."""
    if "missed.now" not in kept:
        return
    now, rates, rows, since = (kept[f"missed.{name}"] for name in ("now", "rates", "rows", "since"))
    matrices = [array for name, array in kept.items() if name.startswith("missed.") and array.ndim == 2]
    fits = now.shape == () and rates.ndim == rows.ndim == 1 and since.shape == rows.shape
    fits = fits and len(matrices) == len(kept) - len([name for name in kept if "missed." not in name]) - 4
    fits = fits and all(array.shape == (len(rows), shape[1]) for array in matrices)
    fits = fits and all(array.dtype.kind in "iu" for array in (now, rows, since)) and rates.dtype.kind == "f"
    if not fits or not (
        len(rates) <= int(now) < NEVER_BEHIND
        and (np.isfinite(rates) & (rates >= 0)).all()
        and ((rows >= 0) & (rows < shape[0])).all()
        and ((since >= int(now) - len(rates)) & (since <= int(now))).all()
    ):
        raise OptionError(f"{owner}: what the state says of the rows that are behind does not fit a parameter of shape {shape}")
