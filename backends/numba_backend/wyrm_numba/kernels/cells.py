"""Kernels of recurrent cells: a whole step, and its derivative, in one pass over the columns of the cell.

What belongs together lies as many columns apart as the cell has.
"""

import math

from numba import njit

from wyrm_numba.kernels.elements import sigmoid
from wyrm_numba.kernels.elementwise import row
from wyrm_numba.options import OPTIONS
from wyrm_numba.words import load, real, store, word


@njit(**OPTIONS)
def put(out, j, value, accumulate, zero):
    """Store an element, or add it."""
    store(out, j, load(out, j, zero) + value if accumulate != 0 else value)


@njit(**OPTIONS)
def lstm_cell(p, zero):
    n, accumulate = word(p, 14), word(p, 2)
    for r in range(word(p, 5)):
        out, gates, cell = row(p, 0, r, zero), row(p, 1, r, zero), row(p, 2, r, zero)
        for j in range(n):
            f = sigmoid(load(gates, j, zero))
            i = sigmoid(load(gates, n + j, zero))
            o = sigmoid(load(gates, 2 * n + j, zero))
            g = math.tanh(load(gates, 3 * n + j, zero))
            c = f * load(cell, j, zero) + i * g
            bounded = math.tanh(c)
            put(out, j, o * bounded, accumulate, zero)
            put(out, n + j, c, accumulate, zero)
            put(out, 2 * n + j, f, accumulate, zero)
            put(out, 3 * n + j, i, accumulate, zero)
            put(out, 4 * n + j, o, accumulate, zero)
            put(out, 5 * n + j, g, accumulate, zero)
            put(out, 6 * n + j, bounded, accumulate, zero)


@njit(**OPTIONS)
def lstm_cell_vjp(p, zero):
    n, accumulate, one = word(p, 18), word(p, 2), real(1, zero)
    for r in range(word(p, 5)):
        out, gradient, saved, cell = row(p, 0, r, zero), row(p, 1, r, zero), row(p, 2, r, zero), row(p, 3, r, zero)
        for j in range(n):
            f = load(saved, 2 * n + j, zero)
            i = load(saved, 3 * n + j, zero)
            o = load(saved, 4 * n + j, zero)
            g = load(saved, 5 * n + j, zero)
            bounded = load(saved, 6 * n + j, zero)
            dh = load(gradient, j, zero)
            dc = load(gradient, n + j, zero) + dh * o * (one - bounded * bounded)
            put(out, j, dc * load(cell, j, zero) * f * (one - f), accumulate, zero)
            put(out, n + j, dc * g * i * (one - i), accumulate, zero)
            put(out, 2 * n + j, dh * bounded * o * (one - o), accumulate, zero)
            put(out, 3 * n + j, dc * i * (one - g * g), accumulate, zero)
            put(out, 4 * n + j, dc * f, accumulate, zero)
