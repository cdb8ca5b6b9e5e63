"""From kernel calls to infix text: what the emitter has recorded, as a reader would write it down.

Formulas are recorded by the emitter that programs are made with, so what is printed is what is run. Parentheses stand only
where they are needed; lengths stand as letters, for which unlikely numbers stand in while a formula is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from wyrm.frontend.lowering.value import Value
from wyrm.program import Shape

__all__ = ["ATOM", "LENGTHS", "Term", "call_text", "length", "row", "shape_text", "value_text"]

COMPARISON, SUM, PRODUCT, POWER, ATOM = range(5)

#: Lengths of examples, by letter; p * q is m * n. Their sums, differences and products differ from one another.
LENGTHS: dict[str, int] = {
    "m": 107 * 109,
    "n": 113 * 127,
    "k": 20011,
    "p": 107 * 113,
    "q": 109 * 127,
    "i": 1409,
    "j": 3001,
    "r": 601,
    "s": 7001,
}


#: Up to how many times a length is told by its letter.
_MULTIPLES = 16


class Term(NamedTuple):
    """Text, and how tightly its outermost operator binds."""

    text: str
    level: int = ATOM

    def at(self, level: int) -> str:
        """The text where something that binds at least so tightly is needed."""
        return self.text if self.level >= level else f"({self.text})"


def length(number: float) -> Term:
    """A number, by the letters of lengths where it was made of them."""
    if not float(number).is_integer() or abs(number) <= _MULTIPLES:
        return Term(f"{number:.12g}", ATOM if number >= 0 else SUM)
    number = int(number)
    names = LENGTHS.items()
    for name, value in names:
        if number % value == 0 and 0 < number // value <= _MULTIPLES:
            return Term(name) if number == value else Term(f"{number // value} * {name}", PRODUCT)
    for first, a in names:
        for second, b in names:
            if number == a * b:
                return Term(f"{first} * {second}", PRODUCT)
            if number == a + b:
                return Term(f"{first} + {second}", SUM)
            if number == a - b:
                return Term(f"{first} - {second}", SUM)
    return Term(str(number)) if number >= 0 else Term(str(number), SUM)


def shape_text(shape: Shape) -> str:
    """A shape, in letters."""
    return f"({length(shape[0]).text}, {length(shape[1]).text})"


def _range(first: int, last: int, whole: int) -> str:
    return f"{length(first).text if first else ''}:{length(last).text if last != whole else ''}"


def _signed(term: Term, level: int) -> str:
    """The text to the right of an operator, where a leading minus needs parentheses."""
    return f"({term.text})" if term.text.startswith("-") else term.at(level)


def _blocks(value: Value, terms: list[Term]) -> Term:
    below = all(col == 0 for _, col in value.attributes["places"])
    parts = [f"[{t.text}]" for t in terms] if below else [t.text for t in terms]
    return Term(f"block([{', '.join(parts)}])")


def _pad(value: Value, terms: list[Term]) -> Term:
    (rows, cols), inner = value.shape, value.operands[0].shape
    row, col = value.attributes["row"], value.attributes["col"]
    around = [(row, rows - row - inner[0]), (col, cols - col - inner[1])]
    if not any(n for pair in around for n in pair):
        return terms[0]
    return Term(f"pad({terms[0].text}, ({', '.join(shape_text(pair) for pair in around)}))")


def _slice(value: Value, terms: list[Term]) -> Term:
    row, col = value.attributes["row"], value.attributes["col"]
    rows, cols = value.operands[0].shape
    ranges = _range(row, row + value.shape[0], rows), _range(col, col + value.shape[1], cols)
    return Term(f"{terms[0].at(ATOM)}[{', '.join(ranges)}]")


def _sum(value: Value, terms: list[Term]) -> Term:
    before, after = value.operands[0].shape, value.shape
    axes = [axis for axis in (0, 1) if after[axis] == 1 and before[axis] != 1]
    return Term(f"sum({terms[0].text})" if len(axes) != 1 else f"sum({terms[0].text}, axis={axes[0]})")


def _matmul(value: Value, terms: list[Term]) -> Term:
    left, right = (t.at(ATOM) if value.attributes.get(f"transpose_{x}") else t for t, x in zip(terms, "ab", strict=True))
    left = f"{left}.T" if isinstance(left, str) else left.at(PRODUCT)
    right = f"{right}.T" if isinstance(right, str) else _signed(right, POWER)
    return Term(f"{left} @ {right}", PRODUCT)


def call_text(name: str, terms: list[Term], attributes: Mapping[str, Any]) -> Term:
    """A call, with those attributes that are set."""
    written = {key: length(value).text if type(value) is int else value for key, value in attributes.items()}
    options = [f"{key}={value}" for key, value in written.items() if value is not False and value is not None]
    return Term(f"{name}({', '.join([t.text for t in terms] + options)})")


def _rows(value: Value, terms: list[Term]) -> Term:
    return call_text("rows", terms, {k: v for k, v in value.attributes.items() if k not in ("scatter", "accumulate")})


#: Kernels with a text of their own; the others are written as calls.
_TEXTS: dict[str, Callable[[Value, list[Term]], Term]] = {
    "add": lambda v, t: Term(f"{t[0].at(SUM)} + {_signed(t[1], SUM)}", SUM),
    "subtract": lambda v, t: Term(f"{t[0].at(SUM)} - {_signed(t[1], PRODUCT)}", SUM),
    "multiply": lambda v, t: Term(f"{t[0].at(PRODUCT)} * {_signed(t[1], PRODUCT)}", PRODUCT),
    "divide": lambda v, t: Term(f"{t[0].at(PRODUCT)} / {_signed(t[1], POWER)}", PRODUCT),
    "power": lambda v, t: Term(f"{t[0].at(ATOM)} ** {_signed(t[1], POWER)}", POWER),
    "negate": lambda v, t: Term(f"-{_signed(t[0], PRODUCT)}", SUM),
    "greater": lambda v, t: Term(f"{t[0].at(SUM)} > {t[1].at(SUM)}", COMPARISON),
    "absolute": lambda v, t: Term(f"abs({t[0].text})"),
    "select": lambda v, t: Term(f"where({', '.join(term.text for term in t)})"),
    "copy": lambda v, t: Term(f"broadcast_to({t[0].text}, {shape_text(v.shape)})"),
    "sum": _sum,
    "transpose": lambda v, t: Term(f"{t[0].at(ATOM)}.T"),
    "view": lambda v, t: t[0] if v.shape == v.operands[0].shape else Term(f"reshape({t[0].text}, {shape_text(v.shape)})"),
    "slice": _slice,
    "blocks": _blocks,
    "pad": _pad,
    "matmul": _matmul,
    "gather": lambda v, t: Term(f"{t[0].at(ATOM)}[{t[1].text}]"),
    "rows": _rows,
}


def value_text(value: Value, operands: list[Term]) -> Term:
    """What one kernel computes of its operands' texts."""
    if value.place[:1] == ("literal",):
        return length(value.place[1])
    if value.place[:1] == ("rank",):
        return Term("rank")
    if value.kernel in _TEXTS:
        return _TEXTS[value.kernel](value, operands)
    return call_text(value.kernel, operands, value.attributes)


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
