"""Calls in another form that costs less: products of numbers before products with matrices, products added in place.

The sums are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wyrm.frontend.lowering.value import Value

__all__ = ["rewritten"]


def rewritten(values: Sequence[Value], needed: Collection[Value]) -> list[Value]:
    """The calls, some of them in another form; ``needed`` are the values that are read after them."""
    uses: dict[Value, int] = {}
    for value in values:
        for operand in value.read:
            uses[operand] = uses.get(operand, 0) + 1
    single = {v for v in values if uses.get(v) == 1 and v not in needed and v.onto is None and not v.place}
    result: list[Value] = []
    factors: dict[tuple[Value, Value], Value] = {}
    minus: dict[Value, Value] = {}
    for value in values:
        if value.kernel == "subtract":
            result += _product_in_place(value, single, minus)
        elif value.kernel == "multiply":
            result += _numbers_first(value, single, factors)
        result.append(value)
    used: set[Value] = set()
    kept = []
    for value in reversed(result):
        if value in used or value not in single:
            used.update(value.read)
            kept.append(value)
    return kept[::-1]


def _is_number(value: Value) -> bool:
    return value.shape == (1, 1)


def _is_kept(value: Value) -> bool:
    """Whether a value is, or views, what belongs to a parameter."""
    value = value.viewed or value
    return value.place[:1] in (("value",), ("state",), ("row",))


def _numbers_first(value: Value, single: Collection[Value], factors: dict[tuple[Value, Value], Value]) -> list[Value]:
    """Make ``s * (t * matrix)`` ``(s * t) * matrix``; returns the call of s * t, if it is new."""
    if _is_number(value) or sum(map(_is_number, value.operands)) != 1:
        return []
    number, product = value.operands if _is_number(value.operands[0]) else reversed(value.operands)
    if product.kernel != "multiply" or product not in single or sum(map(_is_number, product.operands)) != 1:
        return []
    inner, matrix = product.operands if _is_number(product.operands[0]) else reversed(product.operands)
    if product.shape != value.shape:
        return []
    new = (number, inner) not in factors
    factor = factors.setdefault((number, inner), Value("multiply", (number, inner), shape=(1, 1)))
    value.operands = (factor, matrix)
    return [factor] if new else []


def _product_in_place(value: Value, single: Collection[Value], negated: dict[Value, Value]) -> list[Value]:
    """Make ``w = w - s * (a @ b)`` ``w += (-s * a) @ b``, the smaller of the two scaled; returns the calls before it."""
    if not value.place or value.operands[0].place != value.place or value.operands[1] not in single:
        return []
    target, product = value.operands
    if product.kernel != "multiply" or not _is_number(product.operands[0]) or product.operands[1] not in single:
        return []
    number, matrices = product.operands
    if matrices.kernel != "matmul" or matrices.shape != value.shape or any(map(_is_kept, matrices.operands)):
        return []  # what belongs to a parameter may have been changed when the product is added
    new = number not in negated
    minus = negated.setdefault(number, Value("negate", (number,), shape=(1, 1)))
    sizes = [rows * cols for rows, cols in (operand.shape for operand in matrices.operands)]
    smaller = sizes.index(min(sizes))
    scaled = Value("multiply", (minus, matrices.operands[smaller]), shape=matrices.operands[smaller].shape)
    value.operands = (scaled, matrices.operands[1]) if smaller == 0 else (matrices.operands[0], scaled)
    value.kernel, value.attributes, value.onto = "matmul", matrices.attributes, target
    return [minus, scaled] if new else [scaled]
