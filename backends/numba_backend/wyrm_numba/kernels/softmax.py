"""Kernels that normalise rows of exponentials."""

import math

from numba import njit

from wyrm_numba.kernels.elementwise import row
from wyrm_numba.kernels.shapes import row_largest
from wyrm_numba.options import OPTIONS
from wyrm_numba.words import load, store, word


@njit(**OPTIONS)
def exponential_sum(a, largest, n, zero):
    """The sum of exp(x - largest)."""
    total = zero
    for j in range(n):
        total += math.exp(load(a, j, zero) - largest)
    return total


@njit(**OPTIONS)
def logsumexp(p, zero):
    n = word(p, 10)
    for i in range(word(p, 5)):
        out, a = row(p, 0, i, zero), row(p, 1, i, zero)
        largest = row_largest(a, n, zero)
        result = largest + math.log(exponential_sum(a, largest, n, zero))
        store(out, 0, load(out, 0, zero) + result if word(p, 2) != 0 else result)


@njit(**OPTIONS)
def softmax(p, zero):
    n = word(p, 6)
    for i in range(word(p, 5)):
        out, a = row(p, 0, i, zero), row(p, 1, i, zero)
        largest = row_largest(a, n, zero)
        total = exponential_sum(a, largest, n, zero)
        for j in range(n):
            share = math.exp(load(a, j, zero) - largest) / total
            store(out, j, load(out, j, zero) + share if word(p, 2) != 0 else share)
