"""Random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), as :mod:`wyrm.philox` has it."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types, uint32, uint64
from numba.extending import intrinsic

from wyrm_numba.options import inlined, linked
from wyrm_numba.vectors import splat
from wyrm_numba.words import load, real, row, store, word

#: How many blocks :func:`philox_lanes` computes.
LANES = 8
_HALF = 0xFFFFFFFF


@linked
def philox(key, block):
    """Four words that depend on the key (seed, stream, step) and the block's number alone."""
    half = uint64(32)
    seed, step = uint64(word(key, 0)), uint64(word(key, 2))
    low, high = uint32(seed), uint32(seed >> half)
    a, b, c, d = uint32(block), uint32(word(key, 1)), uint32(step), uint32(step >> half)
    for _ in range(10):
        first, second = uint64(a) * uint64(0xD2511F53), uint64(c) * uint64(0xCD9E8D57)
        a, b = uint32(second >> half) ^ b ^ low, uint32(second)
        c, d = uint32(first >> half) ^ d ^ high, uint32(first)
        low, high = uint32(low + uint32(0x9E3779B9)), uint32(high + uint32(0xBB67AE85))
    return a, b, c, d


@intrinsic
def philox_lanes(typingctx: Any, seed: Any, stream: Any, step: Any, block: Any, apart: Any, to: Any) -> Any:
    """The words of LANES blocks, whose numbers are ``apart`` from each other.

    Each goes to an int64 of its own, from an address on: the first words of all blocks, then the second ones, and so on.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        seed, stream, step, block, apart, to = arguments
        kind = ir.VectorType(ir.IntType(64), LANES)

        def every(number: Any) -> Any:
            """A vector with the lower half of a number, which may be a constant, in every lane."""
            number = ir.Constant(ir.IntType(64), number) if isinstance(number, int) else number
            return builder.and_(splat(builder, number, kind), ir.Constant(kind, [_HALF] * LANES))

        def upper(vector: Any) -> Any:
            return builder.lshr(vector, ir.Constant(kind, [32] * LANES))

        def lower(vector: Any) -> Any:
            return builder.and_(vector, ir.Constant(kind, [_HALF] * LANES))

        thirty_two = ir.Constant(ir.IntType(64), 32)
        a = lower(
            builder.add(
                splat(builder, block, kind), builder.mul(splat(builder, apart, kind), ir.Constant(kind, list(range(LANES))))
            )
        )
        b, c, d = every(stream), every(step), every(builder.lshr(step, thirty_two))
        low, high = every(seed), every(builder.lshr(seed, thirty_two))
        for _ in range(10):
            first, second = builder.mul(a, every(0xD2511F53)), builder.mul(c, every(0xCD9E8D57))
            a, b = builder.xor(builder.xor(upper(second), b), low), lower(second)
            c, d = builder.xor(builder.xor(upper(first), d), high), lower(first)
            low, high = lower(builder.add(low, every(0x9E3779B9))), lower(builder.add(high, every(0xBB67AE85)))
        for n, words in enumerate((a, b, c, d)):
            address = builder.add(to, ir.Constant(ir.IntType(64), 8 * LANES * n))
            builder.store(words, builder.inttoptr(address, kind.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.none(*[types.int64] * 6), generate


@inlined
def dropout_mask(p, zero):
    one = real(1, zero)
    rate = load(word(p, 12), 0, zero)
    scale = one / (one - rate)
    cols = word(p, 6)
    a, b, c, d = uint32(0), uint32(0), uint32(0), uint32(0)
    for element in range(word(p, 5) * cols):
        place = element % 4
        if place == 0:
            a, b, c, d = philox(word(p, 8), element // 4)
        bits = a if place == 0 else b if place == 1 else c if place == 2 else d
        uniform = real(uint64(bits) >> uint64(8), zero) * real(2.0**-24, zero)
        kept = scale if uniform >= rate else zero
        out, j = row(p, 0, element // cols, zero), element % cols
        store(out, j, load(out, j, zero) + kept if word(p, 2) != 0 else kept)
