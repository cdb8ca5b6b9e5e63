"""Products of which only a part is read: computed for that part.

Where rows or columns were put together for one product, such as a hidden state and an input, and only one of them needs a
gradient, the product that is the gradient of both comes to that of the one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.value import Value

__all__ = ["narrow"]


def narrow(k: Emitter, calls: Sequence[Value], read: Iterable[Value]) -> None:
    """Let products among the calls, nothing of which is needed but slices, compute what the slices lie in.

    Parameters
    ----------
    k
        Makes slices of the products' operands.
    calls
        What is computed.
    read
        The values that are read after it.
    """
    slices: dict[Value, dict[Value, None] | None] = {v: {} for v in calls if v.kernel == "matmul" and v.onto is None}
    for operand in (*read, *(o for call in calls for o in (*call.operands, *([call.onto] if call.onto else [])))):
        base = operand.viewed or operand
        if slices.get(base) is None:
            continue
        while operand is not base and operand.operands[0] is not base:
            operand = operand.operands[0]
        found = slices[base]
        if operand.kernel == "slice" and found is not None:
            found[operand] = None
        else:
            slices[base] = None
    for product, parts in slices.items():
        if parts:
            _compute_part(k, product, list(parts))


def _compute_part(k: Emitter, product: Value, parts: Sequence[Value]) -> None:
    """Let a product compute only what some slices of it lie in."""
    rows, cols = (_range(parts, axis) for axis in (0, 1))
    shape = rows[1] - rows[0], cols[1] - cols[0]
    if shape == product.shape:
        return
    a, b = product.operands
    a = _slice(k, a, rows, across=product.attributes["transpose_a"])
    b = _slice(k, b, cols, across=not product.attributes["transpose_b"])
    product.operands, product.shape = (a, b), shape
    for part in parts:
        part.attributes["row"] -= rows[0]
        part.attributes["col"] -= cols[0]


def _range(parts: Sequence[Value], axis: int) -> tuple[int, int]:
    begins = [part.attributes[("row", "col")[axis]] for part in parts]
    return min(begins), max(begin + part.shape[axis] for begin, part in zip(begins, parts, strict=True))


def _slice(k: Emitter, a: Value, which: tuple[int, int], across: bool) -> Value:
    """Some rows of a matrix, or ``across``, some columns."""
    return k.slice(a, (0, a.shape[0]), which) if across else k.slice(a, which, (0, a.shape[1]))
