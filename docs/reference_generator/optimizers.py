"""The section on optimizers: options, states, and the arithmetic of their rules as these were traced."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

import wyrm
from reference_generator.listing import listing
from reference_generator.text import row
from wyrm import optim
from wyrm.errors import OptionError
from wyrm.frontend.lowering.updates import GRADIENT_SCALE
from wyrm.frontend.lowering.value import Value
from wyrm.program import Rule

__all__ = ["optimizers", "optimizers_section", "rule_lines", "rules_of"]

#: What is used several times and longer than this gets a name.
LONGEST = 12

INTRODUCTION = f"""\
What a step does to one row of a parameter, line after line: on the right of `sum = sum + gradient * gradient` stands the old
sum, in the lines below it the new one. `row_mean(a)` is the mean over the row, `{GRADIENT_SCALE}` what keeps the norm of all
gradients within `clip_norm`, and `missed` the number of steps that did not touch a row. These are the rules as they are run:
options that are 0 or `None` are no part of a rule, and cost nothing.
"""


def optimizers() -> list[type[optim.Optimizer]]:
    """The optimizers that :mod:`wyrm.optim` exports."""
    found = (getattr(optim, name) for name in optim.__all__)
    return [o for o in found if inspect.isclass(o) and issubclass(o, optim.Optimizer) and o is not optim.Optimizer]


def _options(optimizer: type[optim.Optimizer]) -> dict[str, Any]:
    """The options that have defaults, with these."""
    parameters = inspect.signature(optimizer).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _made(optimizer: type[optim.Optimizer], **options: Any) -> Rule:
    (group,) = optimizer(0.5, [wyrm.ParameterNode(np.zeros((2, 2)))], **options).groups
    return group.rule


def _all_on(optimizer: type[optim.Optimizer]) -> Iterator[tuple[list[str], Rule]]:
    """The rules with as many options as can be had together, each with the options that were left out."""
    off = [name for name, default in _options(optimizer).items() if default in (0, None)]
    for count in range(len(off)):
        found = False
        for left in combinations(off, count):
            try:
                yield list(left), _made(optimizer, **{name: 0.5 for name in off if name not in left})
                found = True
            except OptionError:
                pass
        if found:
            return


def rules_of(optimizer: type[optim.Optimizer]) -> list[tuple[str, Rule]]:
    """The rule without options and those with all that can be had together, each with a title."""
    rules = [("As it is", _made(optimizer))]
    for left, rule in _all_on(optimizer):
        but = f" but {', '.join(f'`{name}`' for name in left)}" if left else ""
        rules.append((f"With all options{but}", rule))
    return rules


def rule_lines(rule: Rule) -> list[str]:
    """A rule's arithmetic, a formula a line."""
    given = ["value", "gradient", *(state.name for state in rule.states), *rule.scalars]
    registers = [Value("") for _ in given]
    names = dict(zip(registers, given, strict=True))
    registers += [Value("", place=("literal", number)) for number in rule.literals]
    registers += [Value("")] * len(rule.steps)
    for step in rule.steps:
        registers[step.out] = Value(step.kernel, tuple(registers[operand] for operand in step.operands))
    targets = ["value", *(state.name for state in rule.states)]
    results = [(name, registers[result]) for name, result in zip(targets, rule.results, strict=True)]
    return [f"{name} = {text}" for name, text in listing(results, names, LONGEST)]


def _block(lines: list[str]) -> list[str]:
    return ["```", *lines, "```", ""]


def _untouched(rule: Rule, first: Rule) -> list[str]:
    if rule is not first and rule.catch_up == first.catch_up:
        return ["Rows that a step does not touch: as above.", ""]
    if rule.catch_up is None:
        return ["Rows that a step does not touch stay as they are, to the bit.", ""]
    decay, velocity = rule.catch_up.decay is not None, rule.catch_up.state
    shrunk = "(1 - learning_rate * weight_decay) * value" if decay else "value"
    lines = [f"value = {shrunk}"]
    if velocity is not None:
        name = rule.states[velocity].name
        lines = [f"value = {shrunk} - learning_rate * momentum * {name}", f"{name} = momentum * {name}"]
    said = "A step does this to rows that it does not touch, at its own learning rate; they are caught up with later:"
    return [said, "", *_block(lines)]


def _states(rules: list[tuple[str, Rule]], optimizer: type[optim.Optimizer]) -> list[str]:
    states = {state.name: state for _, rule in rules for state in rule.states}
    if not states:
        return ["It keeps no state.", ""]
    default = {state.name for state in rules[0][1].states}
    chosen = {state: f"`{option}`" for option, state in optimizer.beginnings.items()}
    lines = [row("state", "one for each", "at first"), row(*["---"] * 3)]
    for state in states.values():
        kept = "" if state.name in default else " (where an option asks for it)"
        first = chosen.get(state.name, f"{state.initial:g}")
        lines.append(row(f"`{state.name}`{kept}", state.per, first))
    return [*lines, ""]


def optimizers_section() -> list[str]:
    """The section, in lines."""
    lines = ["## Optimizers", "", *INTRODUCTION.splitlines(), ""]
    for optimizer in sorted(optimizers(), key=lambda o: o.__name__.lower()):
        doc = (inspect.getdoc(optimizer) or "").split("\n\n")[0].replace("\n", " ")
        options = ", ".join(
            name if p.default is inspect.Parameter.empty else f"{name}={p.default!r}"
            for name, p in inspect.signature(optimizer).parameters.items()
        )
        rules = rules_of(optimizer)
        lines += [
            f"### {optimizer.__name__}",
            "",
            _plain(doc),
            "",
            *_block([f"{optimizer.__name__}({options})"]),
            *_states(rules, optimizer),
        ]
        for title, rule in rules:
            lines += [f"{title}:", "", *_block(rule_lines(rule)), *_untouched(rule, rules[0][1])]
    return lines


def _plain(doc: str) -> str:
    """A docstring's text as Markdown."""
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", doc).replace("``", "`")
