"""Differentiation: one loop over a trace, backwards.

For each record whose gradient is known in full, the VJPs of its op give each operand's share. Shares are summed over broadcast
axes here, and several uses of one operand add up here, for all ops at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.trace import Record
from wyrm.frontend.lowering.value import Value
from wyrm.frontend.op import Op

__all__ = ["differentiate"]


def differentiate(
    k: Emitter, records: Sequence[Record], values: Sequence[Value], root: int, seed: Value
) -> dict[int, list[Value]]:
    """Record the backward pass of ``root``.

    Parameters
    ----------
    k
        Records the calls.
    records, values
        The trace and the value of each of its records.
    root
        The record whose gradient is ``seed``, of one element, for every element.

    Returns
    -------
    dict
        For each leaf that needs a gradient and has one, the contributions to it, yet to be summed: values of its shape.
    """
    parts: dict[int, list[Value]] = {root: [k.reduce(seed, records[root].shape)]}
    parts[root][0].uses += 1
    leaves: dict[int, list[Value]] = {}
    for number in range(root, -1, -1):
        record = records[number]
        if number not in parts or not record.needs_gradient:
            continue
        if not isinstance(record.op, Op):
            leaves[number] = parts.pop(number)
            continue
        g = k.total(parts.pop(number))
        operands = [values[n] for n in record.operands]
        attributes = dict(record.attributes)
        for operand, vjp in zip(record.operands, record.op.vjps_of(len(operands)), strict=True):
            if vjp is not None and records[operand].needs_gradient:
                part = vjp(k, g, values[number], *operands, **attributes)
                if part.shape != records[operand].shape:
                    part = k.reduce(part, records[operand].shape)
                part.uses += 1
                parts.setdefault(operand, []).append(part)
    return leaves
