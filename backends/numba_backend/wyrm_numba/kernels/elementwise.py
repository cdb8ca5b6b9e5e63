"""Loops over rows, for elementwise kernels (:mod:`.elements`) and whatever moves rows about."""

from numba import njit

from wyrm_numba.options import OPTIONS
from wyrm_numba.words import itemsize, load, store, word


@njit(**OPTIONS)
def add_row(out, a, n, zero):
    """Add n elements onto a row."""
    for j in range(n):
        store(out, j, load(out, j, zero) + load(a, j, zero))


@njit(**OPTIONS)
def copy_row(out, a, n, zero):
    """Copy n elements."""
    for j in range(n):
        store(out, j, load(a, j, zero))


@njit(**OPTIONS)
def clear_row(out, n, zero):
    """Set n elements to zero."""
    for j in range(n):
        store(out, j, zero)


@njit(**OPTIONS)
def row(p, operand, i, zero):
    """The address of row i of an operand, counted from the result."""
    return word(p, 4 + 4 * operand) + i * word(p, 7 + 4 * operand) * itemsize(zero)


@njit(inline="always", **OPTIONS)
def unary(f, p, zero):
    """The kernel of a function of one element."""
    rows, n = word(p, 5), word(p, 6)
    step_a = 0 if word(p, 10) == 1 else 1
    for i in range(rows):
        out, a = row(p, 0, i, zero), row(p, 1, i, zero)
        if word(p, 2) != 0:
            for j in range(n):
                store(out, j, load(out, j, zero) + f(load(a, j * step_a, zero)))
        elif step_a == 1:
            for j in range(n):
                store(out, j, f(load(a, j, zero)))
        else:
            for j in range(n):
                store(out, j, f(load(a, 0, zero)))


@njit(inline="always", **OPTIONS)
def binary(f, p, zero):
    """The kernel of a function of two elements."""
    rows, n = word(p, 5), word(p, 6)
    step_a, step_b = 0 if word(p, 10) == 1 else 1, 0 if word(p, 14) == 1 else 1
    for i in range(rows):
        out, a, b = row(p, 0, i, zero), row(p, 1, i, zero), row(p, 2, i, zero)
        if word(p, 2) != 0:
            for j in range(n):
                store(out, j, load(out, j, zero) + f(load(a, j * step_a, zero), load(b, j * step_b, zero)))
        elif step_a == 1 and step_b == 1:
            for j in range(n):
                store(out, j, f(load(a, j, zero), load(b, j, zero)))
        elif step_b == 1:
            x = load(a, 0, zero)
            for j in range(n):
                store(out, j, f(x, load(b, j, zero)))
        else:
            x = load(b, 0, zero)
            for j in range(n):
                store(out, j, f(load(a, j * step_a, zero), x))


@njit(inline="always", **OPTIONS)
def ternary(f, p, zero):
    """The kernel of a function of three elements."""
    rows, n = word(p, 5), word(p, 6)
    step_a, step_b = 0 if word(p, 10) == 1 else 1, 0 if word(p, 14) == 1 else 1
    step_c = 0 if word(p, 18) == 1 else 1
    for i in range(rows):
        out, a, b, c = row(p, 0, i, zero), row(p, 1, i, zero), row(p, 2, i, zero), row(p, 3, i, zero)
        if word(p, 2) != 0:
            for j in range(n):
                value = f(load(a, j * step_a, zero), load(b, j * step_b, zero), load(c, j * step_c, zero))
                store(out, j, load(out, j, zero) + value)
        else:
            for j in range(n):
                store(out, j, f(load(a, j * step_a, zero), load(b, j * step_b, zero), load(c, j * step_c, zero)))
