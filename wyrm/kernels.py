"""The kernel table: every operation that a program may ask a backend for, with its meaning as a formula.

A new kernel is one entry of :data:`KERNELS` and one function in each backend; an optional one, which has an expansion in other
kernels, may be left out by backends. What instructions are made of kernels, and how, is in :mod:`wyrm.program`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wyrm.expansions import expand_logsumexp, expand_lstm_cell, expand_lstm_cell_vjp, expand_softmax, never_expanded

__all__ = ["KERNELS", "Kernel", "Role", "Shape", "broadcast_shapes"]

Shape = tuple[int, int]
#: What an operand is: real numbers, row numbers, bags, a parameter's whole gradient, its clock.
Role = Literal["real", "index", "bag", "gradient", "clock"]
#: The operands that are not real numbers, by their names in the table.
_ROLES: dict[str, Role] = {"index": "index", "key": "index", "bag": "bag", "gradient": "gradient", "clock": "clock"}


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
    result
        What ``out`` is.
    reals
        Operands that are real numbers, though their name stands for something else elsewhere.
    fits
        Whether a shape of ``out`` and those of the operands, and the attributes, belong together, beyond what ``shape`` says.
    within
        Of the same: what the numbers of an index or bag are below.
    attributes
        The attributes that an instruction may have, with their types.
    """

    name: str
    operands: tuple[str, ...]
    formula: str
    shape: Callable[..., Shape] | None = None
    elementwise: bool = False
    expansion: Callable[..., Any] | None = None
    result: Role = "real"
    fits: Callable[..., bool] | None = None
    within: Callable[..., int] | None = None
    reals: tuple[str, ...] = ()
    attributes: Mapping[str, type] = field(default_factory=dict)

    @property
    def roles(self) -> tuple[Role, ...]:
        """What the operands with names are, in order."""
        return tuple("real" if name in self.reals else _ROLES.get(name, "real") for name in self.operands if name != "...")

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


def _is_broadcast(out: Shape, a: Shape) -> bool:
    return a[0] in (1, out[0]) and a[1] in (1, out[1])


def _are_rows(out: Shape, which: Shape, rows: Shape, **_: bool) -> bool:
    """Whether there is a row of the result's width for each index, or for each bag."""
    return rows == (which[0], out[1])


def _is_first(out: Shape, first: Shape, *_: Shape, **__: Any) -> bool:
    return first == out


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
        Kernel("copy", ("a",), "out = broadcast_to(a, out.shape)", fits=_is_broadcast),
        Kernel(
            "sum", ("a",), "out = a.sum over the axes along which out has length 1", fits=lambda out, a: _is_broadcast(a, out)
        ),
        Kernel("row_max", ("a",), "out = a.max(axis=1, keepdims=True); NaN where a row has one", lambda a: (a[0], 1)),
        Kernel("transpose", ("a",), "out = a.T", lambda a: (a[1], a[0])),
        Kernel(
            "logsumexp",
            ("a",),
            "out = log(exp(a).sum(axis=1, keepdims=True)), without overflow; -inf of a row of -inf alone, inf of one with inf",
            lambda a: (a[0], 1),
            expansion=expand_logsumexp,
        ),
        Kernel(
            "softmax",
            ("a",),
            "out = exp(a) / exp(a).sum(axis=1, keepdims=True), without overflow; NaN of a row of -inf alone, or with inf",
            lambda a: a,
            expansion=expand_softmax,
        ),
        # one step of an LSTM cell over n columns of memory; the columns of a block are named in brackets, n of each
        Kernel(
            "lstm_cell",
            ("gates", "cell"),
            "f, i, o, g = sigmoid(gates[f]), sigmoid(gates[i]), sigmoid(gates[o]), tanh(gates[g]); c = f * cell + i * g; "
            "out = [o * tanh(c) | c | f | i | o | g | tanh(c)]",
            lambda gates, cell: (cell[0], 7 * cell[1]),
            expansion=expand_lstm_cell,
            fits=lambda out, gates, cell: gates == (cell[0], 4 * cell[1]),
        ),
        Kernel(
            "lstm_cell_vjp",
            ("dh", "dc", "saved", "cell"),
            "f, i, o, g, t = the last five blocks of saved, a result of lstm_cell; d = dc + dh * o * (1 - t**2); "
            "out = [d * cell * f * (1 - f) | d * g * i * (1 - i) | dh * t * o * (1 - o) | d * i * (1 - g**2) | d * f]",
            lambda dh, dc, saved, cell: (cell[0], 5 * cell[1]),
            expansion=expand_lstm_cell_vjp,
            fits=lambda out, dh, dc, saved, cell: dh == dc == cell and saved == (cell[0], 7 * cell[1]),
        ),
        # many at once; a backend that declares them knows `row` buffers and chains (wyrm.program)
        Kernel(
            "lookup",
            ("table", "index"),
            "out = table[index[:, 0]] for one index, where it stands: no instruction but a slot of a `row` buffer",
            lambda t, i: (i[0], t[1]),
            expansion=lambda k, table, index: k.call("gather", table, index),
            fits=lambda *_: False,
        ),
        Kernel(
            "fused",
            ("...",),
            "the results of the steps of a chain",
            fits=lambda *_, **__: True,
            expansion=never_expanded,
            attributes={"chain": object},
        ),
        # products
        Kernel(
            "matmul",
            ("a", "b"),
            "out = (a.T if transpose_a else a) @ (b.T if transpose_b else b)",
            _matmul_shape,
            attributes={"transpose_a": bool, "transpose_b": bool},
        ),
        Kernel(
            "row_dot",
            ("a", "b"),
            "out = (a * b).sum(axis=1, keepdims=True)",
            lambda a, b: (broadcast_shapes(a, b)[0], 1),
            expansion=lambda k, a, b: k.sum(k.multiply(a, b), axis=1),
        ),
        # rows of tables; every index is within the table, because indices are checked where they are loaded
        Kernel(
            "gather",
            ("table", "index"),
            "out = table[index[:, 0]]",
            lambda t, i: (i[0], t[1]),
            within=lambda out, table, index: table[0],
        ),
        Kernel(
            "scatter",
            ("index", "rows"),
            "out = 0; for i: out[index[i, 0]] += rows[i]",
            fits=_are_rows,
            within=lambda out, *_, **__: out[0],
        ),
        Kernel(
            "accumulate_rows",
            ("index", "rows"),
            "for i: out.add_row(index[i, 0], rows[i])   (out: a gradient)",
            result="gradient",
            fits=_are_rows,
            within=lambda out, *_, **__: out[0],
        ),
        Kernel(
            "pick",
            ("a", "index"),
            "for i: out[i, 0] = a[i, index[i, 0]]",
            lambda a, i: (a[0], 1),
            within=lambda out, a, index: a[1],
            fits=lambda out, a, index: index[0] == a[0],
        ),
        Kernel(
            "place",
            ("index", "a"),
            "out = 0; for i: out[i, index[i, 0]] += a[i, 0]",
            fits=lambda out, i, a: i[0] == out[0] and a == (out[0], 1),
            within=lambda out, *_: out[1],
        ),
        # bags: row r of the result belongs to bag r, with indices i and weights w (all 1 where there are none); where `mean`
        # is set, the weights of a bag are divided by their sum; weights that cancel, to rounding, so that their sum is at most
        # epsilon times the sum of their sizes, count as 0, and those whose sum is infinite as NaN
        Kernel(
            "gather_bag",
            ("table", "bag"),
            "for r: out[r] = sum(w * table[i] for i, w in bag[r])",
            lambda t, b, mean=False: (b[0], t[1]),
            attributes={"mean": bool},
            within=lambda out, table, *_, **__: table[0],
        ),
        Kernel(
            "scatter_bag",
            ("bag", "rows"),
            "out = 0; for r: for i, w in bag[r]: out[i] += w * rows[r]",
            fits=_are_rows,
            attributes={"mean": bool},
            within=lambda out, *_, **__: out[0],
        ),
        Kernel(
            "accumulate_bag",
            ("bag", "rows"),
            "for r: for i, w in bag[r]: out.add_row(i, w * rows[r])   (out: a gradient)",
            result="gradient",
            fits=_are_rows,
            attributes={"mean": bool},
            within=lambda out, *_, **__: out[0],
        ),
        # random numbers: a function of the key and the element's number alone
        Kernel(
            "dropout_mask",
            ("key", "rate"),
            "out = where(uniform(key) >= rate, 1 / (1 - rate), 0); see wyrm.philox",
            fits=lambda out, key, rate: key == (3, 1) and rate == (1, 1),
        ),
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
            result="index",
            fits=lambda out, key, outcome, *beside, **options: out[1] == 1 and key == (3, 1) and outcome == (1, 2),
            attributes={"rows": int, "weighted": bool, "excluding": bool, "tries": int},
        ),
        # updates: `rule` is applied to rows of the parameter `out`; operands that follow are its states, its scalars and,
        # where it has a catch_up, the parameter's clock
        Kernel(
            "update",
            ("gradient", "..."),
            "out, states = rule(out, gradient, states, scalars)",
            reals=("gradient",),
            fits=_is_first,
            attributes={"rule": object},
        ),
        Kernel(
            "update_rows",
            ("index", "rows", "..."),
            "r = index[0, 0]: out[r], states[r] = rule(out[r], rows[0], states[r], scalars)",
            fits=lambda out, index, rows, *beside, **_: index == (1, 1) and rows == (1, out[1]),
            attributes={"rule": object},
            within=lambda out, *_, **__: out[0],
        ),
        Kernel(
            "update_gradient",
            ("gradient", "..."),
            "as update, with what a gradient buffer holds: every row where it was touched densely, else its rows; "
            "then clears it",
            fits=_is_first,
            attributes={"rule": object},
        ),
        Kernel(
            "merge_gradient",
            ("gradient",),
            "out += gradient: its rows are appended to out's, its matrix is added; then clears it   (both are gradients)",
            result="gradient",
            fits=_is_first,
        ),
        Kernel(
            "square_sum",
            ("gradient", "..."),
            "out = the sum of the squares of what a gradient buffer holds; if a column follows, without rows i of which "
            "column[i, 0] != 0",
            lambda *operands: (1, 1),
            fits=lambda out, gradient, *frozen: frozen in ((), ((gradient[0], 1),)),
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
            fits=lambda out, table, moving, clock: moving == table,
        ),
        Kernel(
            "current_rows",
            ("table", "moving", "clock", "index"),
            "gather, of current(table, moving, clock)",
            lambda t, m, c, i: (i[0], t[1]),
            fits=lambda out, table, moving, *_: moving == table,
            within=lambda out, table, *_, **__: table[0],
        ),
        Kernel(
            "current_bag",
            ("table", "moving", "clock", "bag"),
            "gather_bag, of current(table, moving, clock)",
            lambda t, m, c, b, mean=False: (b[0], t[1]),
            attributes={"mean": bool},
            within=lambda out, table, *_, **__: table[0],
            fits=lambda out, table, moving, *_, **__: moving == table,
        ),
        Kernel(
            "tick",
            ("moving", "scalars", "clock"),
            "clock.tick(scalars[clock.rate]): counts a step; the rows that are due, of out and moving, are brought up to date",
            fits=lambda out, moving, *_: moving == out,
        ),
    )
}
