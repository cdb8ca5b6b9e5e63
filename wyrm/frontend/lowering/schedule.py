"""The order of calls: which depend on which, and which may be made in one instruction.

A call depends on what computes its operands, on the last call before it that changed memory that it reads, and, where it
changes memory itself, on everything that has read what stands there. Where both calls are elementwise and have one shape,
element (i, j) of the one needs element (i, j) of the other: one instruction can do both.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from typing import Any

from wyrm.frontend.lowering.instructions import EFFECTS
from wyrm.frontend.lowering.value import Value
from wyrm.kernels import KERNELS, Shape

__all__ = ["changes_parameters", "groups"]

#: What belongs to a parameter and is changed in place.
_KEPT = ("value", "state", "gradient", "clock")
#: Kernels whose calls are elementwise, copies into a shape among them.
_ELEMENTWISE = frozenset({"copy", *(kernel.name for kernel in KERNELS.values() if kernel.elementwise)})
#: For each call those it depends on, and by how much it has to come after them: 0: it may be in the same instruction; 1: it may
#: not.
_Dependences = dict[Value, dict[Value, int]]


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
    elementwise = {value for value in values if value.kernel in _ELEMENTWISE}
    dependences = _dependences(values, elementwise, loss, guarded)
    stages: dict[Value, int] = {}
    for value in values:
        stage = 0
        for other, distance in dependences[value].items():
            earliest = stages[other] + distance
            if earliest > stage:
                stage = earliest
        stages[value] = stage
    _delay(values, elementwise, stages, dependences)
    members: list[list[Value]] = []
    numbers: dict[Any, int] = {}
    homes: dict[Value, int] = {}
    before: list[set[int]] = []
    for value in values:
        number = numbers.setdefault((stages[value], value.shape) if value in elementwise else value, len(members))
        if number == len(members):
            members.append([value])
            before.append(set())
        else:
            members[number].append(value)
        homes[value] = number
        before[number].update([homes[other] for other in dependences[value]])
    return [members[number] for number in _ordered(before)]


def _delay(
    values: Sequence[Value], elementwise: Collection[Value], stages: dict[Value, int], dependences: _Dependences
) -> None:
    """Put calls off until those of their shape that need them, so that what is between them is not stored."""
    latest: dict[Value, int] = {}
    homes: dict[Value, set[tuple[int, Shape]]] = {}
    for value in reversed(values):
        stage = stages[value]
        fits = value in elementwise
        if fits and value in homes:
            later = latest.get(value, stage)
            if (later, value.shape) in homes[value]:
                stages[value] = stage = later
        home = stage, value.shape
        for other, distance in dependences[value].items():
            bound = stage - distance
            if other not in latest or latest[other] > bound:
                latest[other] = bound
            if fits and not distance:
                if other in homes:
                    homes[other].add(home)
                else:
                    homes[other] = {home}


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


def _dependences(values: Sequence[Value], elementwise: Collection[Value], loss: Value | None, guarded: bool) -> _Dependences:
    """On which earlier calls each depends."""
    found: _Dependences = {}
    memories = _Memories()
    written = {value: _written(value, memories) for value in values if _changes(value)}
    changed = {memory for several in written.values() for memory in several}  # what else is written once, and then read
    writers: dict[Any, Value] = {}
    readers: dict[Any, list[tuple[Value, bool]]] = {}  # since it was written, each with whether it reads all of the memory
    loss_known = False
    for value in values:
        needed: dict[Value, int] = {}
        shape, fits = value.shape, value in elementwise
        if loss_known and changes_parameters(value):
            assert loss is not None
            near = guarded and fits and loss in elementwise and loss.shape == shape
            needed[loss] = int(not near)
        for operand in value.operands if value.onto is None else (*value.operands, value.onto):
            viewed = operand.viewed or operand
            near = fits and viewed is operand and operand.shape == shape
            memory = memories[viewed] if viewed.place or viewed.onto is not None else viewed
            if viewed in found:
                if not (near and viewed in elementwise):
                    needed[viewed] = 1
                elif viewed not in needed:
                    needed[viewed] = 0
            elif memory in writers:
                needed[writers[memory]] = 1
            if memory in changed:
                readers.setdefault(memory, []).append((value, near))
        for memory in written.get(value, (value,) if value in changed else ()):
            if memory in writers:
                needed[writers[memory]] = 1
            for reader, near in readers.pop(memory, ()):
                if not (near and fits and reader.shape == shape):
                    needed[reader] = 1
                else:
                    needed.setdefault(reader, 0)
            writers[memory] = value
        needed.pop(value, None)
        found[value] = needed
        loss_known = loss_known or value is loss
    return found


def _changes(value: Value) -> bool:
    """Whether a call writes where something may have been before."""
    return value.onto is not None or bool(value.place) or value.kernel in EFFECTS or value.kernel == "square_sum"


class _Memories(dict[Value, Any]):
    """What stands for the memory that each value is in: its place, or the first value that was there."""

    def __missing__(self, value: Value) -> Any:
        if value.place:
            memory: Any = value.place[3] if value.place[0] == "row" else value.place
        elif value.onto is not None:
            memory = self[value.onto]
        elif value.viewed is not None:
            memory = self[value.viewed]
        else:
            memory = value
        self[value] = memory
        return memory


def _written(value: Value, memories: _Memories) -> Collection[Any]:
    """The memory that a call changes."""
    if value.kernel == "draw":
        return memories[value], memories[value.operands[1]]  # the numbers, and how many draws it took
    if value.kernel not in EFFECTS and value.kernel != "square_sum":
        return (memories[value],)
    operands = [memories[operand] for operand in value.operands]
    return {memories[value], *(m for m in operands if isinstance(m, tuple) and m[0] in _KEPT and m[0] != "value")}
