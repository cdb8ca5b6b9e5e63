"""Kernels that normalise rows of exponentials."""

import math

from wyrm_numba.kernels.elements import add, divide, exp, log, subtract
from wyrm_numba.kernels.shapes import row_largest
from wyrm_numba.options import inlined
from wyrm_numba.vectors import lanes, load_part, many, store_part, total
from wyrm_numba.words import load, real, row, store, word


@inlined
def exponential_sum(a, largest, n, zero):
    """The sum of exp(x - largest)."""
    nothing, shift = many(real(-math.inf, zero)), many(largest)
    sums = many(zero)
    for j in range(0, n, lanes(nothing)):
        sums = add(sums, exp(subtract(load_part(a, j, n - j, nothing), shift)))
    return total(sums)


@inlined
def logsumexp(p, zero):
    n = word(p, 10)
    for i in range(word(p, 5)):
        out, a = row(p, 0, i, zero), row(p, 1, i, zero)
        largest = row_largest(a, n, zero)
        shift = largest if math.isfinite(largest) else zero
        result = shift + log(exponential_sum(a, shift, n, zero))
        store(out, 0, load(out, 0, zero) + result if word(p, 2) != 0 else result)


@inlined
def softmax(p, zero):
    n, vector = word(p, 6), many(zero)
    for i in range(word(p, 5)):
        out, a = row(p, 0, i, zero), row(p, 1, i, zero)
        largest = row_largest(a, n, zero)
        whole, shift = many(exponential_sum(a, largest, n, zero)), many(largest)
        for j in range(0, n, lanes(vector)):
            share = divide(exp(subtract(load_part(a, j, n - j, vector), shift)), whole)
            if word(p, 2) != 0:
                share = add(load_part(out, j, n - j, vector), share)
            store_part(out, j, n - j, share)
