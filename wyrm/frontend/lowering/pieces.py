"""Pieces that repeat: calls between two draws, at each step of a sequence and in the programs of all lengths.

A piece is fused once. Where another one differs from it in nothing but which values its calls read, they are made into the same
instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from wyrm.frontend.lowering.instructions import EFFECTS
from wyrm.frontend.lowering.value import Value
from wyrm.program import Chain, Shape

__all__ = ["fused_alike"]

#: How many pieces are known before all are forgotten, and of how many calls they are at most.
_LIMIT, _LONGEST = 1000, 100
_Fused = Callable[[Sequence[Value], Collection[Value]], list[Value]]


class _Chain(NamedTuple):
    """A chain of a piece: its operands, each as what a call reads and at which place, and its results as calls."""

    chain: Chain
    operands: tuple[tuple[int, int | None], ...]
    results: tuple[int, ...]
    shape: Shape


#: A known piece's instructions: calls by number, and chains.
_KNOWN: dict[tuple[object, ...], list[int | _Chain]] = {}


def fused_alike(piece: Sequence[Value], needed: Collection[Value], fused: _Fused) -> list[Value]:
    """``fused(piece, needed)``, by what is known of a piece like it."""
    form = _form(piece, needed) if len(piece) <= _LONGEST else None
    if form is None:
        return fused(piece, needed)
    known = _KNOWN.get(form)
    if known is None:
        if len(_KNOWN) >= _LIMIT:
            _KNOWN.clear()
        calls = fused(piece, needed)
        _KNOWN[form] = _described(piece, calls)
        return calls
    return [piece[call] if isinstance(call, int) else _placed(call, piece) for call in known]


def _form(piece: Sequence[Value], needed: Collection[Value]) -> tuple[object, ...] | None:
    """What the instructions of a piece follow from; ``None`` where some call changes what others may read.

    Operands are numbered in the order in which they occur; those that are found, by where.
    """
    numbers: dict[Any, int] = {}
    calls: dict[Value, int] = {}
    form: list[object] = []
    for n, value in enumerate(piece):
        if value.onto is not None or value.place or value.kernel in EFFECTS or value.kernel == "square_sum":
            return None
        form += [value.kernel, value.shape, value in needed]
        for operand in value.operands:
            if operand in calls:
                form.append(-1 - calls[operand])
                continue
            viewed = operand.viewed
            number = numbers.setdefault(operand if operand.kernel else operand.place, len(numbers))
            form += [number, operand.shape, None if viewed is None else calls.get(viewed)]
        calls[value] = n
    return tuple(form)


def _described(piece: Sequence[Value], calls: Sequence[Value]) -> list[int | _Chain]:
    """The instructions of a piece, for any that is like it."""
    numbers = {value: n for n, value in enumerate(piece)}
    places: dict[Value, tuple[int, int | None]] = {}
    for n, value in enumerate(piece):
        for place, operand in enumerate(value.operands):
            places.setdefault(operand, (n, place))
        places[value] = n, None
    described: list[int | _Chain] = []
    for call in calls:
        if call in numbers:
            described.append(numbers[call])
            continue
        results = tuple(numbers[result] for result in call.attributes["results"])
        operands = tuple(places[operand] for operand in call.operands)
        described.append(_Chain(call.attributes["chain"], operands, results, call.shape))
    return described


def _placed(known: _Chain, piece: Sequence[Value]) -> Value:
    """A chain of a piece, of the values of another."""
    operands = [piece[n] if place is None else piece[n].operands[place] for n, place in known.operands]
    results = tuple([piece[n] for n in known.results])
    return Value("fused", tuple(operands), {"chain": known.chain, "results": results}, known.shape)
