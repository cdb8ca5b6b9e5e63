"""From values with slots to instructions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wyrm.frontend.lowering.layout import Layout, part
from wyrm.frontend.lowering.value import Value
from wyrm.program import Instruction, Slot

__all__ = ["EFFECTS", "instructions", "live"]

#: Kernels that act on what belongs to a parameter, for which accumulating has no meaning of its own.
EFFECTS = frozenset(
    {
        "accumulate_rows",
        "accumulate_bag",
        "update",
        "update_rows",
        "update_gradient",
        "merge_gradient",
        "tick",
    }
)


def live(values: Sequence[Value], needed: Iterable[Value]) -> set[Value]:
    """The values on which the needed ones depend, themselves included."""
    found = {value.viewed or value for value in needed}
    for value in reversed(values):
        if value in found:
            for operand in value.operands:
                found.add(operand.viewed or operand)
            if value.onto is not None:
                found.add(value.onto)
    return found


def instructions(layout: Layout, values: Iterable[Value]) -> tuple[Instruction, ...]:
    """The instructions that compute values, in order; those of a draw's body inside the draw."""
    result: list[Instruction] = []
    repeated: set[Value] = set()
    for value in values:
        if value in repeated:
            continue
        if value.kernel == "fused":
            stored, *slots = [layout[v] for v in (*value.attributes["results"], *value.operands)]
            result.append(Instruction("fused", stored, tuple(slots), (("chain", value.attributes["chain"]),)))
            continue
        out: Slot = layout[value]
        operands = tuple([layout[operand] for operand in value.operands])
        accumulate = value.onto is not None and value.kernel not in EFFECTS
        if value.kernel == "blocks":
            for operand, (row, col) in zip(operands, value.attributes["places"], strict=True):
                place = part(out, row, col, operand.shape)
                if place != operand:  # else it has been computed there
                    result.append(Instruction("copy", place, (operand,), (), accumulate))
        elif value.kernel == "pad":
            inside = part(out, value.attributes["row"], value.attributes["col"], operands[0].shape)
            if not accumulate:
                result.append(Instruction("copy", out, operands[1:]))
            result.append(Instruction("copy", inside, operands[:1], (), accumulate))
        else:
            repeated.update(value.body)
            body = instructions(layout, value.body) if value.body else ()
            attributes = tuple(value.attributes.items()) if value.attributes else ()
            result.append(Instruction(value.kernel, out, operands, attributes, accumulate, body))
    return tuple(result)
