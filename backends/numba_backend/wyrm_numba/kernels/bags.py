"""Bags: any number of rows of a table, pooled to one."""

import math

from wyrm_numba.kernels.elementwise import add_scaled, fill_row, scaled_row
from wyrm_numba.kernels.rows import COLS, COUNT, NUMBERS, VALUES
from wyrm_numba.options import inlined, linked
from wyrm_numba.words import itemsize, load, real, row, store, word

# The words of a bag buffer's header.
BAG_COUNT, BAG_CAPACITY, BAGS, INDICES, OFFSETS, WEIGHTS, BAG_DTYPE, PLACES = range(8)


@linked
def shares(bag, number, mean, zero):
    """What weights are multiplied with and divided by: ones; for a mean 1 over their sum, or their sum if it is too small.

    If weights cancel, they are multiplied with 0; if their sum is infinite, with NaN.
    """
    one = real(1, zero)
    if mean == 0:
        return one, one
    total = size = zero
    for i in range(word(word(bag, OFFSETS), number), word(word(bag, OFFSETS), number + 1)):
        weight = load(word(bag, WEIGHTS), i, zero)
        total += weight
        size += abs(weight)
    epsilon = real(2.0**-52, zero) if itemsize(zero) == 8 else real(2.0**-23, zero)
    if abs(total) <= epsilon * size and size < real(math.inf, zero):
        return zero, one
    factor = one / total
    if factor == zero:
        return real(math.nan, zero), one
    return (one, total) if abs(factor) == real(math.inf, zero) else (factor, one)


@inlined
def share(bag, i, factor, divisor, zero):
    """The share that an index has of its bag."""
    weight = load(word(bag, WEIGHTS), i, zero)
    return factor * weight if divisor == real(1, zero) else weight / divisor


@inlined
def gather_bag(p, zero):
    bag, offsets = word(p, 12), word(word(p, 12), OFFSETS)
    for b in range(word(bag, BAGS)):
        factor, divisor = shares(bag, b, word(p, 3), zero)
        out = row(p, 0, b, zero)
        if word(p, 2) == 0:
            fill_row(out, word(p, 6), zero)
        for i in range(word(offsets, b), word(offsets, b + 1)):
            weight = share(bag, i, factor, divisor, zero)
            add_scaled(out, weight, row(p, 1, word(word(bag, INDICES), i), zero), word(p, 6), zero)


@inlined
def scatter_bag(p, zero):
    bag, offsets = word(p, 8), word(word(p, 8), OFFSETS)
    if word(p, 2) == 0:
        for i in range(word(p, 5)):
            fill_row(row(p, 0, i, zero), word(p, 6), zero)
    for b in range(word(bag, BAGS)):
        factor, divisor = shares(bag, b, word(p, 3), zero)
        for i in range(word(offsets, b), word(offsets, b + 1)):
            weight = share(bag, i, factor, divisor, zero)
            add_scaled(row(p, 0, word(word(bag, INDICES), i), zero), weight, row(p, 2, b, zero), word(p, 6), zero)


@inlined
def accumulate_bag(p, zero):
    """Appends to the list of a gradient; that there is room has been checked before the pass."""
    gradient, bag, offsets = word(p, 4), word(p, 8), word(word(p, 8), OFFSETS)
    cols, count = word(gradient, COLS), word(gradient, COUNT)
    for b in range(word(bag, BAGS)):
        factor, divisor = shares(bag, b, word(p, 3), zero)
        for i in range(word(offsets, b), word(offsets, b + 1)):
            to = word(gradient, VALUES) + count * cols * itemsize(zero)
            store(word(gradient, NUMBERS), count, word(word(bag, INDICES), i))
            scaled_row(to, share(bag, i, factor, divisor, zero), row(p, 2, b, zero), cols, zero)
            count += 1
    store(gradient, COUNT, count)
