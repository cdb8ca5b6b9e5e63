"""The storage of parameters: values and what optimizers keep beside them, which the nodes of several threads may share."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import OptionError, ShapeError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.constraints import FROZEN, LARGEST, checked_norm, frozen_mask, scale_rows
from wyrm.frontend.lowering.updates import Training, lower_catch_up
from wyrm.frontend.mode import traced_by
from wyrm.frontend.values import as_reals, real_dtype
from wyrm.memory import Clock, Leaves, Memory, aligned
from wyrm.program import Buffer, Rule, Shape

if TYPE_CHECKING:
    from wyrm.backend import Backend
    from wyrm.frontend.parameters import ParameterNode

__all__ = ["CHANGES", "HogwildParameter", "Lazy"]

Array = npt.NDArray[Any]


class _Changes:
    """Counts how often values have been changed by anything but an optimizer's step, in this process."""

    __slots__ = ("count", "lock")

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()


CHANGES = _Changes()


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

    __slots__ = ("__weakref__", "_array", "_lazy", "_lock", "_max_norm", "_nodes", "_states", "change", "changed_by")

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
        self._lazy: dict[str, Lazy] = {}
        self._max_norm: float | None = None
        # by identity: a set would compare nodes, which makes masks
        self._nodes: weakref.WeakValueDictionary[int, ParameterNode] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()
        #: The number of the last change, of those that :data:`CHANGES` counts, and the thread that made it.
        self.change = self.changed_by = 0

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
        """The value itself, not a copy; rows that an optimizer has left behind are caught up first.

        Nodes do not notice what is written into it: after that, call their ``forward``. They notice :meth:`set_value`.
        """
        self.catch_up()
        return self._array

    def set_value(self, value: npt.ArrayLike, label: str = "parameter") -> None:
        """Overwrite the value, in place, for all nodes over this storage; messages call it by the label.

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
        self.value[...] = array
        self.note_change()

    def note_change(self) -> None:
        """Take note that the value is another one now, by other means than an optimizer's step."""
        with CHANGES.lock:
            self.change = CHANGES.count = CHANGES.count + 1
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
            if scale_rows(self.value, norm, self.frozen_rows):
                self.note_change()
        self._max_norm = norm
        self._constrain(LARGEST, None if norm is None else norm**2 / max(self.shape[1], 1))

    def _constrain(self, name: str, numbers: Any) -> None:
        """Set the numbers of a constraint, or take it away; rows are caught up first under what held so far."""
        self.catch_up()
        with self._lock:
            before = self.constraints
            if numbers is None:
                self._states.pop(name, None)
            else:
                kept = self._states.setdefault(name, aligned((self.shape[0], 1), self.dtype))
                kept[...] = np.reshape(numbers, (-1, 1))
            if self.constraints != before:
                self._lazy.clear()  # no row is behind; rules that have the constraints come with the next step
                for node in list(self._nodes.values()):
                    node._expire()

    def buffer(self, buffer: Buffer) -> Any:
        """The memory that programs know under this name: the value, a state or a clock."""
        if buffer.kind == "value":
            return self._array
        return self._states[buffer.name] if buffer.kind == "state" else self._lazy[buffer.name].clock

    def clock(self, rule: Rule) -> Clock:
        """The clock of a rule that the parameter follows."""
        return self._lazy[rule.name].clock

    # -- rows that are behind

    def enter(self, node: ParameterNode) -> None:
        """Take note of a node over this storage."""
        with self._lock:
            self._nodes[id(node)] = node

    @property
    def lazy(self) -> list[Lazy]:
        """The rules under which rows may be behind."""
        return list(self._lazy.values())

    def follow(self, rule: Rule, scalars: Array, backend: Backend) -> None:
        """Make ready for steps by a rule.

        Where the rule has a ``catch_up``, rows may be behind from now on: graphs that have been run already are bound anew
        when they are run again.

        Parameters
        ----------
        scalars
            Those of the last step; kept, not copied.
        backend
            Where rows are caught up when the value is read.
        """
        self.state(rule)
        if rule.catch_up is None:
            return
        with self._lock:
            known = self._lazy.get(rule.name)
            if known is not None and known.rule == rule and known.scalars is scalars:
                return
            self.catch_up()
            clock = Clock(self.shape[0]) if known is None else known.clock
            self._lazy[rule.name] = Lazy(self, rule, scalars, clock, backend)
            for node in list(self._nodes.values()):
                node._expire_bindings()

    def catch_up(self) -> None:
        """Bring every row up to the steps that have been made."""
        for lazy in self.lazy:
            lazy.catch_up()

    # -- copies

    def __getstate__(self) -> tuple[Array, dict[str, Array], float | None]:
        """The value, caught up, and the states; clocks begin anew, and who shares the storage here is nobody there."""
        return self.value.view(np.ndarray), dict(self._states), self._max_norm

    def __setstate__(self, state: tuple[Array, dict[str, Array], float | None]) -> None:
        value, states, norm = state
        self._array = _aligned_copy(value)
        self._begin()
        self._max_norm = norm
        self._states = {name: _aligned_copy(array) for name, array in states.items()}

    def __repr__(self) -> str:
        return f"HogwildParameter(shape={self.shape}, dtype={self.dtype})"


def _aligned_copy(array: Array) -> Array:
    """A copy in memory of our own, whose place suits native code."""
    copy = aligned(array.shape, array.dtype, fill=None)
    copy[...] = array
    return copy


class Lazy:
    """A rule under which rows of a parameter may be behind.

    Attributes
    ----------
    rule, scalars, clock
        What rows are caught up with; the scalars are those of the last step.
    """

    __slots__ = ("_kept", "_run", "_settled", "clock", "rule", "scalars")

    def __init__(self, storage: HogwildParameter, rule: Rule, scalars: Array, clock: Clock, backend: Backend) -> None:
        self.rule, self.scalars, self.clock = rule, scalars, clock
        self._settled = clock.now
        program = lower_catch_up(storage.shape, Training(rule, 0), storage.dtype)
        buffers: list[Any] = Memory.own(program)
        for buffer in program.buffers[2:]:
            if buffer.kind == "scalars":
                buffers.append(scalars)
            else:
                buffers.append(clock if buffer.kind == "clock" else storage.buffer(buffer))
        bound = compiled(program, backend).bind(Memory(program, buffers))
        leaves = Leaves(1)
        self._run, _ = bound.attached(leaves)
        self._kept = bound, leaves

    def catch_up(self) -> None:
        """Bring every row up to the steps that have been made, unless that is how they are."""
        now = self.clock.now
        if now != self._settled:
            self._run()
            self._settled = now
