"""The kernel table: every operation that a program may ask a backend for, with its meaning as a formula.

A new kernel is one entry of :data:`KERNELS` and one function in each backend; an optional one, which has an expansion in other
kernels, may be left out by backends. What instructions are made of kernels, and how, is in :mod:`wyrm.program`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["KERNELS", "Kernel", "Shape", "broadcast_shapes"]

Shape = tuple[int, int]


@dataclass(frozen=True)
class Kernel:
    """What one instruction means.

    Attributes
    ----------
    name
        As it stands in :attr:`Instruction.kernel`.
    operands
        The names of the operands, in order, as the formula uses them.
    formula
        The meaning, in NumPy's notation. ``out`` is the result, accumulated onto (``+=``) where the instruction
        says so. Elementwise kernels broadcast their operands to the shape of ``out``.
    shape
        The shape of ``out`` from the shapes of the operands; ``None`` where the program chooses it.
    elementwise
        Whether element (i, j) of ``out`` depends on element (i, j) of the operands alone. Only these may
        stand in a :class:`Rule`.
    expansion
        For an optional kernel, its meaning in other kernels, written against the frontend's emitter: a
        backend that does not declare the kernel gets these instead. Required kernels have none.
    """

    name: str
    operands: tuple[str, ...]
    formula: str
    shape: Callable[..., Shape] | None = None
    elementwise: bool = False
    expansion: Callable[..., Any] | None = None

    @property
    def optional(self) -> bool:
        """Whether a backend may leave this kernel out."""
        return self.expansion is not None


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape to which matrices of these shapes broadcast, as NumPy defines it.

    Raises
    ------
    ValueError
        Where two lengths differ and neither is 1.
    """
    rows, cols = result = shapes[0]
    for shape in shapes:
        if shape == result:
            continue
        other_rows, other_cols = shape
        if rows != other_rows:
            if rows != 1 and other_rows != 1:
                raise ValueError("shapes do not broadcast: " + " and ".join(map(str, shapes)))
            rows = other_rows if rows == 1 else rows
        if cols != other_cols:
            if cols != 1 and other_cols != 1:
                raise ValueError("shapes do not broadcast: " + " and ".join(map(str, shapes)))
            cols = other_cols if cols == 1 else cols
        result = rows, cols
    return result


def _matmul_shape(a: Shape, b: Shape, *, transpose_a: bool = False, transpose_b: bool = False) -> Shape:
    (m, k), (k_b, n) = (a[::-1] if transpose_a else a), (b[::-1] if transpose_b else b)
    if k != k_b:
        raise ValueError(f"matmul of {a} and {b}: the inner lengths {k} and {k_b} differ")
    return m, n


def _expand_logsumexp(k: Any, a: Any) -> Any:
    largest = k.row_max(a)
    # of an infinite or NaN element nothing is subtracted: their difference with themselves would be NaN
    shift = k.select(k.greater(k.literal(1.0), k.subtract(largest, largest)), largest, k.literal(0.0))
    return k.add(shift, k.log(k.sum(k.exp(k.subtract(a, shift)), axis=1)))


def _expand_softmax(k: Any, a: Any) -> Any:
    e = k.exp(k.subtract(a, k.row_max(a)))
    return k.divide(e, k.sum(e, axis=1))


def _columns(k: Any, a: Any, width: int, *parts: int) -> list[Any]:
    """Parts of a matrix, by number, where its columns are cut into parts of equal width."""
    return [k.slice(a, (0, a.shape[0]), (n * width, (n + 1) * width)) for n in parts]


def _expand_lstm_cell(k: Any, gates: Any, cell: Any) -> Any:
    rows, width = cell.shape
    opened = k.sigmoid(k.slice(gates, (0, rows), (0, 3 * width)))
    f, i, o = _columns(k, opened, width, 0, 1, 2)
    g = k.tanh(*_columns(k, gates, width, 3))
    new = k.add(k.multiply(f, cell), k.multiply(i, g))
    bounded = k.tanh(new)
    parts = [k.multiply(o, bounded), new, opened, g, bounded]
    return k.blocks(parts, [(0, n * width) for n in (0, 1, 2, 5, 6)], (rows, 7 * width))


def _expand_lstm_cell_vjp(k: Any, dh: Any, dc: Any, saved: Any, cell: Any) -> Any:
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


def _never_expanded(k: Any, *operands: Any) -> Any:
    raise ValueError("chains are made, for backends that take them, of calls that have been recorded one by one")


def _elementwise(name: str, operands: str, formula: str) -> Kernel:
    return Kernel(name, tuple(operands.split()), formula, broadcast_shapes, elementwise=True)


#: Every kernel there is, by name.
KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        # elementwise, with broadcasting
        _elementwise("add", "a b", "out = a + b"),
        _elementwise("subtract", "a b", "out = a - b"),
        _elementwise("multiply", "a b", "out = a * b"),
        _elementwise("divide", "a b", "out = a / b"),
        _elementwise("negate", "a", "out = -a"),
        _elementwise("exp", "a", "out = exp(a)"),
        _elementwise("log", "a", "out = log(a)"),
        _elementwise("sqrt", "a", "out = sqrt(a)"),
        _elementwise("absolute", "a", "out = abs(a)"),
        _elementwise("tanh", "a", "out = tanh(a)"),
        _elementwise("sigmoid", "a", "out = 1 / (1 + exp(-a))"),
        _elementwise("softplus", "a", "out = log(1 + exp(a)), which neither overflows nor vanishes early"),
        _elementwise("power", "a b", "out = a ** b"),
        _elementwise("maximum", "a b", "out = maximum(a, b); NaN where either is"),
        _elementwise("minimum", "a b", "out = minimum(a, b); NaN where either is"),
        _elementwise("greater", "a b", "out = 1 where a > b, else 0"),
        _elementwise("select", "condition a b", "out = where(condition != 0, a, b)"),
        # between shapes
        Kernel("copy", ("a",), "out = broadcast_to(a, out.shape)"),
        Kernel("sum", ("a",), "out = a.sum over the axes along which out has length 1"),
        Kernel("row_max", ("a",), "out = a.max(axis=1, keepdims=True); NaN where a row has one", lambda a: (a[0], 1)),
        Kernel("transpose", ("a",), "out = a.T", lambda a: (a[1], a[0])),
        Kernel(
            "logsumexp",
            ("a",),
            "out = log(exp(a).sum(axis=1, keepdims=True)), without overflow; -inf of a row of -inf alone, inf of one with inf",
            lambda a: (a[0], 1),
            expansion=_expand_logsumexp,
        ),
        Kernel(
            "softmax",
            ("a",),
            "out = exp(a) / exp(a).sum(axis=1, keepdims=True), without overflow; NaN of a row of -inf alone, or with inf",
            lambda a: a,
            expansion=_expand_softmax,
        ),
        # one step of an LSTM cell over n columns of memory; the columns of a block are named in brackets, n of each
        Kernel(
            "lstm_cell",
            ("gates", "cell"),
            "f, i, o, g = sigmoid(gates[f]), sigmoid(gates[i]), sigmoid(gates[o]), tanh(gates[g]); c = f * cell + i * g; "
            "out = [o * tanh(c) | c | f | i | o | g | tanh(c)]",
            lambda gates, cell: (cell[0], 7 * cell[1]),
            expansion=_expand_lstm_cell,
        ),
        Kernel(
            "lstm_cell_vjp",
            ("dh", "dc", "saved", "cell"),
            "f, i, o, g, t = the last five blocks of saved, a result of lstm_cell; d = dc + dh * o * (1 - t**2); "
            "out = [d * cell * f * (1 - f) | d * g * i * (1 - i) | dh * t * o * (1 - o) | d * i * (1 - g**2) | d * f]",
            lambda dh, dc, saved, cell: (cell[0], 5 * cell[1]),
            expansion=_expand_lstm_cell_vjp,
        ),
        # many at once; a backend that declares them knows `row` buffers and chains (wyrm.program)
        Kernel(
            "lookup",
            ("table", "index"),
            "out = table[index[:, 0]] for one index, where it stands: no instruction but a slot of a `row` buffer",
            lambda t, i: (i[0], t[1]),
            expansion=lambda k, table, index: k.call("gather", table, index),
        ),
        Kernel("fused", ("...",), "the results of the steps of a chain", expansion=_never_expanded),
        # products
        Kernel("matmul", ("a", "b"), "out = (a.T if transpose_a else a) @ (b.T if transpose_b else b)", _matmul_shape),
        Kernel(
            "row_dot",
            ("a", "b"),
            "out = (a * b).sum(axis=1, keepdims=True)",
            lambda a, b: (broadcast_shapes(a, b)[0], 1),
            expansion=lambda k, a, b: k.sum(k.multiply(a, b), axis=1),
        ),
        # rows of tables; every index is within the table, because indices are checked where they are loaded
        Kernel("gather", ("table", "index"), "out = table[index[:, 0]]", lambda t, i: (i[0], t[1])),
        Kernel("scatter", ("index", "rows"), "out = 0; for i: out[index[i, 0]] += rows[i]"),
        Kernel("accumulate_rows", ("index", "rows"), "for i: out.add_row(index[i, 0], rows[i])   (out: a gradient)"),
        Kernel("pick", ("a", "index"), "for i: out[i, 0] = a[i, index[i, 0]]", lambda a, i: (a[0], 1)),
        Kernel("place", ("index", "a"), "out = 0; for i: out[i, index[i, 0]] += a[i, 0]"),
        # bags: row r of the result belongs to bag r, with indices i and weights w (all 1 where there are none); where `mean`
        # is set, the weights of a bag are divided by their sum; weights that cancel, to rounding, so that their sum is at most
        # epsilon times the sum of their sizes, count as 0, and those whose sum is infinite as NaN
        Kernel(
            "gather_bag",
            ("table", "bag"),
            "for r: out[r] = sum(w * table[i] for i, w in bag[r])",
            lambda t, b, mean=False: (b[0], t[1]),
        ),
        Kernel("scatter_bag", ("bag", "rows"), "out = 0; for r: for i, w in bag[r]: out[i] += w * rows[r]"),
        Kernel("accumulate_bag", ("bag", "rows"), "for r: for i, w in bag[r]: out.add_row(i, w * rows[r])   (out: a gradient)"),
        # random numbers: a function of the key and the element's number alone
        Kernel("dropout_mask", ("key", "rate"), "out = where(uniform(key) >= rate, 1 / (1 - rate), 0); see wyrm.philox"),
        # numbers drawn below `rows`, of which wyrm.philox says how: `key` is followed by `outcome`, of shape (1, 2), by an
        # alias table where `weighted`, by a bag of numbers that are not drawn where `excluding`, and, where it may be drawn
        # again, by `until`, of shape (1, 1). The instruction's body is run after each draw: the only loop that a program has.
        # The outcome is a rank, and 1, or 0 if everything was excluded; out[i] is 0 then
        Kernel(
            "draw",
            ("key", "outcome", "..."),
            "out[i] = draw(key, i, rows), none that is excluded; outcome = max(1, rows - 1), any left. With until: for t = 1, "
            "..., tries: out = draw(key, t - 1, rows), none that is excluded if t = tries; outcome = max(1, (rows - 1) // t), "
            "any left; body; the end where until > 0 and out is not excluded; after the last: until = minimum(until, 0)",
        ),
        # updates: `rule` is applied to rows of the parameter `out`; operands that follow are its states, its scalars and,
        # where it has a catch_up, the parameter's clock
        Kernel("update", ("gradient", "..."), "out, states = rule(out, gradient, states, scalars)"),
        Kernel(
            "update_rows",
            ("index", "rows", "..."),
            "r = index[0, 0]: out[r], states[r] = rule(out[r], rows[0], states[r], scalars)",
        ),
        Kernel(
            "update_gradient",
            ("gradient", "..."),
            "as update, with what a gradient buffer holds: every row where it was touched densely, else its rows; "
            "then clears it",
        ),
        Kernel(
            "merge_gradient",
            ("gradient",),
            "out += gradient: its rows are appended to out's, its matrix is added; then clears it   (both are gradients)",
        ),
        Kernel(
            "square_sum",
            ("gradient", "..."),
            "out = the sum of the squares of what a gradient buffer holds; if a column follows, without rows i of which "
            "column[i, 0] != 0",
            lambda *operands: (1, 1),
        ),
        # rows that missed steps: the clock says what these come to: keep, move, fade (wyrm.clocks). `moving` is the velocity,
        # or the table if the rule has none. Reading changes nothing. An update of row r first brings it up to date: out[r] =
        # keep * out[r] - move * velocity[r], velocity[r] = fade * velocity[r]; and then sets clock.last[r]
        # = max(clock.last[r], clock.now + 1)
        Kernel(
            "current",
            ("table", "moving", "clock"),
            "for every row r: out[r] = keep * table[r] - move * moving[r]",
            lambda t, m, c: t,
        ),
        Kernel(
            "current_rows",
            ("table", "moving", "clock", "index"),
            "gather, of current(table, moving, clock)",
            lambda t, m, c, i: (i[0], t[1]),
        ),
        Kernel(
            "current_bag",
            ("table", "moving", "clock", "bag"),
            "gather_bag, of current(table, moving, clock)",
            lambda t, m, c, b, mean=False: (b[0], t[1]),
        ),
        Kernel(
            "tick",
            ("moving", "scalars", "clock"),
            "clock.tick(scalars[clock.rate]): counts a step; the rows that are due, of out and moving, are brought up to date",
        ),
    )
}
