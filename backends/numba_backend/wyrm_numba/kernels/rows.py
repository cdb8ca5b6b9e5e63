"""Rows of tables. Indices have been checked against the tables when they were loaded."""

from numba import int32

from wyrm_numba.kernels.elementwise import add_row, copy_row, fill_row
from wyrm_numba.options import inlined, linked
from wyrm_numba.words import itemsize, load, row, store, word

# Of so many rows, each pair is compared.
FEW = 6
# The words of a gradient's header.
TOUCHED, DENSE, COUNT, NUMBERS, VALUES, SCRATCH, MASK, ROWS, COLS, STEPS, DOUBT = 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11


@inlined
def gather(p, zero):
    index, cols, accumulate = word(p, 12), word(p, 6), word(p, 2) != 0
    for i in range(word(p, 5)):
        out, table_row = row(p, 0, i, zero), row(p, 1, word(index, i * word(p, 15)), zero)
        if accumulate:
            add_row(out, table_row, cols, zero)
        else:
            copy_row(out, table_row, cols, zero)


@inlined
def scatter(p, zero):
    if word(p, 2) == 0:
        for i in range(word(p, 5)):
            fill_row(row(p, 0, i, zero), word(p, 6), zero)
    index = word(p, 8)
    for i in range(word(p, 13)):
        add_row(row(p, 0, word(index, i * word(p, 11)), zero), row(p, 2, i, zero), word(p, 6), zero)


@inlined
def pick(p, zero):
    index = word(p, 12)
    for i in range(word(p, 5)):
        out, picked = row(p, 0, i, zero), load(row(p, 1, i, zero), word(index, i * word(p, 15)), zero)
        store(out, 0, load(out, 0, zero) + picked if word(p, 2) != 0 else picked)


@inlined
def place(p, zero):
    index = word(p, 8)
    for i in range(word(p, 5)):
        out = row(p, 0, i, zero)
        if word(p, 2) == 0:
            fill_row(out, word(p, 6), zero)
        column = word(index, i * word(p, 11))
        store(out, column, load(out, column, zero) + load(row(p, 2, i, zero), 0, zero))


@inlined
def accumulate_rows(p, zero):
    """Appends to the list of a gradient; that there is room has been checked before the pass."""
    gradient, index = word(p, 4), word(p, 8)
    cols = word(gradient, COLS)
    count = word(gradient, COUNT)
    for i in range(word(p, 13)):
        store(word(gradient, NUMBERS), count + i, word(index, i * word(p, 11)))
        to = word(gradient, VALUES) + (count + i) * cols * itemsize(zero)
        copy_row(to, row(p, 2, i, zero), cols, zero)
    store(gradient, COUNT, count + word(p, 13))


@linked
def are_distinct(numbers, count):
    """Whether it is easy to see that rows are different ones: they ascend, or there are few."""
    ascending = 1
    while ascending < count and word(numbers, ascending - 1) < word(numbers, ascending):
        ascending += 1
    if ascending >= count:
        return True
    if count > FEW:
        return False
    for i in range(ascending, count):
        for j in range(i):
            if word(numbers, i) == word(numbers, j):
                return False
    return True


@linked
def merge_rows(gradient, zero):
    """Sums the rows that stand more than once in a gradient's list."""
    count, cols, mask = word(gradient, COUNT), word(gradient, COLS), word(gradient, MASK)
    if are_distinct(word(gradient, NUMBERS), count):
        return
    while mask >> 1 >= 2 * count:  # no more of the table than these rows need: it has to be cleared
        mask >>= 1
    numbers, values, place = word(gradient, NUMBERS), word(gradient, VALUES), word(gradient, SCRATCH)
    for cell in range((mask + 1) // 2):  # two int32 at a time
        store(place, cell, 0)
    distinct = 0
    for i in range(count):
        number = word(numbers, i)
        start = values + i * cols * itemsize(zero)
        # Fibonacci hashing (Knuth, TAOCP 6.4)
        cell = ((number * -7046029254386353131) >> 32) & mask
        while load(place, cell, int32(0)) != 0 and word(numbers, load(place, cell, int32(0)) - 1) != number:
            cell = (cell + 1) & mask
        known = load(place, cell, int32(0))
        if known != 0:
            add_row(values + (known - 1) * cols * itemsize(zero), start, cols, zero)
        else:
            store(numbers, distinct, number)
            copy_row(values + distinct * cols * itemsize(zero), start, cols, zero)
            distinct += 1
            store(place, cell, int32(distinct))
    store(gradient, COUNT, distinct)
