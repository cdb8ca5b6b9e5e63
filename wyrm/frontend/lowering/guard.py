"""Gradients that are not finite end a step before it changes anything, as a loss does that is not finite.

The loss of a step becomes ``loss + (w - w)``, where w is a number that is NaN or infinite if a gradient is: so backends have
one number to look at, and nothing besides. w sums up as little as is enough. What has a bound (:mod:`.bounds`) needs no look;
of a product with something bounded, the other factor is looked at; and what was looked at has a bound from then on. So for
most small models w is empty, and a step costs what it did.

Looks are scaled, so that a number that is large, and finite, may make w infinite. So w is a suspicion: whoever trains makes
such a step by a program that looks at each gradient itself (:func:`looked_at_closely`), where w is 0 or NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from math import inf, log2

from wyrm.frontend.lowering.bounds import Bounds, columns, spread, terms
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.value import Value

__all__ = ["guarded", "looked_at", "looked_at_closely"]

_SEEN_THROUGH = frozenset({"copy", "negate", "transpose", "view"})
#: The most parts of a matrix that are looked at one by one.
_MOST_PARTS = 4
#: Which share of the largest exponent a look may be scaled by: numbers that an ordinary program has must not be suspected.
_MOST_SCALED = 0.625
#: What a look at a product costs in looks at a factor: it has to be computed, though it may be added in place otherwise.
_COMPUTED = 4
#: The exponent of how many passes may add to a gradient that is finite then, if their looks are.
_SUMS = 10.0
#: How many times as large a matrix is as parts of it that are looked at alone.
_FEW = 4


def guarded(k: Emitter, dtype: str, loss: Value, gradients: Iterable[Value], large: bool) -> Value:
    """Record the loss with a look at gradients: itself, if none needs a look.

    Parameters
    ----------
    gradients
        All contributions to the gradients of parameters, of which nothing has been added up in place yet.
    large
        Whether inputs may be so large that a product with them overflows.
    """
    return _guarded(k, Bounds(dtype, k.values, loss, large), loss, gradients)


def looked_at(k: Emitter, dtype: str, root: Value, inputs: Iterable[Value], gradients: Iterable[Value]) -> Value:
    """Record what passes look at (:attr:`wyrm.program.Program.look`): of inputs, which may be of any size, and gradients."""
    total = k.reduce(root, (1, 1))
    bounds = Bounds(dtype, k.values, total, small=True)
    return _guarded(k, bounds, total, gradients, [value for value in inputs if value.place[0] == "input"], _SUMS)


def _guarded(
    k: Emitter, bounds: Bounds, loss: Value, gradients: Iterable[Value], inputs: Sequence[Value] = (), times: float = 0.0
) -> Value:
    """Record a look at inputs, and at gradients, which stay finite if they are multiplied with a power of two."""
    found = sorted(gradients, key=lambda gradient: gradient.kernel != "matmul")  # looks at products tell most of the others
    count = sum(gradient.kernel == "matmul" for gradient in found)
    orders = [found] if count < 2 else [found, found[:count][::-1] + found[count:]]  # what follows from what is not known
    looks = min((_Looks(bounds.copy(), order, times) for order in orders), key=lambda looks: looks.size)
    return _with(k, loss, [_scaled_sum(k, value, 2.0**looks.most) for value in (*inputs, *looks.values)])


def looked_at_closely(k: Emitter, loss: Value, gradients: Iterable[Value]) -> Value:
    """Record the loss with a look at each gradient itself: not finite if, and only if, the loss or one of them is not."""
    return _with(k, loss, [_scaled_sum(k, g.operands[1] if g.kernel == "rows" else g, 0.0) for g in gradients])


def _with(k: Emitter, loss: Value, numbers: Iterable[Value]) -> Value:
    total: Value | None = None
    for number in numbers:
        total = number if total is None else k.add(total, number)
    if total is None:
        return loss
    total.uses += 1
    return k.add(loss, k.subtract(total, total))


def _scaled_sum(k: Emitter, value: Value, scale: float) -> Value:
    """The sum of the elements, each multiplied, so that it overflows if one of them does."""
    if value.shape[0] > 1 and value.kernel not in ("slice", "view"):
        value = k.reshape(value, (1, value.shape[0] * value.shape[1]))
    if value.shape[1] == 1:
        return k.reduce(k.multiply(value, k.literal(scale)), (1, 1))
    return k.reduce(k.row_dot(value, k.literal(scale)), (1, 1))


class _Looks:
    """The values that have to be looked at.

    All are multiplied with two to the power of ``most``, so that what they are part of has small bounds.
    """

    def __init__(self, bounds: Bounds, gradients: Iterable[Value], times: float) -> None:
        self.bounds = bounds
        self.values: list[Value] = []
        self.most = int(_MOST_SCALED * bounds.largest)
        for gradient in gradients:
            self._covered(gradient, times)

    @property
    def size(self) -> int:
        """How many elements are looked at."""
        return sum(map(_size, self.values))

    def _look(self, value: Value, exponent: float) -> bool:
        if exponent > self.most:
            return False  # so what it is multiplied with is looked at as a whole, which needs less
        whole, _ = columns(value)  # which lies in memory without gaps
        if value.shape[0] == whole.shape[0] and _size(whole) <= 2 * _size(value) and whole.kernel:
            value = whole
        self.values.append(value)
        self.bounds.limit(value, self.bounds.largest - self.most)
        return True

    def _covered(self, value: Value, exponent: float) -> bool:
        """See to it that a value is finite, and stays so when it is multiplied by a power of two."""
        if self.bounds.again(value) + exponent < self.bounds.largest:
            return True
        return self._covered_by_terms(value, exponent) or self._look(value, exponent)

    def _covered_by_terms(self, value: Value, exponent: float) -> bool:
        """By what was computed, and what that was added to, whose memory has the sum now: it cannot be looked at itself."""
        if value.onto is not None:
            exponent += 1
            known = self.bounds.again(value.onto) + exponent < self.bounds.largest
            if not known and not self._covered_by_terms(value.onto, exponent):
                return False
        return self._covered_by_operands(value, exponent)

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

    def _fill(self, value: Value) -> None:
        """Look at the parts of a matrix that have no bound, if they are few: as the first hidden state among many."""
        unknown = _unknown(self.bounds, value)
        if unknown and _FEW * sum(map(_size, unknown)) <= _size(value):
            for part in unknown:
                self._look(part, 0.0)

    def _covered_by_factors(self, value: Value, exponent: float) -> bool:
        """By a look at one factor, if the other has a bound; or at both; unless one at the value is less to do."""
        for factor in value.operands:
            self._fill(factor)
        least = _size(value) * (_COMPUTED if value.kernel == "matmul" else 1)
        chosen: list[tuple[Value, float]] = []
        for factor, other in (value.operands, value.operands[::-1]):
            bound = self.bounds.again(other)
            if bound < inf and exponent + max(bound, 0.0) <= self.most and _size(factor) <= least:
                least, chosen = _size(factor), [(factor, exponent + max(bound, 0.0))]
        half = (self.bounds.largest + exponent) / 2
        if not chosen and value.kernel == "matmul" and half <= self.most and sum(map(_size, value.operands)) <= least:
            chosen = [(factor, half) for factor in value.operands]
        return bool(chosen) and all(self._covered(factor, part) for factor, part in chosen)


def _unknown(bounds: Bounds, value: Value) -> list[Value]:
    """The parts of a matrix that have no bound."""
    if bounds.again(value) < inf:
        return []
    if value.kernel != "blocks" or value.onto is not None:
        return [value]
    return [part for whole in value.operands for part in _unknown(bounds, whole)]


def _size(value: Value) -> int:
    return value.shape[0] * value.shape[1]
