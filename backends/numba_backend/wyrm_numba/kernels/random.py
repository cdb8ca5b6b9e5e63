"""Random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), as :mod:`wyrm.philox` has it."""

from numba import uint32, uint64

from wyrm_numba.options import inlined, linked
from wyrm_numba.words import load, real, row, store, word


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
