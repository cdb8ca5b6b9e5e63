"""Loops over rows, for whatever moves them about.

Rows are short, and the compiler cannot see that they do not overlap: vectors are written out.
"""

from wyrm_numba.kernels import elements
from wyrm_numba.options import linked
from wyrm_numba.vectors import lanes, load_part, many, store_part
from wyrm_numba.words import load, store


@linked
def add_row(out, a, n, zero):
    """Add n elements onto a row."""
    vector = many(zero)
    size, left = lanes(vector), n % lanes(vector)
    if n == 1:
        store(out, 0, load(out, 0, zero) + load(a, 0, zero))
        return
    for j in range(0, n - left, size):
        store(out, j, elements.add(load(out, j, vector), load(a, j, vector)))
    if left > 0:
        j = n - left
        store_part(out, j, left, elements.add(load_part(out, j, left, vector), load_part(a, j, left, vector)))


@linked
def add_scaled(out, scale, a, n, zero):
    """Add a multiple of n elements onto a row."""
    vector, factor = many(zero), many(scale)
    size, left = lanes(vector), n % lanes(vector)
    if n == 1:
        store(out, 0, load(out, 0, zero) + scale * load(a, 0, zero))
        return
    for j in range(0, n - left, size):
        store(out, j, elements.multiply_add(factor, load(a, j, vector), load(out, j, vector)))
    if left > 0:
        j = n - left
        sums = elements.multiply_add(factor, load_part(a, j, left, vector), load_part(out, j, left, vector))
        store_part(out, j, left, sums)


@linked
def scaled_row(out, scale, a, n, zero):
    """A multiple of n elements."""
    vector, factor = many(zero), many(scale)
    size, left = lanes(vector), n % lanes(vector)
    if n == 1:
        store(out, 0, scale * load(a, 0, zero))
        return
    for j in range(0, n - left, size):
        store(out, j, elements.multiply(factor, load(a, j, vector)))
    if left > 0:
        j = n - left
        store_part(out, j, left, elements.multiply(factor, load_part(a, j, left, vector)))


@linked
def copy_row(out, a, n, zero):
    """Copy n elements."""
    vector = many(zero)
    size, left = lanes(vector), n % lanes(vector)
    if n == 1:
        store(out, 0, load(a, 0, zero))
        return
    for j in range(0, n - left, size):
        store(out, j, load(a, j, vector))
    if left > 0:
        store_part(out, n - left, left, load_part(a, n - left, left, vector))


@linked
def fill_row(out, n, number):
    """Set n elements to a number."""
    vector = many(number)
    size, left = lanes(vector), n % lanes(vector)
    for j in range(0, n - left, size):
        store(out, j, vector)
    if left > 0:
        store_part(out, n - left, left, vector)
