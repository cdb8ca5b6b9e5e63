"""Kernels of recurrent cells: a whole step, and its derivative, in one pass over the columns of the cell.

What belongs together lies as many columns apart as the cell has.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from wyrm_numba.arithmetic import Numbers
from wyrm_numba.kernels.elements import add, multiply, multiply_add, sigmoid, sigmoid_vjp, tanh, tanh_vjp
from wyrm_numba.options import inlined
from wyrm_numba.vectors import lanes, load_lanes, many, store_lanes
from wyrm_numba.words import row, word

_WORD = ir.IntType(64)


def _columns(builder: Any, place: Any, bits: int) -> tuple[Any, Any]:
    """The address of column j of a block of n columns, and how many columns follow."""
    address, block, n, j = place
    index = builder.add(builder.mul(block, n), j)
    return builder.add(address, builder.mul(index, _WORD(bits // 8))), builder.sub(n, j)


def _are_all(builder: Any, count: Any, kind: Any) -> Any:
    """Whether a vector has no more lanes than there are columns: masks would keep loads waiting for what has been stored."""
    return builder.icmp_signed(">=", count, _WORD(kind.count))


@intrinsic
def take(typingctx: Any, address: Any, block: Any, n: Any, j: Any, vector: Any) -> Any:
    """The numbers from column j of a block of n columns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at, count = _columns(builder, arguments[:4], vector.bitwidth)
        kind = context.get_value_type(vector)
        with builder.if_else(_are_all(builder, count, kind)) as (whole, part):
            with whole:
                all_lanes, first = load_lanes(builder, at, kind), builder.block
            with part:
                some_lanes, second = load_lanes(builder, at, kind, count), builder.block
        found = builder.phi(kind)
        found.add_incoming(all_lanes, first)
        found.add_incoming(some_lanes, second)
        return found

    return vector(*[types.int64] * 4, vector), generate


@intrinsic
def put(typingctx: Any, address: Any, block: Any, n: Any, j: Any, value: Any, accumulate: Any) -> Any:
    """Store numbers there, or add them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, new = context.get_value_type(value), arguments[4]
        at, count = _columns(builder, arguments[:4], value.bitwidth)
        adds = builder.icmp_signed("!=", arguments[5], _WORD(0))
        plain = builder.and_(_are_all(builder, count, kind), builder.not_(adds))
        with builder.if_else(plain) as (whole, part):
            with whole:
                store_lanes(builder, at, new)
            with part:
                old = load_lanes(builder, at, kind, builder.select(adds, count, _WORD(0)))
                store_lanes(builder, at, builder.select(adds, Numbers(builder, kind).add(old, new), new), count)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, value, types.int64), generate


@inlined
def lstm_cell(p, zero):
    n, accumulate, vector = word(p, 14), word(p, 2), many(zero)
    for r in range(word(p, 5)):
        out, gates, cell = row(p, 0, r, zero), row(p, 1, r, zero), row(p, 2, r, zero)
        for j in range(0, n, lanes(vector)):
            f = sigmoid(take(gates, 0, n, j, vector))
            i = sigmoid(take(gates, 1, n, j, vector))
            o = sigmoid(take(gates, 2, n, j, vector))
            g = tanh(take(gates, 3, n, j, vector))
            c = multiply_add(f, take(cell, 0, n, j, vector), multiply(i, g))
            bounded = tanh(c)
            put(out, 0, n, j, multiply(o, bounded), accumulate)
            put(out, 1, n, j, c, accumulate)
            put(out, 2, n, j, f, accumulate)
            put(out, 3, n, j, i, accumulate)
            put(out, 4, n, j, o, accumulate)
            put(out, 5, n, j, g, accumulate)
            put(out, 6, n, j, bounded, accumulate)


@inlined
def lstm_cell_vjp(p, zero):
    n, accumulate, vector = word(p, 22), word(p, 2), many(zero)
    for r in range(word(p, 5)):
        out, by_hidden, by_cell = row(p, 0, r, zero), row(p, 1, r, zero), row(p, 2, r, zero)
        saved, cell = row(p, 3, r, zero), row(p, 4, r, zero)
        for j in range(0, n, lanes(vector)):
            f = take(saved, 2, n, j, vector)
            i = take(saved, 3, n, j, vector)
            o = take(saved, 4, n, j, vector)
            g = take(saved, 5, n, j, vector)
            bounded = take(saved, 6, n, j, vector)
            dh = take(by_hidden, 0, n, j, vector)
            dc = add(take(by_cell, 0, n, j, vector), tanh_vjp(multiply(dh, o), bounded))
            put(out, 0, n, j, sigmoid_vjp(multiply(dc, take(cell, 0, n, j, vector)), f), accumulate)
            put(out, 1, n, j, sigmoid_vjp(multiply(dc, g), i), accumulate)
            put(out, 2, n, j, sigmoid_vjp(multiply(dh, bounded), o), accumulate)
            put(out, 3, n, j, tanh_vjp(multiply(dc, i), g), accumulate)
            put(out, 4, n, j, multiply(dc, f), accumulate)
