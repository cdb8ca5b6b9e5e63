"""Update rules as code.

A rule becomes a function ``apply(value, gradient, states, row, scalars, n)`` that updates one row of n elements: the addresses
of the row's value and gradient, of the states' operands in the instruction, the row's number, and the address of the scalars.
What rows that missed steps are caught up with becomes a function ``catch_up`` of the same form, with their number, a number of
the program's dtype, for the gradient's address.
"""

from __future__ import annotations

from wyrm.program import Rule

__all__ = ["rule_source"]


def rule_source(rule: Rule) -> str:
    """The source of ``apply`` and ``catch_up`` for a rule, in a module that defines ``ZERO``."""
    source = _function("apply", "gradient", rule)
    if rule.catch_up is not None:
        source += "\n\n" + _function("catch_up", "missed", rule.catch_up)
    return source


def _function(name: str, second: str, rule: Rule) -> str:
    first_scalar = 2 + len(rule.states)
    first_literal = first_scalar + len(rule.scalars)
    lines = ["@linked", f"def {name}(value, {second}, states, row, scalars, n):"]
    for s, state in enumerate(rule.states):
        lines.append(f"    s{s} = word(states, {4 * s}) + row * word(states, {4 * s + 3}) * itemsize(ZERO)")
        if state.per == "row":
            lines.append(f"    r{2 + s} = load(s{s}, 0, ZERO)")
    if second == "missed":
        lines.append("    r1 = missed")
    lines += [f"    r{first_scalar + i} = load(scalars, {i}, ZERO)" for i in range(len(rule.scalars))]
    lines += [f"    r{first_literal + i} = real({literal!r}, ZERO)" for i, literal in enumerate(rule.literals)]
    elements = [s for s, state in enumerate(rule.states) if state.per == "element"]
    loop = ["    for j in range(n):", "        r0 = load(value, j, ZERO)"]
    if second == "gradient":
        loop.append("        r1 = load(gradient, j, ZERO)")
    loop += [f"        r{2 + s} = load(s{s}, j, ZERO)" for s in elements]
    for step in rule.steps:
        if step.kernel == "row_mean":  # a loop of its own, over the same steps up to here
            lines += [
                "    total = ZERO",
                *loop,
                f"        total += r{step.operands[0]}",
                f"    r{step.out} = total / real(n, ZERO)",
            ]
        else:
            operands = ", ".join(f"r{register}" for register in step.operands)
            loop.append(f"        r{step.out} = elements.{step.kernel}({operands})")
    lines += loop
    lines.append(f"        store(value, j, r{rule.results[0]})")
    lines += [f"        store(s{s}, j, r{rule.results[1 + s]})" for s in elements]
    rows = [s for s, state in enumerate(rule.states) if state.per == "row"]
    if rows:
        lines.append("    if n > 0:")
        lines += [f"        store(s{s}, 0, r{rule.results[1 + s]})" for s in rows]
    return "\n".join(lines) + "\n"
