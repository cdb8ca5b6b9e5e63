"""Update rules as code.

A rule becomes a function ``apply(value, gradient, states, row, scalars, n)`` that updates one row of n elements: the addresses
of the row's value and gradient, of the states' operands in the instruction, the row's number, and the address of the scalars.
"""

from __future__ import annotations

from wyrm.program import Rule

__all__ = ["rule_source"]

#: Registers that differ between the elements of a row, and where the elements are.
_Streams = list[tuple[int, str]]


def rule_source(rule: Rule) -> str:
    """The source of ``apply`` for a rule, in a module that defines ``ZERO``."""
    first_scalar = 2 + len(rule.states)
    first_literal = first_scalar + len(rule.scalars)
    lines = ["def apply(value, gradient, states, row, scalars, n):"]
    for s, state in enumerate(rule.states):
        lines.append(f"    s{s} = word(states, {4 * s}) + row * word(states, {4 * s + 3}) * itemsize(ZERO)")
        if state.per == "row":
            lines.append(f"    r{2 + s} = load(s{s}, 0, ZERO)")
    lines += [f"    r{first_scalar + i} = load(scalars, {i}, ZERO)" for i in range(len(rule.scalars))]
    lines += [f"    r{first_literal + i} = real({literal!r}, ZERO)" for i, literal in enumerate(rule.literals)]
    elements = [(s, f"s{s}") for s, state in enumerate(rule.states) if state.per == "element"]
    read = [(0, "value"), (1, "gradient"), *((2 + s, at) for s, at in elements)]
    written = [(rule.results[0], "value"), *((rule.results[1 + s], at) for s, at in elements)]
    if len(elements) == len(rule.states) and all(step.kernel != "row_mean" for step in rule.steps):
        lines += _by_vectors(rule, read, written)
    else:
        lines += _by_elements(rule, read, written)
    return "\n".join(lines) + "\n"


def _by_vectors(rule: Rule, read: _Streams, written: _Streams) -> list[str]:
    """The loop over a row, a vector at a time, and what is left over. A single number, such as a bias, goes without vectors."""
    differ = {register for register, _ in read} | {step.out for step in rule.steps}
    same = {register for step in rule.steps for register in step.operands} - differ
    steps = [f"r{step.out} = elements.{step.kernel}({', '.join(f'r{o}' for o in step.operands)})" for step in rule.steps]
    whole = [f"r{register} = load({at}, j, vector)" for register, at in read] + steps
    whole += [f"store({at}, j, r{register})" for register, at in written]
    part = [f"r{register} = load_part({at}, j, left, vector)" for register, at in read] + steps
    part += [f"store_part({at}, j, left, r{register})" for register, at in written]
    single = [f"r{register} = load({at}, 0, ZERO)" for register, at in read] + steps
    single += [f"store({at}, 0, r{register})" for register, at in written]
    return [
        "    if n == 1:",
        *(f"        {line}" for line in [*single, "return"]),
        "    vector = many(ZERO)",
        "    left = n % lanes(vector)",
        *(f"    r{register} = many(r{register})" for register in sorted(same)),
        "    for j in range(0, n - left, lanes(vector)):",
        *(f"        {line}" for line in whole),
        "    if left > 0:",
        "        j = n - left",
        *(f"        {line}" for line in part),
    ]


def _by_elements(rule: Rule, read: _Streams, written: _Streams) -> list[str]:
    """The loop over a row whose elements have to do with each other."""
    loop = ["    for j in range(n):", *(f"        r{register} = load({at}, j, ZERO)" for register, at in read)]
    lines = []
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
    lines += [*loop, *(f"        store({at}, j, r{register})" for register, at in written)]
    rows = [s for s, state in enumerate(rule.states) if state.per == "row"]
    if rows:
        lines.append("    if n > 0:")
        lines += [f"        store(s{s}, 0, r{rule.results[1 + s]})" for s in rows]
    return lines
