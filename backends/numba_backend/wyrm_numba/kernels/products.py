"""Products of matrices and of rows."""

from numba import njit

from wyrm_numba.kernels.elementwise import clear_row, row
from wyrm_numba.options import OPTIONS
from wyrm_numba.words import itemsize, load, store, word


@njit(**OPTIONS)
def row_dot(p, zero):
    single_a, single_b = word(p, 10) == 1, word(p, 14) == 1
    for i in range(word(p, 5)):
        out, a, b = row(p, 0, i, zero), row(p, 1, i, zero), row(p, 2, i, zero)
        total = zero
        if single_a:
            for j in range(word(p, 14)):
                total += load(b, j, zero)
            total *= load(a, 0, zero)
        elif single_b:
            for j in range(word(p, 10)):
                total += load(a, j, zero)
            total *= load(b, 0, zero)
        else:
            for j in range(word(p, 10)):
                total += load(a, j, zero) * load(b, j, zero)
        store(out, 0, load(out, 0, zero) + total if word(p, 2) != 0 else total)


@njit(**OPTIONS)
def matmul(p, zero):
    """By rows of the right operand where they are contiguous in the product, by inner products where it is transposed."""
    rows, cols, attribute = word(p, 5), word(p, 6), word(p, 3)
    transpose_a, transpose_b = attribute & 1, attribute & 2
    depth = word(p, 9) if transpose_a else word(p, 10)
    a_row, a_col = (1, word(p, 11)) if transpose_a else (word(p, 11), 1)
    for i in range(rows):
        out = row(p, 0, i, zero)
        a = word(p, 8) + i * a_row * itemsize(zero)
        if transpose_b:
            for j in range(cols):
                b = row(p, 2, j, zero)
                total = zero
                for k in range(depth):
                    total += load(a, k * a_col, zero) * load(b, k, zero)
                store(out, j, load(out, j, zero) + total if word(p, 2) != 0 else total)
        else:
            if word(p, 2) == 0:
                clear_row(out, cols, zero)
            for k in range(depth):
                x = load(a, k * a_col, zero)
                b = row(p, 2, k, zero)
                for j in range(cols):
                    store(out, j, load(out, j, zero) + x * load(b, j, zero))
