"""Update rules as elementwise calls among the others, so that they can be fused with what computes the gradient.

Of whole parameters, and of the one row that a step looks up; not for rules that catch up with rows that missed steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.value import Value
from wyrm.program import Rule

__all__ = ["inlined", "stored"]


def inlined(
    k: Emitter, rule: Rule, value: Value, gradient: Value, states: Sequence[Value], scalars: Sequence[Value]
) -> list[tuple[Value, Value]]:
    """Record what a rule computes; returns where each result is to be stored, the value's and each state's, and the result."""
    registers = [value, gradient, *states, *scalars, *map(k.literal, rule.literals)]
    for step in rule.steps:
        operands = [registers[o] for o in step.operands]
        registers.append(_row_mean(k, *operands) if step.kernel == "row_mean" else getattr(k, step.kernel)(*operands))
    results = zip([value, *states], [registers[r] for r in rule.results], strict=True)
    return [(target, result) for target, result in results if result is not target]


def _row_mean(k: Emitter, a: Value) -> Value:
    """The mean over each row, a column."""
    return k.divide(k.sum(a, axis=1), k.literal(float(a.shape[1])))


def stored(k: Emitter, target: Value, result: Value) -> Value:
    """Record that a result takes the place of what belongs to a parameter."""
    if result in k.values and result.uses == 0:  # it is computed where it belongs, after what reads what stands there
        k.values.remove(result)
        k.values.append(result)
    else:
        result = k.call("copy", result, shape=target.shape)
    result.place = target.place
    return result
