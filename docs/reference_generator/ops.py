"""The section on ops: formulas and derivatives, recorded and printed; shapes, broadcasting, and who has kernels for them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from reference_generator.examples import Example, examples_of
from reference_generator.forms import module_of, operand_names, written
from reference_generator.kernels import Declared, kernels_used
from reference_generator.listing import listing
from reference_generator.text import row, shape_text
from wyrm.frontend import ops
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.value import Value
from wyrm.frontend.op import OPS, Op
from wyrm.kernels import KERNELS
from wyrm.program import Shape

__all__ = ["Formulas", "broadcasts", "families", "formulas", "ops_section", "recorded"]

OPTIONAL = frozenset(name for name, kernel in KERNELS.items() if kernel.optional)
#: What is used several times and longer than this gets a name.
LONGEST = 40

INTRODUCTION = """\
`y` is an op's result, `g` the gradient of `y`. Functions in formulas are [kernels](#kernels), by their names there, or NumPy's.
Beyond these:

* `a > b` is 1 where it holds and 0 elsewhere; `where(c, a, b)` is `a` where `c` is not 0; `axis=1` sums each row; summed axes
  keep length 1.
* Gradients are given before broadcasting is undone: what is wider than the operand is summed, what is narrower is repeated.
* `rows(index, g)` is a row-sparse gradient: 0 but for the rows that `index` names, where it is what `g` has for them.
* "none": no gradient flows to that operand.
"""


class Formulas(NamedTuple):
    """What is printed of an op, for one example."""

    example: Example
    names: list[str]
    value: str
    gradients: list[str]
    result: Shape


def formulas(op: Op, example: Example) -> Formulas:
    """Record an op's passes, for a backend that has every kernel, and write them down."""
    names = operand_names(op, len(example.shapes))
    operands = [Value("", shape=shape) for shape in example.shapes]
    called = dict(zip(operands, names, strict=True))
    result = op.forward(Emitter(OPTIONAL), *operands, **example.attributes)
    g, y = Value("", shape=result.shape), Value("", (), result.attributes, result.shape)
    gradients = []
    for vjp in op.vjps_of(len(operands)):
        if vjp is None:
            gradients.append("none")
        else:
            gradient = vjp(Emitter(OPTIONAL), g, y, *operands, **example.attributes)
            gradients.append(_line(gradient, {**called, g: "g", y: "y"}))
    shape = op.shape(*example.shapes, **example.attributes)
    return Formulas(example, names, _line(result, called), gradients, shape)


def recorded() -> dict[str, Value]:
    """A call of each kernel that some op's forward pass or VJP makes, by the kernel's name."""
    calls: dict[str, Value] = {}
    for op in OPS.values():
        for example in examples_of(op):
            k = Emitter(OPTIONAL)
            operands = [Value("", shape=shape) for shape in example.shapes]
            y = op.forward(k, *operands, **example.attributes)
            g = Value("", shape=y.shape)
            for vjp in op.vjps_of(len(operands)):
                if vjp is not None:
                    vjp(k, g, y, *operands, **example.attributes)
            for value in k.values:
                calls.setdefault(value.kernel, value)
    return calls


def _line(value: Value, names: dict[Value, str]) -> str:
    *before, (_, text) = listing([("", value)], names, LONGEST) or [("", names.get(value, ""))]
    return "; ".join([*(f"{name} = {what}" for name, what in before), text])


def broadcasts(op: Op) -> bool | None:
    """Whether an op's operands broadcast; ``None`` where it has but one. Found out by its shape rule."""
    count = len(op.vjps)
    if count < 2:
        return None if not op.variadic else False
    (example, *_) = examples_of(op)

    def result(shapes: Sequence[Shape]) -> Shape | None:
        try:
            return op.shape(*shapes, **example.attributes)
        except ValueError:
            return None

    whole: list[Shape] = [(3, 4)] * count
    shape = result(whole)
    narrow: list[Shape] = [(1, 4), (3, 1), (1, 1)]
    replaced = [[*whole[:n], other, *whole[n + 1 :]] for n in range(count) for other in narrow]
    return shape is not None and all(result(r) == shape for r in replaced) and result([(1, 4)] * count) != shape


def families() -> list[tuple[str, list[Op]]]:
    """The ops by the module in which they are defined, in the order in which :mod:`wyrm.frontend.ops` lists these."""
    text = inspect.getdoc(ops) or ""

    def place(op: Op) -> tuple[int, str]:
        name = module_of(op).__name__
        found = text.find(f":mod:`.{name.rsplit('.', 1)[1]}`")
        return (found if found >= 0 else len(text), name)

    ordered = sorted(OPS.values(), key=place)
    return [(name, list(group)) for name, group in groupby(ordered, lambda op: module_of(op).__name__)]


def _code(text: str) -> str:
    return "none" if text == "none" else f"`{text}`"


def _gradients(all_of: list[Formulas]) -> str:
    """The gradients of an op's operands; once where all examples agree, none at all in one word."""
    lines = []
    for n, name in enumerate(all_of[0].names):
        texts = {f.gradients[n]: f.example.label for f in reversed(all_of)}
        for text, label in reversed(texts.items()):
            said = f"`{name}`, `{label}`" if len(texts) > 1 else f"`{name}`"
            lines.append(f"{said}: {_code(text)}")
    return "none" if all(text == "none" for f in all_of for text in f.gradients) else "<br>".join(lines)


def _values(all_of: list[Formulas]) -> str:
    return "<br>".join((f"`{f.example.label}`: " if f.example.label else "") + f"`{f.value}`" for f in all_of)


def _shapes(all_of: list[Formulas]) -> str:
    texts = []
    for f in all_of:
        operands = ", ".join(map(shape_text, f.example.shapes))
        label = f"`{f.example.label}`: " if f.example.label else ""
        texts.append(f"{label}{operands} → {shape_text(f.result)}")
    return "<br>".join(texts)


def _kernels(op: Op, example: Example, backend: Declared) -> str:
    """Whether a backend has kernels of its own for all that an op's forward pass does."""
    k = Emitter(OPTIONAL)
    op.forward(k, *(Value("", shape=shape) for shape in example.shapes), **example.attributes)
    lacking = sorted({name for name in kernels_used(k.values) if KERNELS[name].optional} - backend.kernels)
    return "own" if not lacking else "expanded"


def ops_section(backends: list[Declared]) -> list[str]:
    """The section, in lines."""
    lines = ["## Ops", "", *INTRODUCTION.splitlines(), ""]
    for name, members in families():
        doc = (inspect.getdoc(inspect.getmodule(members[0].forward)) or "").splitlines()[0]
        lines += [f"### {name.rsplit('.', 1)[1].capitalize()}", "", doc, ""]
        lines += [row("op", "written", "`y`", "gradients"), row(*["---"] * 4)]
        for op in members:
            all_of = [formulas(op, example) for example in examples_of(op)]
            names = all_of[0].names
            forms = "<br>".join(f"part of `{f[8:]}`" if f.startswith("part of ") else f"`{f}`" for f in written(op, names))
            lines.append(row(f"`{op.name}`", forms, _values(all_of), _gradients(all_of)))
        lines.append("")
    return lines + _facts(backends)


def _facts(backends: list[Declared]) -> list[str]:
    lines = [
        "### Shapes, broadcasting and backends",
        "",
        'Operands broadcast as in NumPy where it says "yes". A backend computes an op by kernels of its "own", or "expanded":',
        "an optional kernel that it lacks is put together from others.",
        "",
        row("op", "shapes", "broadcasts", *(f"`{b.name}`" for b in backends)),
        row(*["---"] * (3 + len(backends))),
    ]
    for _, members in families():
        for op in members:
            examples = examples_of(op)
            said = {None: "", True: "yes", False: "no"}[broadcasts(op)]
            owned = [_kernels(op, examples[0], backend) for backend in backends]
            lines.append(row(f"`{op.name}`", _shapes([formulas(op, e) for e in examples]), said, *owned))
    return [*lines, ""]
