"""Faulty updates: rules, states, rows that missed steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from wyrm import kernel_steps
from wyrm.clocks import Clock
from wyrm.frontend import stale_rows
from wyrm.kernel_steps import Steps
from wyrm.memory import aligned
from wyrm.program import Rule
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import patch_fault

_Target = kernel_steps._Target
_Table = kernel_steps._Table
_apply, _update = _Target._apply, _Target.update
_catch_up, _missed, _current_rows = _Table.catch_up, Clock.missed, Steps._current_rows


def _with_rule(change: Callable[[Rule], Rule]) -> Callable[..., None]:
    """Rules are changed before they are applied."""

    def apply(self: Any, rule: Rule, rows: Any, second: Array) -> None:
        _apply(self, change(rule), rows, second)

    return apply


def _rule_fault(name: str, *checks: str, change: Callable[[Rule], Rule]) -> None:
    patch_fault(name, *(f"optimizers/{check}" for check in checks), target=_Target, _apply=_with_rule(change))


def _exchanged(kernel: str, other: str) -> Callable[[Rule], Rule]:
    """One kernel taken for another in the steps of rules."""

    def change(rule: Rule) -> Rule:
        steps = tuple(replace(step, kernel=other) if step.kernel == kernel else step for step in rule.steps)
        return replace(rule, steps=steps)

    return change


def _states_kept(rule: Rule) -> Rule:
    return replace(rule, results=(rule.results[0], *range(2, 2 + len(rule.states))))


_rule_fault("states of rules are never stored", "momentum", "adagrad", "rowwise-adagrad", "adam", "adamw", change=_states_kept)
_rule_fault("sqrt left out of rules", "ftrl", "adagrad, l1", change=_exchanged("sqrt", "absolute"))
_rule_fault("maximum taken for minimum in rules", "sgd, l1", "unseen rule", change=_exchanged("maximum", "minimum"))
_rule_fault("subtract taken for add in rules", "sgd", "sgd, clipped", change=_exchanged("subtract", "add"))
_rule_fault("add taken for subtract in rules", "sgd, l2", change=_exchanged("add", "subtract"))


def _as_descent(rule: Rule) -> Rule:
    if len(rule.steps) != 2 or rule.states:
        return rule
    product, difference = rule.steps
    product = replace(product, kernel="multiply", operands=(2, 1))
    difference = replace(difference, kernel="subtract", operands=(0, product.out))
    return replace(rule, steps=(product, difference), results=(difference.out,))


def _as_adagrad(rule: Rule) -> Rule:
    if len(rule.steps) != 7 or len(rule.states) != 1:
        return rule
    kernels = ("multiply", "add", "sqrt", "add", "divide", "multiply", "subtract")
    return replace(rule, steps=tuple(replace(step, kernel=k) for step, k in zip(rule.steps, kernels, strict=True)))


_rule_fault("rules of two steps are taken for gradient descent", "relatives", change=_as_descent)
_rule_fault("rules of seven steps and a state are taken for Adagrad", "relatives", change=_as_adagrad)


def _as_it_is(self: Any, instruction: Any) -> Any:
    table, index = self.view(instruction.operands[0]), self.view(instruction.operands[3])
    return self._storing(instruction, lambda: table[index[:, 0]])


def _pooled_as_it_is(self: Any, instruction: Any) -> Any:
    table, _, _, bag = instruction.operands
    return self._gather_bag(instruction._replace(operands=(table, bag)))


patch_fault(
    "rows are read as they are, whatever they missed",
    "optimizers/momentum",
    "optimizers/sgd, weight_decay",
    "optimizers/evaluated rows",
    target=Steps,
    _current_rows=_as_it_is,
)
patch_fault(
    "rows are pooled as they are, whatever they missed",
    "optimizers/momentum",
    "optimizers/sgd, weight_decay",
    "optimizers/evaluated rows",
    target=Steps,
    _current_bag=_pooled_as_it_is,
)


def _values_alone(self: Any, rows: Array) -> None:
    kept = self.moving.copy() if self.clock.moving >= 0 else None
    _catch_up(self, rows)
    if kept is not None:
        self.moving[...] = kept


patch_fault("velocities of rows that missed steps stay behind", "optimizers/momentum", target=_Table, catch_up=_values_alone)


def _one_too_few(self: Any, since: Array) -> Any:
    return _missed(self, np.minimum(since + 1, self.now))


patch_fault(
    "rows catch up with one step too few",
    "optimizers/sgd, weight_decay",
    "optimizers/momentum, weight_decay",
    "optimizers/momentum, everything",
    "optimizers/adam, everything",
    target=Clock,
    missed=_one_too_few,
)


def _at_the_last_rate(self: Any, since: Array) -> Any:
    if not self.now:
        return _missed(self, since)
    other = Clock(len(self.last), *self.numbers)
    first = max(self.now - self.capacity, 0)
    other.resume(self.now, np.full(self.now - first, self.rates[(self.now - 1) & (self.capacity - 1)]), self.last)
    return _missed(other, since)


patch_fault("rows catch up at the last rate", "optimizers/missed rows", target=Clock, missed=_at_the_last_rate)


def _written_where_read(self: Any, instruction: Any) -> Any:
    table, index = self._table(instruction.operands), self.view(instruction.operands[3])
    step = _current_rows(self, instruction)

    def write_and_read() -> None:
        table.catch_up(np.unique(index[:, 0]))
        step()

    return write_and_read


patch_fault(
    "reading brings rows up to date",
    "optimizers/looking",
    "optimizers/evaluated rows",
    target=Steps,
    _current_rows=_written_where_read,
)
_tick = Clock.tick
patch_fault(
    "no row is brought up to date in turn",
    "optimizers/missed rows",
    target=Clock,
    tick=lambda self, rate: _tick(self, rate)[:0],
)


def _l2_twice(self: Any, rows: Any, gradient: Array) -> None:
    """A row that is touched twice in a step decays twice."""
    _update(self, rows, gradient)
    if self.rule.name == "sgd" and isinstance(rows, np.ndarray):
        self.value[rows] *= 0.999


patch_fault("rows decay once more at each step", "optimizers/sgd, l2", "sparse/equals dense", target=_Target, update=_l2_twice)


def _whole_vectors(self: Any, rows: Any, gradient: Array) -> None:
    """What lies behind a row is computed anew with its last vector, and comes out a little different."""
    _update(self, rows, gradient)
    flat, cols = self.value.reshape(-1), self.value.shape[1]
    for row in rows.tolist() if isinstance(rows, np.ndarray) else ():
        flat[(row + 1) * cols : (row + 1) * cols + -cols % 8] *= 0.999


patch_fault("rows are changed in whole vectors", "training/widths", target=_Target, update=_whole_vectors)
_square_sum = Steps._square_sum


def _largest(self: Any, instruction: Any) -> Any:
    gradient = self.buffer(instruction.operands[0])

    def compute() -> Array:
        values = gradient.gathered() if gradient.touched else gradient.merged_rows()[1]
        largest: Array = np.square(np.abs(values).max(initial=0)).reshape(1, 1)
        return largest

    return self._storing(instruction, compute)


def _of_all_rows(self: Any, instruction: Any) -> Any:
    return _square_sum(self, instruction._replace(operands=instruction.operands[:1]))


patch_fault(
    "frozen rows count when gradients are clipped by norm",
    "kernels/gradients",
    "optimizers/momentum, frozen rows",
    target=Steps,
    _square_sum=_of_all_rows,
)


def _unconditional(rule: Rule) -> Rule:
    steps = tuple(replace(s, kernel="maximum", operands=s.operands[1:2] * 2) if s.kernel == "select" else s for s in rule.steps)
    return replace(rule, steps=steps)


_rule_fault("what select chooses is chosen always", "rowwise-adagrad, max_norm", "momentum, frozen rows", change=_unconditional)
patch_fault("clipping by the largest element, not by the norm", "optimizers/sgd, clipped", target=Steps, _square_sum=_largest)
patch_fault(
    "what optimizers keep begins from 0, whatever is asked for",
    "optimizers/adagrad, from 1",
    "optimizers/unseen rule",
    target=stale_rows,
    aligned=lambda shape, dtype, fill=0: aligned(shape, dtype, 0),
)


def _without_gaps(self: Any, instruction: Any) -> Any:
    rows, cols = instruction.operands[0].shape
    flat = self.buffer(instruction.operands[0]).reshape(-1)
    target, gradient = self._target(instruction, 1), flat[: rows * cols].reshape(rows, cols)
    return lambda: target.update(slice(None), gradient)


patch_fault("gradients are read as if there were no gaps between rows", "kernels/updates", target=Steps, _update=_without_gaps)
