"""Differentiation: one loop over a trace, backwards.

For each record whose gradient is known in full, the VJPs of its op give each operand's share. Shares are summed over broadcast
axes here, and several uses of one operand add up here, for all ops at once.

What was not chosen, as by ``where``, has a gradient of 0, which has to stay 0 on its way back: also through a square root
of 0, whose derivative is infinite. So behind ops that choose, a share is 0 wherever the gradient is, unless it is known to be
finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wyrm.frontend.lowering.bounds import Bounds
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.trace import Record
from wyrm.frontend.lowering.value import Value
from wyrm.frontend.op import Op

__all__ = ["Share", "differentiate"]


class Share(NamedTuple):
    """An operand's share of a gradient: the records of the result and of the operand, and the gradients of both."""

    record: int
    operand: int
    gradient: Value
    part: Value


def differentiate(
    k: Emitter,
    records: Sequence[Record],
    values: Sequence[Value],
    root: int,
    seed: Value,
    dtype: str,
    shares: list[Share] | None = None,
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
    dtype
        Of the trace.
    shares
        Filled with every share, in the order in which they are computed; all of them are kept.

    Returns
    -------
    dict
        For each leaf that needs a gradient and has one, the contributions to it, yet to be summed: values of its shape.
    """
    parts: dict[int, list[Value]] = {root: [k.reduce(seed, records[root].shape)]}
    parts[root][0].uses += 1
    leaves: dict[int, list[Value]] = {}
    masked = {n for record in records[: root + 1] if isinstance(record.op, Op) and record.op.masks for n in record.operands}
    bounds = Bounds(dtype, k.values) if masked else None
    noted = len(k.values)
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
                before = len(k.values)
                part = vjp(k, g, y, *operands, **options)
                if bounds is not None and number in masked:
                    masked.add(operand)
                    bounds.add(k.values[noted:before])
                    noted = len(k.values)
                    if op.local and not bounds.is_finite_times(g, part, k.values[before:]):
                        part = k.select(g, part, k.literal(0.0))
                if part.shape != shape:
                    part = k.reduce(part, shape)
                part.uses += 1
                if shares is not None:
                    shares.append(Share(number, operand, g, part))
                    g.uses += 1
                    part.uses += 1
                if operand in parts:
                    parts[operand].append(part)
                else:
                    parts[operand] = [part]
    return leaves
