"""From an optimizer's arithmetic, written as functions, to a :class:`wyrm.program.Rule`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.value import Value
from wyrm.program import CatchUp, Rule, RuleStep, State

__all__ = ["RuleEmitter", "Update", "trace_rule"]


class RuleEmitter(Emitter):
    """Records what happens to one row: elementwise kernels, and the mean over the row."""

    def row_mean(self, a: Value) -> Value:
        """The mean of ``a`` over the row."""
        return self._record(Value("row_mean", (a,), shape=(1, 1)))


#: ``update(k, value, gradient, state, scalar)`` returns the new value and the new state by name. ``k`` records kernel
#: calls, as in the op table; ``state`` and ``scalar`` have an attribute for each name.
Update = Callable[[Any, Any, Any, SimpleNamespace, SimpleNamespace], tuple[Any, dict[str, Any]]]


def trace_rule(
    name: str,
    update: Update,
    states: Sequence[State] = (),
    scalars: Sequence[str] = (),
    catch_up: CatchUp | None = None,
) -> Rule:
    """Record what ``update`` computes.

    Parameters
    ----------
    name
        Under which parameters keep the state; rules of one name share it.
    update
        The arithmetic on one row.
    states, scalars
        What it reads besides value and gradient.
    catch_up
        What a step does to a row that it does not touch, if it does anything.

    Examples
    --------
    >>> rule = trace_rule(
    ...     "sgd",
    ...     lambda k, value, gradient, state, scalar: (
    ...         k.subtract(value, k.multiply(scalar.learning_rate, gradient)),
    ...         {},
    ...     ),
    ...     scalars=["learning_rate"],
    ... )
    >>> [step.kernel for step in rule.steps]
    ['multiply', 'subtract']
    """
    k = RuleEmitter()
    row = (1, 2)  # any length but 1, to tell rows from what is the same along a row
    value, gradient = Value("", shape=row), Value("", shape=row)
    state = {s.name: Value("", shape=row if s.per == "element" else (1, 1)) for s in states}
    scalar = {s: Value("", shape=(1, 1)) for s in scalars}
    new_value, new_state = update(k, value, gradient, SimpleNamespace(**state), SimpleNamespace(**scalar))
    found = [value, gradient, *state.values(), *scalar.values(), *k.literals.values()]
    registers = {v: n for n, v in enumerate([*found, *k.values])}
    steps = tuple(RuleStep(v.kernel, registers[v], tuple(registers[o] for o in v.operands)) for v in k.values)
    results = tuple(registers[v] for v in (new_value, *(new_state[name] for name in state)))
    return Rule(name, tuple(states), tuple(scalars), tuple(k.literals), steps, results, catch_up)
