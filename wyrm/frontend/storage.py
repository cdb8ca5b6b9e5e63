"""The storage of parameters: values and what optimizers keep beside them, which the nodes of several threads may share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.clocks import NEVER_BEHIND, Clock
from wyrm.errors import OptionError, ShapeError
from wyrm.frontend.constraints import FROZEN, LARGEST, checked_norm, frozen_mask, scale_rows
from wyrm.frontend.current import TIME
from wyrm.frontend.mode import traced_by
from wyrm.frontend.values import as_reals, real_dtype
from wyrm.memory import aligned
from wyrm.program import Buffer, Rule, Shape

if TYPE_CHECKING:
    from wyrm.frontend.parameters import ParameterNode

__all__ = ["HogwildParameter", "check_missed"]

Array = npt.NDArray[Any]


class _Rows(NamedTuple):
    """Rows as they are kept: their numbers, the steps that each has seen, and their values and velocities, none caught up."""

    numbers: Array
    since: Array
    values: Array
    velocities: Array | None


class HogwildParameter:
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
        the dtype: training then changes it in place.

    Notes
    -----
    The storage can be copied and pickled: value, states and constraints on rows travel, an adopted array by its value.

    Rows that steps did not touch may be behind (:mod:`wyrm.clocks`). Only updates bring them up to date; whoever reads gets a
    copy in which they are. So training does not depend on who looks, and when.

    Raises
    ------
    DTypeError
        Where the value does not hold real numbers.
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

    __slots__ = (
        *("__weakref__", "_array", "_clock", "_lock", "_max_norm", "_nodes", "_rule", "_states", "_waiting"),
        *("change", "changed_by"),
    )

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
            self._array: Array = aligned(array.shape, name, fill=None)
            self._array[...] = array
        else:
            if not isinstance(value, np.ndarray) or value.dtype.name != name or not value.flags.carray:
                raise OptionError(
                    f"parameter: copy=False adopts an array that is writable, C-contiguous and of dtype {name}; "
                    f"this one is not, so pass copy=True or convert it first"
                )
            self._array = array
        self._begin()

    def _begin(self) -> None:
        who = traced_by()
        if who:
            raise OptionError(
                f"parameter: {who}, which is called once for each structure of the data, so a parameter that is made inside "
                f"would be another one for each; make it outside, and use it inside"
            )
        self._states: dict[str, Array] = {}
        #: Of the rule under which rows may be behind, if there is one.
        self._clock: Clock | None = None
        self._rule: Rule | None = None
        #: Rows of a state that was put back, if the values that belong to it may come next; these values, and the steps made.
        self._waiting: tuple[_Rows, Array, int] | None = None
        self._max_norm: float | None = None
        # by identity: a set would compare nodes, which makes masks
        self._nodes: weakref.WeakValueDictionary[int, ParameterNode] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()
        #: The date of the last change, by anything but an optimizer's step (:mod:`wyrm.frontend.current`), and who made it.
        self.change, self.changed_by = 0.0, 0

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
        """The value itself; or a copy, not to be written to, if optimizers have left rows behind: they are up to date there.

        Nodes do not notice what is written into it: after that, call their ``forward``. They notice :meth:`set_value`.
        """
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
            If the value does not hold real numbers.
        """
        array = as_reals(value, label)
        if array.shape != self.shape and not (array.ndim == 0 and self.shape == (1, 1)):
            raise ShapeError(f"{label}: set_value expected shape {self.shape}, got {array.shape}")
        self._write(np.broadcast_to(array, self.shape).astype(self.dtype, copy=False))
        self.note_change()

    def _write(self, value: Array) -> None:
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

    def note_change(self) -> None:
        """Take note that the value is another one now, by other means than an optimizer's step."""
        self.change = TIME.note_change()
        self.changed_by = threading.get_ident()

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
                for node in list(self._nodes.values()):
                    node._expire()

    def buffer(self, buffer: Buffer) -> Any:
        """The memory that programs know under this name: the value, a state or a clock."""
        if buffer.kind == "value":
            return self._array
        return self._states[buffer.name] if buffer.kind == "state" else self._clock

    # -- rows that are behind

    def enter(self, node: ParameterNode) -> None:
        """Take note of a node over this storage."""
        with self._lock:
            self._nodes[id(node)] = node

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
        self._settle(self.behind())

    def _settle(self, rows: Array) -> None:
        if not len(rows):
            return
        assert self._clock is not None
        values, velocities = self._caught_up(rows)
        if self._max_norm is not None:
            scale_rows(values, self._max_norm, np.zeros(0, np.int64))
        self._array[rows] = values
        if velocities is not None:
            self._velocity[rows] = velocities
        self._clock.last[rows] = self._clock.now

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

    @contextmanager
    def on_trial(self) -> Iterator[Array]:
        """The value, up to date and to be written to; afterwards everything is as it was."""
        with self._lock:
            kept = [self._array.copy(), *(state.copy() for state in self._states.values())]
            last = None if self._clock is None else self._clock.last.copy()
            self.settle()
            try:
                yield self._array
            finally:
                for array, before in zip((self._array, *self._states.values()), kept, strict=True):
                    array[...] = before
                if self._clock is not None:
                    self._clock.last[...] = last

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
    """Raise if what :meth:`HogwildParameter.kept` says of rows that are behind cannot be."""
    if "missed.now" not in kept:
        return
    now, rates, rows, since = (kept[f"missed.{name}"] for name in ("now", "rates", "rows", "since"))
    matrices = [array for name, array in kept.items() if name.startswith("missed.") and array.ndim == 2]
    fits = now.shape == () and rates.ndim == rows.ndim == 1 and since.shape == rows.shape
    fits = fits and len(matrices) == len(kept) - len([name for name in kept if "missed." not in name]) - 4
    fits = fits and all(array.shape == (len(rows), shape[1]) for array in matrices)
    if not fits or not (
        int(now) >= 0 and ((rows >= 0) & (rows < shape[0])).all() and ((since >= now - len(rates)) & (since <= now)).all()
    ):
        raise OptionError(f"{owner}: what the state says of the rows that are behind does not fit a parameter of shape {shape}")
