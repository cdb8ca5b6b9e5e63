"""Loops over rows, for whatever moves them about."""

from wyrm_numba.options import linked
from wyrm_numba.words import load, store


@linked
def add_row(out, a, n, zero):
    """Add n elements onto a row."""
    for j in range(n):
        store(out, j, load(out, j, zero) + load(a, j, zero))


@linked
def copy_row(out, a, n, zero):
    """Copy n elements."""
    for j in range(n):
        store(out, j, load(a, j, zero))


@linked
def clear_row(out, n, zero):
    """Set n elements to zero."""
    for j in range(n):
        store(out, j, zero)
