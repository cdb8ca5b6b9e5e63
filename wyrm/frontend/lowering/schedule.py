"""The order of calls: which depend on which, and which may be made in one instruction.

A call depends on what computes its operands, on the last call before it that changed memory that it reads, and, where it
changes memory itself, on everything that has read what stands there. Where both calls are elementwise and have one shape,
element (i, j) of the one needs element (i, j) of the other: one instruction can do both.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from wyrm.frontend.lowering.emitter import Value
from wyrm.frontend.lowering.instructions import EFFECTS
from wyrm.kernels import KERNELS, Shape

__all__ = ["changes_parameters", "groups", "is_elementwise"]

#: What belongs to a parameter and is changed in place.
_KEPT = ("value", "state", "gradient", "clock")


def is_elementwise(value: Value) -> bool:
    """Whether a call is elementwise, copies into a shape among them."""
    kernel = KERNELS.get(value.kernel)
    return value.kernel == "copy" or (kernel is not None and kernel.elementwise)


def changes_parameters(value: Value) -> bool:
    """Whether a call changes what outlives the step."""
    return value.kernel in EFFECTS or (bool(value.kernel) and value.place[:1] in (("value",), ("state",), ("row",)))


def groups(values: Sequence[Value], loss: Value | None, guarded: bool) -> list[list[Value]]:
    """Calls in an order in which they can be made: elementwise ones of one shape together where no other call comes between.

    Parameters
    ----------
    values
        The calls, in an order in which they can be made one by one.
    loss
        What has to be known before parameters are changed.
    guarded
        Whether one instruction may compute the loss and then, if it is finite, change parameters.
    """
    dependences = _Dependences(loss, guarded)
    stages: dict[Value, int] = {}
    for value in values:
        stages[value] = max((stages[d] + distance for d, distance in dependences.of(value).items()), default=0)
    _delay(values, stages, dependences.found)
    members: dict[Any, list[Value]] = {}
    homes: dict[Value, Any] = {}
    for value in values:
        home = (stages[value], value.shape) if is_elementwise(value) else value
        homes[value] = home
        members.setdefault(home, []).append(value)
    before: dict[Any, set[Any]] = {home: set() for home in members}
    for value in values:
        before[homes[value]].update(homes[d] for d in dependences.found[value])
    return [members[home] for home in _ordered(members, before)]


def _delay(values: Sequence[Value], stages: dict[Value, int], found: dict[Value, dict[Value, int]]) -> None:
    """Put calls off until those of their shape that need them, so that what is between them is not stored."""
    latest: dict[Value, int] = {}
    homes: dict[Value, set[tuple[int, Shape]]] = {}
    for value in reversed(values):
        stage = latest.get(value, stages[value])
        if is_elementwise(value) and (stage, value.shape) in homes.get(value, ()):
            stages[value] = stage
        for other, distance in found[value].items():
            latest[other] = min(latest.get(other, len(values)), stages[value] - distance)
            if not distance and is_elementwise(value):
                homes.setdefault(other, set()).add((stages[value], value.shape))


def _ordered(homes: Iterable[Any], before: dict[Any, set[Any]]) -> list[Any]:
    """The order as it was as far as dependences allow."""
    homes = list(homes)
    rank = {home: n for n, home in enumerate(homes)}
    after: dict[Any, list[Any]] = {home: [] for home in homes}
    waiting = {}
    for home in homes:
        needed = before[home] - {home}
        waiting[home] = len(needed)
        for other in needed:
            after[other].append(home)
    ready = [rank[home] for home in homes if not waiting[home]]
    order = []
    while ready:
        home = homes[heapq.heappop(ready)]
        order.append(home)
        for other in after[home]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, rank[other])
    assert len(order) == len(homes)
    return order


class _Dependences:
    """On which earlier calls each depends, and by how much it has to come after them."""

    def __init__(self, loss: Value | None, guarded: bool) -> None:
        self.loss, self.guarded = loss, guarded
        #: 0: it may be in the same instruction, or views it; 1: it may not.
        self.found: dict[Value, dict[Value, int]] = {}
        self._writer: dict[Any, Value] = {}
        self._readers: dict[Any, list[tuple[Value, bool]]] = {}

    def of(self, value: Value) -> dict[Value, int]:
        """The calls that a call depends on; it has to come after them in the order of recording."""
        self.found[value] = {}
        if value.kernel in ("view", "slice"):
            if value.operands[0] in self.found:
                self._add(value, value.operands[0], 0)
            return self.found[value]
        if self.loss in self.found and changes_parameters(value):
            assert self.loss is not None
            self._add(value, self.loss, self._distance(value, self.loss, self.guarded and value.kernel not in EFFECTS))
        for operand in (*value.operands, *([] if value.onto is None else [value.onto])):
            self._read(value, operand)
        for memory in _written(value):
            if memory in self._writer:
                self._add(value, self._writer[memory], 1)
            for reader, whole in self._readers.pop(memory, ()):
                self._add(value, reader, self._distance(value, reader, whole))
            self._writer[memory] = value
        return self.found[value]

    def _read(self, value: Value, operand: Value) -> None:
        memory = _memory(operand)
        viewed = operand
        while viewed.kernel in ("view", "slice"):
            if viewed in self.found:
                self._add(value, viewed, 0)
            viewed = viewed.operands[0]
        if viewed in self.found:
            self._add(value, viewed, self._distance(value, viewed, viewed is operand))
        elif memory in self._writer:
            self._add(value, self._writer[memory], 1)
        whole = viewed is operand and operand.shape == value.shape
        self._readers.setdefault(memory, []).append((value, whole))

    @staticmethod
    def _distance(value: Value, other: Value, near: bool) -> int:
        return int(not (near and is_elementwise(value) and is_elementwise(other) and value.shape == other.shape))

    def _add(self, value: Value, other: Value, distance: int) -> None:
        if other is not value:
            found = self.found[value]
            found[other] = max(found.get(other, 0), distance)


def _memory(value: Value) -> Any:
    """What stands for the memory that a value is in: its place, or the first value that was there."""
    while True:
        if value.place:
            return value.place[3] if value.place[0] == "row" else value.place
        if value.onto is not None:
            value = value.onto
        elif value.kernel in ("view", "slice"):
            value = value.operands[0]
        else:
            return value


def _written(value: Value) -> set[Any]:
    """The memory that a call changes."""
    if value.kernel in ("", "view", "slice"):
        return set()
    written = {_memory(value)}
    if value.kernel == "draw":
        written.add(_memory(value.operands[1]))  # the number of draws
    if value.kernel in EFFECTS or value.kernel == "square_sum":
        written.update(m for m in map(_memory, value.operands) if isinstance(m, tuple) and m[0] in _KEPT and m[0] != "value")
    return written
