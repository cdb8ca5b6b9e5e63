"""How large numbers of a program can be, by what computes them: which of them cannot become NaN or infinite.

A bound is the exponent of a power of two that no element exceeds. It holds if inputs and parameters are finite and no larger
than 2 ** 60 in float32 (10 ** 18), or 2 ** 480 in float64, and if the loss is finite, which says much of what it is made of
(:mod:`.implied`). What has no bound has to be looked at when the program runs; it has one then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from math import inf, log2

from wyrm.frontend.lowering.implied import columns, implied, literal
from wyrm.frontend.lowering.value import VIEWS, Value

__all__ = ["LEAF", "Bounds", "columns", "spread", "terms"]

#: By dtype: numbers of a larger exponent overflow, and what inputs and parameters are taken to be.
_LARGEST = {"float32": 127.0, "float64": 1023.0}
LEAF = {"float32": 60.0, "float64": 480.0}
#: What :attr:`wyrm.program.Program.look` is below, or gradients are in doubt.
SMALL = {"float32": 96.0, "float64": 768.0}
#: How much the weights of a bag can come to, and what dropout multiplies with.
_BAG, _KEPT = 20.0, 24.0
_SAME = frozenset({"copy", "negate", "absolute", "transpose", "row_max", "pick", "view", "slice", "place"})
_LARGER = frozenset({"maximum", "minimum", "blocks", "pad"})
_SQUASHED = frozenset({"tanh", "sigmoid", "softmax"})
_FOUND = frozenset({"rows", *VIEWS})


class Bounds:
    """The bounds of calls.

    Parameters
    ----------
    values
        The calls, in an order in which they can be made.
    loss
        What is finite, if anything is.
    small
        Whether the loss is no larger than passes look for (:data:`SMALL`).
    large
        Whether inputs may be larger than that, or infinite.

    Attributes
    ----------
    largest
        Numbers of a larger exponent overflow.
    leaf
        The bound of inputs and parameters.
    """

    def __init__(
        self, dtype: str, values: Iterable[Value], loss: Value | None = None, large: bool = False, small: bool = False
    ) -> None:
        self.largest, self.leaf = _LARGEST[dtype], LEAF[dtype]
        self._input = inf if large else self.leaf
        self._known: dict[Value, float] = {}
        self._implied = {} if loss is None else implied(loss, self.largest + 1, SMALL[dtype] if small else None)
        #: Of a matrix of which some columns are below a bound: the first, the one behind the last, and the bound.
        self._columns: dict[Value, list[tuple[int, int, float]]] = {}
        self.add(values)

    def copy(self) -> Bounds:
        """The same bounds, to which others may be added."""
        copied = copy(self)
        copied._known, copied._columns = dict(self._known), dict(self._columns)
        return copied

    def add(self, values: Iterable[Value]) -> None:
        """Take note of further calls."""
        for value in values:
            self._known[value] = min(self._computed(value), self._implied.get(value, inf))

    def is_finite_times(self, gradient: Value, part: Value, calls: Sequence[Value]) -> bool:
        """Whether ``part``, which calls make of a gradient, would be finite if the gradient were not above 1."""
        known, self._known[gradient] = self.of(gradient), 0.0
        self.add(calls)
        finite = self.of(part) < inf
        self._known[gradient] = known
        self.add(calls)
        return finite

    def limit(self, value: Value, bound: float) -> None:
        """Take note that a value, and so what it was put together of, is below a bound."""
        self._known[value] = min(bound, self.of(value))
        base, begin = columns(value)
        waiting = [(base, begin, begin + value.shape[1])] if value.shape[0] == base.shape[0] else []
        while waiting:
            base, begin, end = waiting.pop()
            if end - begin == base.shape[1]:
                self._known[base] = min(bound, self.of(base))
            self._columns[base] = [*self._columns.get(base, ()), (begin, end, bound)]
            if base.kernel != "blocks" or base.onto is not None:
                continue
            for part, (_, col) in zip(base.operands, base.attributes["places"], strict=True):
                first, last = max(begin - col, 0), min(end - col, part.shape[1])
                inside, shift = columns(part)
                if first < last and part.shape[0] == inside.shape[0]:
                    waiting.append((inside, first + shift, last + shift))

    def again(self, value: Value, depth: int = 4) -> float:
        """As :meth:`of`, with what :meth:`limit` says of what it is made of, as far as a few calls."""
        known = self.of(value)
        if depth and self._columns and value.kernel:
            for operand in value.operands:
                self.again(operand, depth - 1)
            own = self._found(value) if value.kernel in _FOUND else self._computed(value)
            self._known[value] = known = min(known, own)
        return known

    def of(self, value: Value) -> float:
        """The exponent; infinity: nothing is known."""
        if value not in self._known:
            self._known[value] = min(self._found(value), self._implied.get(value, inf))
        return self._known[value]

    def _found(self, value: Value) -> float:
        if value.kernel == "slice":
            base, begin = columns(value)
            end = begin + value.shape[1]
            bounds = [bound for first, last, bound in self._columns.get(base, ()) if first <= begin and end <= last]
            if base.kernel == "lstm_cell" and base.onto is None and (self.of(base) < inf or value in self._implied):
                width = base.operands[1].shape[1]
                if end <= width or begin >= 2 * width:  # all but the memory are gates, and what they let through
                    bounds.append(0.0)
            return min([self.of(value.operands[0]), *bounds])
        if value.kernel == "view":
            return self.of(value.operands[0])
        if value.kernel == "rows":
            return self.of(value.operands[1]) + spread(value)
        if value.kernel:
            return inf
        kind = value.place[0]
        if kind == "literal":
            number = abs(value.place[1])
            return log2(number) if 0 < number < inf else -inf if number == 0 else inf
        return {"input": self._input, "value": self.leaf, "row": self.leaf, "rank": 40.0, "seed": 0.0}.get(kind, inf)

    def _computed(self, value: Value) -> float:
        own = self._own(value)
        return own if value.onto is None else max(own, self.of(value.onto)) + 1

    def _own(self, value: Value) -> float:
        kernel, operands = value.kernel, value.operands
        if kernel == "dropout_mask":
            return _KEPT
        if kernel == "greater":
            return 0.0
        if kernel in ("gather", "lookup", "gather_bag"):
            return self.of(operands[0]) + (_BAG if kernel == "gather_bag" else 0)
        if kernel in ("current", "current_rows", "current_bag"):
            return self.leaf + (_BAG if kernel == "current_bag" else 0)
        if kernel in ("scatter", "scatter_bag"):
            return self.of(operands[1]) + spread(value)
        if kernel == "place":
            return self.of(operands[1])
        bounds = [self.of(operand) for operand in operands]
        if kernel in _SAME:
            return bounds[0]
        if kernel == "select":
            return max(bounds[1:])
        if kernel in _SQUASHED and self._is_number(value, *(operands if kernel != "softmax" else ())):
            return 0.0
        if kernel == "exp" and _is_logarithm_of_share(operands[0]):
            whole = operands[0].operands[1]
            if bounds[0] < inf or self._implied.get(whole, inf) < inf:
                return 0.0
        if kernel == "lstm_cell" and self._is_number(operands[0]):
            return max(bounds[1], 0.0) + 1
        if inf in bounds:  # which may be NaN
            return inf
        if kernel in _LARGER:
            return max(bounds)
        if kernel == "add" and is_mean_of(value):
            return max(bounds[0], self.of(value.operands[1].operands[1].operands[0]))
        if kernel in ("add", "subtract"):
            return max(bounds) + 1
        if kernel == "multiply":
            return self._limited(sum(bounds))
        if kernel == "divide":
            number = literal(operands[1])
            return self._limited(bounds[0] - log2(abs(number))) if number else inf
        if kernel in ("matmul", "row_dot"):
            return self._limited(sum(bounds) + log2(terms(value)))
        if kernel == "sum":
            return self._limited(bounds[0] + log2(terms(value)))
        if kernel in _SQUASHED:
            return 0.0
        if kernel in ("softplus", "logsumexp"):
            return max(bounds[0], log2(1 + log2(1 + operands[0].shape[1]))) + 1
        if kernel == "exp":
            return self._limited(1.5 * 2 ** bounds[0]) if bounds[0] < 10 else inf
        if kernel == "log":
            return 7.0 if operands[0].place[:1] == ("rank",) else inf
        if kernel == "lstm_cell":
            return max(bounds[1], 0.0) + 1
        if kernel == "lstm_cell_vjp":
            return self._limited(max(bounds[:2]) + 1 + max(bounds[3], 0.0))
        return inf

    def _is_number(self, *values: Value) -> bool:
        """Whether one of the values cannot be NaN if the loss is finite, as it would be NaN, too."""
        return any(value in self._implied for value in values)

    def _limited(self, bound: float) -> float:
        return bound if bound < self.largest else inf


def terms(value: Value) -> int:
    """How many numbers each element of a sum or product is the sum of."""
    a = value.operands[0].shape
    if value.kernel == "matmul":
        return max(1, a[0] if value.attributes.get("transpose_a") else a[1])
    if value.kernel == "row_dot":
        return max(1, *(operand.shape[1] for operand in value.operands))
    return max(1, a[0] * a[1] // max(1, value.shape[0] * value.shape[1]))


def spread(value: Value) -> float:
    """By how much rows can add up where indices say the same row."""
    index = value.operands[0]
    return _BAG if index.place[:1] == ("bag",) else log2(max(1, index.shape[0]))


def _is_logarithm_of_share(value: Value) -> bool:
    """Whether a value is an element less the logsumexp of its row, which is not above 0."""
    if value.kernel != "subtract" or value.onto is not None:
        return False
    whole = value.operands[1]
    return whole.kernel == "logsumexp" and whole.onto is None and whole.operands[0] is value.operands[0]


def is_mean_of(value: Value) -> bool:
    """Whether a sum is ``a + z * (b - a)``, with a sigmoid z: it lies between a and b, whatever there is of both."""
    product = value.operands[1]
    if product.kernel != "multiply" or product.onto is not None or product.operands[1].kernel != "subtract":
        return False
    share, difference = product.operands
    return columns(share)[0].kernel == "sigmoid" and difference.onto is None and difference.operands[1] is value.operands[0]
