"""The expansions of optional kernels: their meaning in other kernels, written against the frontend's emitter."""

from __future__ import annotations

from typing import Any

__all__ = ["expand_logsumexp", "expand_lstm_cell", "expand_lstm_cell_vjp", "expand_softmax", "never_expanded"]


def expand_logsumexp(k: Any, a: Any) -> Any:
    """Of each row."""
    largest = k.row_max(a)
    # of an infinite or NaN element nothing is subtracted: their difference with themselves would be NaN
    shift = k.select(k.greater(k.literal(1.0), k.subtract(largest, largest)), largest, k.literal(0.0))
    return k.add(shift, k.log(k.sum(k.exp(k.subtract(a, shift)), axis=1)))


def expand_softmax(k: Any, a: Any) -> Any:
    """Of each row."""
    e = k.exp(k.subtract(a, k.row_max(a)))
    return k.divide(e, k.sum(e, axis=1))


def _columns(k: Any, a: Any, width: int, *parts: int) -> list[Any]:
    """Parts of a matrix, by number, where its columns are cut into parts of equal width."""
    return [k.slice(a, (0, a.shape[0]), (n * width, (n + 1) * width)) for n in parts]


def expand_lstm_cell(k: Any, gates: Any, cell: Any) -> Any:
    """One step."""
    rows, width = cell.shape
    opened = k.sigmoid(k.slice(gates, (0, rows), (0, 3 * width)))
    f, i, o = _columns(k, opened, width, 0, 1, 2)
    g = k.tanh(*_columns(k, gates, width, 3))
    new = k.add(k.multiply(f, cell), k.multiply(i, g))
    bounded = k.tanh(new)
    parts = [k.multiply(o, bounded), new, opened, g, bounded]
    return k.blocks(parts, [(0, n * width) for n in (0, 1, 2, 5, 6)], (rows, 7 * width))


def expand_lstm_cell_vjp(k: Any, dh: Any, dc: Any, saved: Any, cell: Any) -> Any:
    """The gradients of one step."""
    rows, width = cell.shape
    f, i, o, g, bounded = _columns(k, saved, width, 2, 3, 4, 5, 6)

    def through_tanh(d: Any, y: Any) -> Any:
        return k.multiply(d, k.subtract(k.literal(1.0), k.multiply(y, y)))

    def through_sigmoid(d: Any, y: Any) -> Any:
        return k.multiply(k.multiply(d, y), k.subtract(k.literal(1.0), y))

    d = k.add(dc, through_tanh(k.multiply(dh, o), bounded))
    parts = [
        through_sigmoid(k.multiply(d, cell), f),
        through_sigmoid(k.multiply(d, g), i),
        through_sigmoid(k.multiply(dh, bounded), o),
        through_tanh(k.multiply(d, i), g),
        k.multiply(d, f),
    ]
    return k.blocks(parts, [(0, n * width) for n in range(5)], (rows, 5 * width))


def never_expanded(k: Any, *operands: Any) -> Any:
    """Refuse."""
    raise ValueError("chains are made, for backends that take them, of calls that have been recorded one by one")
