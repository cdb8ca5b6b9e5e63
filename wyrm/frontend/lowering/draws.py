"""The order of a forward pass in which numbers are drawn.

A draw may be repeated until a value is positive. The calls that this value needs and that depend on what was drawn are the
draw's body: they follow it at once, and nothing else stands between. What they need beside it comes before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from wyrm.errors import OptionError, OutOfRangeError
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.value import Value
from wyrm.frontend.order import operands_first

__all__ = ["arranged"]


def arranged(k: Emitter, values: Sequence[Value]) -> list[Value]:
    """The calls of a forward pass, each draw followed by its body, which is noted in the draw.

    Raises
    ------
    OptionError
        Where two draws would have to be repeated inside each other.
    OutOfRangeError
        Where a table has fewer rows than are drawn from.
    """
    draws = [value for value in values if value in k.draws]
    if not draws:
        return list(values)
    for draw in draws:
        rows = draw.attributes["rows"]
        if k.limits.get(draw, rows) < rows:
            raise OutOfRangeError(f"numbers below {rows} are drawn for a table of {k.limits[draw]} rows")
    if all(k.draws[draw] is None for draw in draws):
        return list(values)
    home = _find_bodies(k, values, draws)

    def needs(value: Value) -> list[Value]:
        """The calls that have to come before a call; before a draw, those that its body needs."""
        read = value.read if not value.body else [operand for call in (value, *value.body) for operand in call.read]
        calls = [home.get(operand, operand) for operand in read]
        return [call for call in calls if call.kernel and call is not value]

    order: list[Value] = []
    done: set[Value] = set()
    for root in [home.get(value, value) for value in values]:
        if root not in home and all(operand in done or not operand.kernel for operand in root.read):
            waiting: Iterable[Value] = [root] if root not in done else ()
        else:
            waiting = operands_first([root], needs, done)
        for value in waiting:
            done.add(value)
            if value.kernel:
                calls = [value, *value.body]
                order += calls
                done.update(calls)
    return order


def _find_bodies(k: Emitter, values: Sequence[Value], draws: Sequence[Value]) -> dict[Value, Value]:
    """Note each draw's body in it; returns the draw in which each value is computed, for those of which that is so."""
    home: dict[Value, Value] = {}
    readers: dict[Value, list[Value]] = {}
    position = {value: n for n, value in enumerate(values)}
    for value in values:
        for operand in value.read:
            readers.setdefault(operand, []).append(value)
    for draw in draws:
        until = k.draws[draw]
        body = set() if until is None else _between(_dependent(readers, draw), until.viewed or until)
        draw.body = tuple(sorted(body, key=position.__getitem__))
        home |= dict.fromkeys((draw, k.outcome(draw), *draw.body), draw)
    try:
        TopologicalSorter(_needed_draws(k, values, draws)).prepare()
    except CycleError:
        raise OptionError(
            "redraw: two samples are each drawn until a node is positive that depends on the other; let one of the nodes be "
            "independent of the other's sample"
        ) from None
    for draw in draws:
        until = k.draws[draw]
        draw.operands += () if until is None else (until,)
    return home


def _needed_draws(k: Emitter, values: Sequence[Value], draws: Iterable[Value]) -> dict[Value, list[Value]]:
    """For each draw the others that what ends it depends on."""
    own = {draw: 1 << n for n, draw in enumerate(draws)}  # sets of draws, as bits
    needed = {value: bit for draw, bit in own.items() for value in (draw, k.outcome(draw))}
    for value in values:
        bits = needed.get(value, 0)
        for operand in value.read:
            bits |= needed.get(operand, 0)
        if bits:
            needed[value] = bits
    ends = {draw: needed.get(until.viewed or until, 0) for draw in own if (until := k.draws[draw]) is not None}
    return {draw: [other for other, bit in own.items() if bits & bit and other is not draw] for draw, bits in ends.items()}


def _between(dependent: set[Value], until: Value) -> set[Value]:
    """Of the calls that depend on a draw, those that a value needs, itself included."""
    waiting = [until] if until in dependent else []
    found = set(waiting)
    while waiting:
        new = [value for value in waiting.pop().read if value in dependent and value not in found]
        found.update(new)
        waiting += new
    return found


def _dependent(readers: dict[Value, list[Value]], draw: Value) -> set[Value]:
    """The calls that depend on what was drawn, or on how often."""
    waiting = [draw, draw.operands[1]]
    dependent = set(waiting)
    while waiting:
        new = [value for value in readers.get(waiting.pop(), ()) if value not in dependent]
        dependent.update(new)
        waiting += new
    return dependent - {draw, draw.operands[1]}
