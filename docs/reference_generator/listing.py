"""From what is computed to lines of text: one for each result, and one for what is used several times and long.

Lines are meant one after the other: in ``sum = sum + gradient * gradient``, ``sum`` is the old one on the right and the new one
below. Where something later still needs the old one, the new one gets a name of its own first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reference_generator.text import ATOM, Term, value_text
from wyrm.frontend.lowering.value import Value

__all__ = ["listing"]


@dataclass(eq=False)
class _Line:
    """A value that gets a name; ``final`` where it is that of a result."""

    value: Value
    final: str
    text: str = ""
    names: list[str] = field(default_factory=list)  # that the right side reads, in order
    values: list[Value] = field(default_factory=list)  # with a line of their own, likewise


def _behind(results: Sequence[Value]) -> list[Value]:
    """The results and all that they are computed from, operands first."""
    order: dict[Value, None] = {}

    def visit(value: Value) -> None:
        if value not in order:
            for operand in value.operands:
                visit(operand)
            order[value] = None

    for result in results:
        visit(result)
    return list(order)


class _Lister:
    def __init__(self, results: Sequence[tuple[str, Value]], names: Mapping[Value, str], longest: int) -> None:
        self.names = names
        #: What may be overwritten.
        self.changing = {name for name, _ in results} | {"gradient"}
        self.order = _behind([value for _, value in results])
        self.uses = Counter(operand for value in self.order for operand in value.operands)
        self.lines: dict[Value, _Line] = {}
        self.terms: dict[Value, Term] = {}
        finals = {value: name for name, value in reversed(results) if value not in names}
        for value in self.order:
            if value in names:
                self.terms[value] = Term(names[value])
                continue
            term = value_text(value, [self.terms[o] for o in value.operands])
            several = self.uses[value] > 1 and len(re.sub(r"<\d+>", "name", term.text)) > longest
            if value in finals or (several and value.kernel):
                line = self.lines[value] = _Line(value, finals.get(value, ""), term.text)
                self._reads(value, line)
                term = Term(f"<{len(self.lines) - 1}>", ATOM)
            self.terms[value] = term
        self.numbers = {value: f"<{n}>" for n, value in enumerate(self.lines)}

    def _reads(self, value: Value, line: _Line) -> None:
        for operand in value.operands:
            if operand in self.names:
                line.names.append(self.names[operand])
            elif operand in self.lines:
                line.values.append(operand)
            else:
                self._reads(operand, line)

    def scheduled(self) -> list[_Line]:
        """The lines in an order in which no name is overwritten that is still to be read."""
        last = len(self.order)
        place = {value: n for n, value in enumerate(self.order)}
        # results that nothing else reads come last, the value itself after the states
        waiting = sorted(
            self.lines.values(),
            key=lambda line: (line.final == "value", last if line.final and not self.uses[line.value] else place[line.value]),
        )
        done: list[_Line] = []
        behind: list[_Line] = []
        while waiting:
            ready = [line for line in waiting if not any(self.lines[v] in waiting for v in line.values)]
            free = [line for line in ready if not any(line.final in o.names for o in waiting if o is not line)]
            if not free:  # the result gets a name of its own for now
                kept = ready[0]
                behind.append(_Line(kept.value, kept.final, self.numbers[kept.value], values=[kept.value]))
                kept.final, free = "", [kept]
            done.append(free[0])
            waiting.remove(free[0])
        return done + behind

    def _again(self, line: _Line, later: list[_Line]) -> str:
        """The first name that a line reads and that may be given to its result, since nobody reads it any more."""
        name = next((name for name in line.names if name in self.changing), "")
        if any(name in other.names for other in later):
            return ""
        ends = [n for n, other in enumerate(later) if other.final == name]
        after = later[ends[0] + 1 :] if ends else []
        return "" if any(line.value in other.values for other in after) else name

    def listed(self) -> list[tuple[str, str]]:
        lines = self.scheduled()
        called: dict[str, str] = {}
        texts, count = [], 0
        for n, line in enumerate(lines):
            number = self.numbers[line.value]
            name = line.final
            if not name:
                name = self._again(line, lines[n + 1 :])
                if not name:
                    count += 1
                    name = f"t{count}"
            text = re.sub(r"<\d+>", lambda match: called[match[0]], line.text)
            called[number] = name
            texts.append((name, text))
        return texts


def listing(results: Sequence[tuple[str, Value]], names: Mapping[Value, str], longest: int) -> list[tuple[str, str]]:
    """The lines that compute results, as pairs of a name and what it is set to.

    Parameters
    ----------
    results
        By name, in order; one that is what it was already has no line.
    names
        Of what is given.
    longest
        What is used several times has a line of its own where its text is longer.
    """
    lines = _Lister(results, names, longest).listed()
    given = [(name, names[value]) for name, value in results if value in names and names[value] != name]
    return lines + given
