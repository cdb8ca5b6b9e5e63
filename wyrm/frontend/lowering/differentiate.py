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
        op, numbers, attributes, _, needs_gradient = records[number]
        if number not in parts or not needs_gradient:
            continue
        if not isinstance(op, Op):
            leaves[number] = parts.pop(number)
            continue
        g = k.total(parts.pop(number))
        y, operands, options = values[number], [values[n] for n in numbers], dict(attributes)
        for operand, vjp in zip(numbers, op.vjps_of(len(numbers)), strict=True):
            if vjp is None:
                continue
            shape, trained = records[operand][3:]
            if trained:
                part = vjp(k, g, y, *operands, **options)
                if part.shape != shape:
                    part = k.reduce(part, shape)
                part.uses += 1
                if operand in parts:
                    parts[operand].append(part)
                else:
                    parts[operand] = [part]
    return leaves
