"""Tiles of products of matrices: a few rows by a few vectors of the result, whose sums stay in registers.

Addresses and distances are in bytes. The last vector of a tile may be a part.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from wyrm_numba.arithmetic import Numbers
from wyrm_numba.vectors import load_lanes, splat, store_lanes, totals_of

__all__ = ["dots", "tile"]

_WORD = ir.IntType(64)


@cache
def tile(rows: int, vectors: int) -> Any:
    """A function that computes a tile of out = a @ b, or adds it to out.

    ``function(out, out_row, a, a_row, a_col, b, b_row, depth, count, accumulate, vector)``; ``count`` is how many numbers of
    the last vector there are.
    """

    @intrinsic
    def function(
        typingctx: Any,
        out: Any,
        o_row: Any,
        a: Any,
        a_row: Any,
        a_col: Any,
        b: Any,
        b_row: Any,
        d: Any,
        c: Any,
        add: Any,
        v: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out, out_row, a, a_row, a_col, b, b_row, depth, count, accumulate, _ = arguments
            kind = context.get_value_type(v)
            k, size, last = Numbers(builder, kind), v.bitwidth // 8, vectors - 1

            def at(base: Any, row: Any, n: int) -> Any:
                """The address of vector n of a row."""
                return builder.add(builder.add(base, row), _WORD(n * kind.count * size))

            sums = [[cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(vectors)] for _ in range(rows)]
            with cgutils.for_range(builder, depth) as loop:
                b_at = builder.mul(loop.index, b_row)
                right = [load_lanes(builder, at(b, b_at, n), kind, count if n == last else None) for n in range(vectors)]
                for r in range(rows):
                    place = builder.add(builder.mul(a_row, _WORD(r)), builder.mul(loop.index, a_col))
                    number = builder.load(builder.inttoptr(builder.add(a, place), kind.element.as_pointer()), align=size)
                    left = splat(builder, number, kind)
                    for n in range(vectors):
                        builder.store(k.multiply_add(left, right[n], builder.load(sums[r][n])), sums[r][n])
            with cgutils.if_likely(builder, builder.icmp_signed("!=", accumulate, _WORD(0))):
                for r in range(rows):
                    for n in range(vectors):
                        old = load_lanes(
                            builder, at(out, builder.mul(out_row, _WORD(r)), n), kind, count if n == last else None
                        )
                        builder.store(k.add(old, builder.load(sums[r][n])), sums[r][n])
            for r in range(rows):
                for n in range(vectors):
                    place = at(out, builder.mul(out_row, _WORD(r)), n)
                    store_lanes(builder, place, builder.load(sums[r][n]), count if n == last else None)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 10, v), generate

    return function


@cache
def dots(most: int) -> Any:
    """A function that computes so many inner products of one row with others, but no more than a vector has lanes.

    ``function(out, a, b, b_row, depth, accumulate, vector)``: out[n] is the product of a and row n of b, or is added to.
    """

    @intrinsic
    def function(typingctx: Any, out: Any, a: Any, b: Any, b_row: Any, depth: Any, accumulate: Any, v: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out, a, b, b_row, depth, accumulate, _ = arguments
            kind = context.get_value_type(v)
            k, size, count = Numbers(builder, kind), v.bitwidth // 8, min(most, kind.count)
            sums = [cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(count)]

            def step(at: Any, part: Any) -> None:
                left = load_lanes(builder, builder.add(a, at), kind, part)
                for n in range(count):
                    row = builder.add(builder.add(b, builder.mul(b_row, _WORD(n))), at)
                    right = load_lanes(builder, row, kind, part)
                    builder.store(k.multiply_add(left, right, builder.load(sums[n])), sums[n])

            lanes = _WORD(kind.count)
            with cgutils.for_range(builder, builder.sdiv(depth, lanes)) as loop:
                step(builder.mul(loop.index, _WORD(kind.count * size)), None)
            rest = builder.srem(depth, lanes)
            with cgutils.if_unlikely(builder, builder.icmp_signed("!=", rest, _WORD(0))):
                step(builder.mul(builder.sub(depth, rest), _WORD(size)), rest)
            result = totals_of(builder, [builder.load(each) for each in sums])
            adds = builder.icmp_signed("!=", accumulate, _WORD(0))
            with builder.if_else(adds) as (added, stored):
                with added:
                    old = load_lanes(builder, out, result.type)
                    store_lanes(builder, out, Numbers(builder, result.type).add(old, result))
                with stored:
                    store_lanes(builder, out, result)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 6, v), generate

    return function
