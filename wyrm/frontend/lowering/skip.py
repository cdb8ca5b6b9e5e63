"""Steps that change nothing: where draws that were to end at a positive value came to none, as WARP does for what ranks well.

A loss such as the positive part of that value has then no gradient. Call by call, what follows is known to be zero; where no
rule moves what has a gradient of zero, the rest of the step may be left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from wyrm.frontend.lowering.emitter import Emitter, Value
from wyrm.frontend.lowering.instructions import EFFECTS
from wyrm.program import Rule

__all__ = ["skippable"]

#: Kernels whose result is zero where one of their operands is.
_PRODUCTS = frozenset({"multiply", "matmul", "row_dot"})
#: Those whose result is zero where all of their operands are.
_SUMS = frozenset(
    {"add", "subtract", "negate", "copy", "sum", "transpose", "view", "slice", "blocks", "pad", "sqrt", "absolute", "row_mean"}
)
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
    ends = [until for until in k.draws.values() if until is not None]
    return next((until for until in ends if _changes_nothing(until, rest)), None)


def _changes_nothing(until: Value, rest: Sequence[Value]) -> bool:
    """Whether these calls leave parameters and states as they are where ``until`` is not positive."""
    zeros: set[Value] = set()
    added: dict[tuple[object, ...], bool] = {}  # to the lists of gradients: whether all of it is zero

    def is_zero(value: Value) -> bool:
        return value in zeros or value.place == ("literal", 0.0)

    def comes_to_zero(value: Value) -> bool:
        name, operands = value.kernel, value.operands
        if name == "greater":
            return _seen_through(operands[0]) is until and is_zero(operands[1])
        if name == "select":
            return is_zero(operands[2]) and (is_zero(operands[0]) or is_zero(operands[1]))
        if name in _MOVES:
            return is_zero(operands[_MOVES[name]])
        return any(map(is_zero, operands)) if name in _PRODUCTS else name in _SUMS and all(map(is_zero, operands))

    for value in rest:
        if value.kernel in ("accumulate_rows", "accumulate_bag"):
            assert value.onto is not None
            added[value.onto.place] = is_zero(value.operands[1]) and added.get(value.onto.place, True)
        elif value.kernel in _UPDATES:
            gradient = value.operands[_UPDATES[value.kernel]]
            if not (is_zero(gradient) or added.get(gradient.place)) or not _keeps(value.attributes["rule"]):
                return False
        elif value.kernel in EFFECTS or value.place:
            return False
        elif comes_to_zero(value) and (value.onto is None or is_zero(value.onto)):
            zeros.add(value)
    return True


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
        elif step.kernel == "add" and zero[0]:
            same[step.out] = operands[1]
    kept = (0, *range(2, 2 + len(rule.states)))
    return rule.catch_up is None and [same[register] for register in rule.results] == list(kept)
