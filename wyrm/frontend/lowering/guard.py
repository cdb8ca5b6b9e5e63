"""Gradients that are not finite end a step before it changes anything, as a loss does that is not finite.

The loss of a step becomes ``loss + (w - w)``, where w is a number that is NaN or infinite if a gradient is: so backends have
one number to look at, and nothing besides. w sums up as little as is enough. What has a bound (:mod:`.bounds`) needs no look;
of a product with something bounded, the other factor is looked at; so for most small models w is empty, and a step
costs what it did.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import inf, log2

from wyrm.frontend.lowering.bounds import Bounds, columns, spread, terms
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.value import Value

__all__ = ["guarded"]

_SEEN_THROUGH = frozenset({"copy", "negate", "transpose", "view"})
#: The most parts of a matrix that are looked at one by one, and how much larger than a product a factor may be.
_MOST_PARTS, _TIMES = 4, 8
#: Which share of the largest exponent a look may be scaled by: numbers that an ordinary program has must not overflow by it.
_MOST_SCALED = 0.625


def guarded(k: Emitter, dtype: str, loss: Value, gradients: Iterable[Value], large: bool) -> Value:
    """Record the loss with a look at gradients: itself, if none needs a look.

    Parameters
    ----------
    gradients
        All contributions to the gradients of parameters, of which nothing has been added up in place yet.
    large
        Whether inputs may be so large that a product with them overflows.
    """
    looks = _Looks(Bounds(dtype, k.values, loss, large))
    for gradient in gradients:
        looks.add(gradient)
    total: Value | None = None
    for value, exponent in looks.distinct():
        number = k.reduce(value, (1, 1)) if not exponent else _scaled_sum(k, value, 2.0**exponent)
        total = number if total is None else k.add(total, number)
    if total is None:
        return loss
    total.uses += 1
    return k.add(loss, k.subtract(total, total))


def _scaled_sum(k: Emitter, value: Value, scale: float) -> Value:
    """The sum of the elements, each multiplied, so that it overflows where one of them does."""
    if value.shape[1] == 1:
        return k.reduce(k.multiply(value, k.literal(scale)), (1, 1))
    return k.reduce(k.row_dot(value, k.literal(scale)), (1, 1))


class _Looks:
    """What has to be looked at: values, each with the exponent of what it is multiplied with and must not overflow then."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.values: dict[Value, int] = {}

    def add(self, gradient: Value) -> None:
        """Look at a gradient."""
        if not self._covered(gradient, 0.0):
            self._look(gradient, 0.0)

    def distinct(self) -> list[tuple[Value, int]]:
        """The looks, without those at rows of matrices that are looked at as a whole."""
        wholes: dict[tuple[Value, int, int], Value] = {}
        for value in self.values:
            base, begin = columns(value)
            if base.kernel == "blocks" and value.shape[0] == base.shape[0]:
                wholes |= {(part.viewed or part, begin, value.shape[1]): value for part in base.operands}
        looks: dict[Value, int] = {}
        for value, exponent in self.values.items():
            base, begin = columns(value)
            whole = wholes.get((base, begin, value.shape[1]), value)
            looks[whole] = max(exponent, looks.get(whole, 0))
        return list(looks.items())

    def _look(self, value: Value, exponent: float) -> bool:
        if exponent > _MOST_SCALED * self.bounds.largest:
            return False  # so what it is multiplied with is looked at as a whole, which needs less
        self.values[value] = max(self.values.get(value, 0), int(exponent) + (exponent > int(exponent)))
        return True

    def _covered(self, value: Value, exponent: float) -> bool:
        """See to it that a value is finite, and stays so when it is multiplied by a power of two."""
        if self.bounds.of(value) + exponent < self.bounds.largest:
            return True
        return (value.onto is None and self._covered_by_operands(value, exponent)) or self._look(value, exponent)

    def _covered_by_operands(self, value: Value, exponent: float) -> bool:
        kernel, operands = value.kernel, value.operands
        if kernel in _SEEN_THROUGH or (kernel == "slice" and operands[0].kernel == "matmul"):
            return self._covered(operands[0], exponent)
        if kernel == "rows":
            return self._covered(operands[1], exponent + spread(value))
        if kernel == "blocks" and len(operands) <= _MOST_PARTS:
            return all(map(partial(self._covered, exponent=exponent), operands))
        if kernel == "sum":
            return value.shape == operands[0].shape and self._covered(operands[0], exponent + log2(terms(value)))
        if kernel in ("multiply", "matmul"):
            return self._covered_by_factors(value, exponent + (log2(terms(value)) if kernel == "matmul" else 0))
        return False

    def _covered_by_factors(self, value: Value, exponent: float) -> bool:
        for factor, other in (value.operands, value.operands[::-1]):
            bound = self.bounds.of(other)
            if bound < inf and _size(factor) <= _TIMES * _size(value):
                return self._covered(factor, exponent + max(bound, 0.0))
        if value.kernel == "multiply":
            return False
        half = (self.bounds.largest + exponent) / 2
        return all(map(partial(self._covered, exponent=half), value.operands))


def _size(value: Value) -> int:
    return value.shape[0] * value.shape[1]
