"""The order of calls: which depend on which, and which may be made in one instruction.

A call depends on what computes its operands, on the last call before it that changed memory that it reads, and, where it
changes memory itself, on everything that has read what stands there. Where both calls are elementwise and have one shape,
element (i, j) of the one needs element (i, j) of the other: one instruction can do both.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
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
    elementwise = {value for value in values if is_elementwise(value)}
    dependences = _Dependences(elementwise, loss, guarded)
    stages: dict[Value, int] = {}
    for value in values:
        stages[value] = max([stages[d] + distance for d, distance in dependences.of(value).items()], default=0)
    _delay(values, elementwise, stages, dependences.found)
    members: list[list[Value]] = []
    numbers: dict[Any, int] = {}
    homes: dict[Value, int] = {}
    for value in values:
        number = numbers.setdefault((stages[value], value.shape) if value in elementwise else value, len(members))
        if number == len(members):
            members.append([])
        members[number].append(value)
        homes[value] = number
    before: list[set[int]] = [set() for _ in members]
    for value in values:
        before[homes[value]].update([homes[d] for d in dependences.found[value]])
    return [members[number] for number in _ordered(before)]


def _delay(
    values: Sequence[Value], elementwise: Collection[Value], stages: dict[Value, int], found: dict[Value, dict[Value, int]]
) -> None:
    """Put calls off until those of their shape that need them, so that what is between them is not stored."""
    latest: dict[Value, int] = {}
    homes: dict[Value, set[tuple[int, Shape]]] = {}
    for value in reversed(values):
        stage = latest.get(value, stages[value])
        fits = value in elementwise
        if fits and value in homes and (stage, value.shape) in homes[value]:
            stages[value] = stage
        home = stages[value], value.shape
        for other, distance in found[value].items():
            bound = home[0] - distance
            if latest.get(other, bound) >= bound:
                latest[other] = bound
            if fits and not distance:
                homes.setdefault(other, set()).add(home)


def _ordered(before: Sequence[set[int]]) -> list[int]:
    """The order of groups: as it was as far as dependences allow."""
    after: list[list[int]] = [[] for _ in before]
    waiting = []
    for number, needed in enumerate(before):
        needed.discard(number)
        waiting.append(len(needed))
        for other in needed:
            after[other].append(number)
    ready = [number for number, count in enumerate(waiting) if not count]
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for other in after[number]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, other)
    assert len(order) == len(before)
    return order


class _Dependences:
    """On which earlier calls each depends, and by how much it has to come after them."""

    def __init__(self, elementwise: Collection[Value], loss: Value | None, guarded: bool) -> None:
        self.elementwise, self.loss, self.guarded = elementwise, loss, guarded
        #: 0: it may be in the same instruction, or views it; 1: it may not.
        self.found: dict[Value, dict[Value, int]] = {}
        self._memories: dict[Value, Any] = {}
        self._writer: dict[Any, Value] = {}
        self._readers: dict[Any, list[tuple[Value, bool]]] = {}

    def of(self, value: Value) -> dict[Value, int]:
        """The calls that a call depends on; it has to come after them in the order of recording."""
        found: dict[Value, int] = {}
        if value.kernel in ("view", "slice"):
            if value.operands[0] in self.found:
                found[value.operands[0]] = 0
            self.found[value] = found
            return found
        if self.loss in self.found and changes_parameters(value):
            assert self.loss is not None
            found[self.loss] = self._distance(value, self.loss, self.guarded and value.kernel not in EFFECTS)
        for operand in value.operands:
            self._read(value, operand, found)
        if value.onto is not None:
            self._read(value, value.onto, found)
        for memory in self._written(value):
            if memory in self._writer:
                found[self._writer[memory]] = 1
            for reader, whole in self._readers.pop(memory, ()):
                if reader is not value:
                    found[reader] = self._distance(value, reader, whole) or found.get(reader, 0)
            self._writer[memory] = value
        self.found[value] = found
        return found

    def _read(self, value: Value, operand: Value, found: dict[Value, int]) -> None:
        memory = self._memory(operand)
        viewed = operand
        while viewed.kernel in ("view", "slice"):
            if viewed in self.found:
                found.setdefault(viewed, 0)
            viewed = viewed.operands[0]
        if viewed in self.found:
            found[viewed] = self._distance(value, viewed, viewed is operand) or found.get(viewed, 0)
        elif memory in self._writer:
            found[self._writer[memory]] = 1
        whole = viewed is operand and operand.shape == value.shape
        self._readers.setdefault(memory, []).append((value, whole))

    def _distance(self, value: Value, other: Value, near: bool) -> int:
        return int(not (near and value in self.elementwise and other in self.elementwise and value.shape == other.shape))

    def _memory(self, value: Value) -> Any:
        """What stands for the memory that a value is in: its place, or the first value that was there."""
        memory = self._memories.get(value)
        if memory is None:
            if value.place:
                memory = value.place[3] if value.place[0] == "row" else value.place
            elif value.onto is not None:
                memory = self._memory(value.onto)
            elif value.kernel in ("view", "slice"):
                memory = self._memory(value.operands[0])
            else:
                memory = value
            self._memories[value] = memory
        return memory

    def _written(self, value: Value) -> set[Any]:
        """The memory that a call changes."""
        written = {self._memory(value)}
        if value.kernel == "draw":
            written.add(self._memory(value.operands[1]))  # the number of draws
        if value.kernel in EFFECTS or value.kernel == "square_sum":
            operands = map(self._memory, value.operands)
            written.update(m for m in operands if isinstance(m, tuple) and m[0] in _KEPT and m[0] != "value")
        return written
