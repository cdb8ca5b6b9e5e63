"""Steps that change nothing: where draws that were to end at a positive value came to none, as WARP does for what ranks well.

A loss such as the positive part of that value has then no gradient. Call by call, what follows is known to be zero; where no
rule moves what has a gradient of zero, the rest of the step may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_, or_

from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.instructions import EFFECTS
from wyrm.frontend.lowering.value import Value
from wyrm.program import Rule

__all__ = ["skippable"]

#: Kernels whose result is zero where one of their operands is.
_PRODUCTS = frozenset({"multiply", "matmul", "row_dot"})
#: Those whose result is zero where all of their operands are.
_SUMS = frozenset({"add", "subtract", "negate", "copy", "sum", "transpose", "blocks", "pad", "sqrt", "absolute", "row_mean"})
#: Those that put rows where indices say, and those that take them from there: which operand has the rows.
_MOVES = {"scatter": 1, "scatter_bag": 1, "place": 1, "gather": 0, "pick": 0}
#: Updates: which operand is the gradient.
_UPDATES = {"update": 0, "update_rows": 1, "update_gradient": 0}


def skippable(k: Emitter, rest: Sequence[Value]) -> Value | None:
    """A value such that, where it is not positive, the rest of a step changes nothing; ``None``: there is none.

    Parameters
    ----------
    rest
        The calls of the backward pass and of the updates.
    """
    ends = {until: 1 << n for n, until in enumerate(dict.fromkeys(u for u in k.draws.values() if u is not None))}
    found = _changing_nothing(ends, rest) if ends else 0
    return next((until for until, bit in ends.items() if found & bit), None)


def _changing_nothing(ends: Mapping[Value, int], rest: Sequence[Value]) -> int:
    """At which ends, as bits, these calls leave parameters and states as they are where that end is not positive."""
    everywhere = (1 << len(ends)) - 1
    zeros: dict[Value, int] = {}  # the ends at which a value is zero
    added: dict[tuple[object, ...], int] = {}  # to the lists of gradients: those at which all of it is zero

    def zero(value: Value) -> int:
        value = value.viewed or value
        return everywhere if value.place == ("literal", 0.0) else zeros.get(value, 0)

    def comes_to_zero(value: Value) -> int:
        name, operands = value.kernel, value.operands
        if name == "greater":
            return ends.get(_seen_through(operands[0]), 0) & zero(operands[1])
        if name == "select":
            return zero(operands[2]) & (zero(operands[0]) | zero(operands[1]))
        if name in _MOVES:
            return zero(operands[_MOVES[name]])
        if name in _PRODUCTS:
            return reduce(or_, map(zero, operands))
        return reduce(and_, map(zero, operands)) if name in _SUMS else 0

    found = everywhere
    for value in rest:
        if value.kernel in ("accumulate_rows", "accumulate_bag"):
            assert value.onto is not None
            added[value.onto.place] = zero(value.operands[1]) & added.get(value.onto.place, everywhere)
        elif value.kernel in _UPDATES:
            gradient = value.operands[_UPDATES[value.kernel]]
            found &= zero(gradient) | added.get(gradient.place, 0) if _keeps(value.attributes["rule"]) else 0
        elif value.kernel in EFFECTS or value.place:
            return 0
        else:
            zeros[value] = comes_to_zero(value) & (everywhere if value.onto is None else zero(value.onto))
    return found


def _seen_through(value: Value) -> Value:
    """What a value is a view of."""
    while value.kernel == "view":
        value = value.operands[0]
    return value


def _keeps(rule: Rule) -> bool:
    """Whether a rule leaves value and states to the bit where the gradient is zero."""
    zeros = {1}
    literals = 2 + len(rule.states) + len(rule.scalars)
    zeros.update(literals + n for n, number in enumerate(rule.literals) if number == 0)
    same = {register: register for register in range(rule.registers)}  # as which one
    for step in rule.steps:
        operands = [same[register] for register in step.operands]
        zero = [register in zeros for register in operands]
        if any(zero) if step.kernel in _PRODUCTS else step.kernel in _SUMS and all(zero):
            zeros.add(step.out)
        elif step.kernel in ("add", "subtract") and zero[1]:
            same[step.out] = operands[0]
        elif (step.kernel == "add" and zero[0]) or (step.kernel == "select" and operands[1] == operands[2]):
            same[step.out] = operands[1]
    kept = (0, *range(2, 2 + len(rule.states)))
    return rule.catch_up is None and [same[register] for register in rule.results] == list(kept)
