"""What follows from a loss that is finite for the values that it is computed from.

NaN and infinity outlive most arithmetic: if a sum, a difference, a product of numbers or of matrices is finite, so is each
operand, since infinity times 0 is NaN. A finite square has a root of at most half the exponent. Behind a function with a limit,
such as ``tanh``, the operand may be infinite, but not NaN. Nothing follows for what a choice leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, log2

from wyrm.frontend.lowering.value import Value

__all__ = ["columns", "implied", "literal"]

_SAME = frozenset({"copy", "view", "negate", "absolute", "transpose", "blocks"})
#: Finite results have finite operands; results that are not NaN have such operands.
_FINITE = frozenset({"add", "subtract", "multiply", "sum", "matmul", "row_dot", "sqrt", "log"})
#: Results that are not NaN have such operands; infinite operands may have finite results.
_NUMBERS = frozenset({"exp", "softplus", "tanh", "sigmoid", "softmax", "row_max", "logsumexp", "maximum", "minimum", "divide"})


def implied(loss: Value, finite: float, bound: float | None = None) -> dict[Value, float]:
    """The values that cannot be NaN if the loss is finite, with the exponent that none of their elements exceeds then.

    Parameters
    ----------
    finite
        The exponent that no finite number exceeds. Infinity stands for: infinite, perhaps, but not NaN.
    bound
        That of the loss, if it is known to be smaller.
    """
    found: dict[Value, float] = {}
    waiting: list[tuple[Value, float]] = [(loss, finite if bound is None else bound)]
    while waiting:
        value, bound = waiting.pop()
        if found.get(value, inf) < bound or (value in found and found[value] == bound):
            continue
        found[value] = bound
        some = finite if bound < inf else inf
        if value.onto is not None:
            waiting.append((value.onto, some))
            bound = some
        waiting += _operands(value, bound, some)
    return found


def _operands(value: Value, bound: float, some: float) -> Iterable[tuple[Value, float]]:
    """The operands of a value that is below a bound, with theirs; ``some``: what is finite, if the value is."""
    kernel, operands = value.kernel, value.operands
    if kernel in _SAME:
        return [(operand, bound) for operand in operands]
    if kernel == "multiply" and operands[0] is operands[1]:
        return [(operands[0], bound / 2)]
    if kernel == "divide" and literal(operands[1]):
        return [(operands[0], bound + log2(abs(literal(operands[1]))))]
    if kernel == "slice":
        base, begin = columns(value)
        all_goes_into_it = base.kernel == "lstm_cell" and begin == 0 and value.shape[1] <= base.operands[1].shape[1]
        return [(operand, inf) for operand in base.operands] if all_goes_into_it else ()
    if kernel == "pick":
        return _behind_pick(operands[0], some)
    if kernel in ("add", "sum") and all(map(_is_positive, operands)):
        return [(operand, bound) for operand in operands]
    if kernel in _FINITE:
        return [(operand, some) for operand in operands]
    if kernel == "divide":
        return [(operands[0], some), (operands[1], inf)]
    return [(operand, inf) for operand in operands] if kernel in _NUMBERS else ()


def _behind_pick(value: Value, some: float) -> Iterable[tuple[Value, float]]:
    """If one element of each row is finite, so are the columns of which it is a sum or difference."""
    while value.kernel in ("negate", "copy") and value.onto is None:
        value = value.operands[0]
    if value.kernel not in ("add", "subtract") or value.onto is not None:
        return ()
    return [(operand, some) for operand in value.operands if operand.shape[1] == 1]


def columns(value: Value) -> tuple[Value, int]:
    """What a value has columns of, and the first of these."""
    begin = 0
    while value.kernel == "slice":
        begin += value.attributes["col"]
        value = value.operands[0]
    return value, begin


def literal(value: Value) -> float:
    """The number that a value is in every run; 0 if it is none."""
    number: float = value.place[1] if not value.kernel and value.place[:1] == ("literal",) else 0.0
    return number


def _is_positive(value: Value) -> bool:
    """Whether no element is below 0, at first sight."""
    while value.kernel in ("view", "copy", "sum") and value.onto is None:
        value = value.operands[0]
    return value.onto is None and (
        (value.kernel == "multiply" and value.operands[0] is value.operands[1]) or value.kernel in ("absolute", "softplus")
    )
