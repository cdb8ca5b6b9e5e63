"""Kernels that change the shape: sums and maxima along axes, transposition."""

import math

from wyrm_numba.kernels.elements import maximum
from wyrm_numba.kernels.elementwise import add_row, fill_row
from wyrm_numba.options import inlined, linked
from wyrm_numba.words import itemsize, load, real, row, store, word


@inlined
def sum(p, zero):
    """A result of one row has stride 0 where the operand has several, so that all its rows are added to it."""
    if word(p, 2) == 0:
        for i in range(word(p, 5)):
            fill_row(row(p, 0, i, zero), word(p, 6), zero)
    n = word(p, 10)
    for i in range(word(p, 9)):
        out, a = row(p, 0, i, zero), row(p, 1, i, zero)
        if word(p, 6) == 1:
            total = zero
            for j in range(n):
                total += load(a, j, zero)
            store(out, 0, load(out, 0, zero) + total)
        else:
            add_row(out, a, n, zero)


@linked
def row_largest(a, n, zero):
    """The largest element, NaN where there is one; -infinity of none."""
    largest = real(-math.inf, zero)
    for j in range(n):
        largest = maximum(load(a, j, zero), largest)
    return largest


@inlined
def row_max(p, zero):
    for i in range(word(p, 5)):
        out = row(p, 0, i, zero)
        largest = row_largest(row(p, 1, i, zero), word(p, 10), zero)
        store(out, 0, load(out, 0, zero) + largest if word(p, 2) != 0 else largest)


@inlined
def transpose(p, zero):
    for i in range(word(p, 5)):
        out = row(p, 0, i, zero)
        a = word(p, 8) + i * itemsize(zero)
        for j in range(word(p, 6)):
            x = load(a, j * word(p, 11), zero)
            store(out, j, load(out, j, zero) + x if word(p, 2) != 0 else x)
