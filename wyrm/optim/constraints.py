"""Constraints on the rows of a parameter, as part of the rules that update it: rows that are frozen, rows of a greatest norm.

They belong to the parameter (:attr:`wyrm.ParameterNode.frozen_rows`, :attr:`wyrm.ParameterNode.max_norm`), which has a number
for each row of what the rule reads. So they hold wherever the rule is applied, and rules without them are as they were.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from wyrm.frontend.constraints import FROZEN, LARGEST
from wyrm.frontend.storage import HogwildParameter
from wyrm.optim.rules import Update, trace_rule
from wyrm.program import Rule, State

__all__ = ["constrained"]


def constrained(rule: Rule, storage: HogwildParameter) -> Rule:
    """A rule as it is applied to a parameter: with the constraints that its rows have."""
    names = storage.constraints
    return _constrained(rule, names) if names else rule


@cache
def _constrained(rule: Rule, names: tuple[str, ...]) -> Rule:
    further = tuple(State(name, per="row", shared=True) for name in names)
    return trace_rule(rule.name, _update(rule, names), (*rule.states, *further), rule.scalars, rule.catch_up)


def _update(rule: Rule, names: tuple[str, ...]) -> Update:
    """What the rule does, and then: a row that is too long is scaled back, and one that is frozen is as it was."""

    def update(
        k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        states = [getattr(state, each.name) for each in rule.states]
        registers = [value, gradient, *states, *vars(scalar).values(), *map(k.literal, rule.literals)]
        for step in rule.steps:
            registers.append(getattr(k, step.kernel)(*[registers[operand] for operand in step.operands]))
        new, *new_states = [registers[result] for result in rule.results]
        if LARGEST in names:
            square = k.row_mean(k.multiply(new, new))
            largest = getattr(state, LARGEST)
            scaled = k.multiply(k.sqrt(k.divide(largest, square)), new)
            new = k.select(k.greater(square, largest), scaled, new)
        if FROZEN in names:
            frozen = getattr(state, FROZEN)
            new, *new_states = [k.select(frozen, a, b) for a, b in zip((value, *states), (new, *new_states), strict=True)]
        kept = {name: getattr(state, name) for name in names}
        return new, {**dict(zip([each.name for each in rule.states], new_states, strict=True)), **kept}

    return update
