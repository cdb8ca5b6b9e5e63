"""Products of matrices and of rows."""

from wyrm_numba.kernels.elements import add, multiply_add
from wyrm_numba.options import inlined, linked
from wyrm_numba.tiles import dots, tile
from wyrm_numba.vectors import lanes, load_part, many, total
from wyrm_numba.words import itemsize, load, row, store, word

# Tiles of as many sums as processors have registers for, and smaller ones for what is left over.
tile_4_by_2, tile_4_by_1 = tile(4, 2), tile(4, 1)
tile_1_by_8, tile_1_by_2, tile_1_by_1 = tile(1, 8), tile(1, 2), tile(1, 1)
many_dots, four_dots, one_dot = dots(8), dots(4), dots(1)


@inlined
def sum_of(a, n, zero):
    """The sum of n numbers."""
    vector = many(zero)
    sums = vector
    for j in range(0, n, lanes(vector)):
        sums = add(sums, load_part(a, j, n - j, vector))
    return total(sums)


@linked
def dot(a, b, n, zero):
    """The inner product of two rows of n numbers."""
    vector = many(zero)
    first, second, j = vector, vector, 0
    while j + 2 * lanes(vector) <= n:
        first = multiply_add(load(a, j, vector), load(b, j, vector), first)
        second = multiply_add(load(a, j + lanes(vector), vector), load(b, j + lanes(vector), vector), second)
        j += 2 * lanes(vector)
    while j < n:
        first = multiply_add(load_part(a, j, n - j, vector), load_part(b, j, n - j, vector), first)
        j += lanes(vector)
    return total(first) + total(second)


@inlined
def row_dot(p, zero):
    single_a, single_b = word(p, 10) == 1, word(p, 14) == 1
    for i in range(word(p, 5)):
        out, a, b = row(p, 0, i, zero), row(p, 1, i, zero), row(p, 2, i, zero)
        if single_a:
            result = sum_of(b, word(p, 14), zero) * load(a, 0, zero)
        elif single_b:
            result = sum_of(a, word(p, 10), zero) * load(b, 0, zero)
        else:
            result = dot(a, b, word(p, 10), zero)
        store(out, 0, load(out, 0, zero) + result if word(p, 2) != 0 else result)


@inlined
def one_row(out, a, a_col, b, b_row, depth, cols, accumulate, zero):
    """A row of a product."""
    vector, size = many(zero), itemsize(zero)
    step, j = lanes(vector), 0
    while j + 8 * step <= cols:
        tile_1_by_8(out + j * size, 0, a, 0, a_col, b + j * size, b_row, depth, step, accumulate, vector)
        j += 8 * step
    while j + 2 * step <= cols:
        tile_1_by_2(out + j * size, 0, a, 0, a_col, b + j * size, b_row, depth, step, accumulate, vector)
        j += 2 * step
    while j < cols:
        tile_1_by_1(out + j * size, 0, a, 0, a_col, b + j * size, b_row, depth, cols - j, accumulate, vector)
        j += step


@inlined
def four_rows(out, out_row, a, a_row, a_col, b, b_row, depth, cols, accumulate, zero):
    """Four rows of a product."""
    vector, size = many(zero), itemsize(zero)
    step, j = lanes(vector), 0
    while j + 2 * step <= cols:
        tile_4_by_2(out + j * size, out_row, a, a_row, a_col, b + j * size, b_row, depth, step, accumulate, vector)
        j += 2 * step
    while j < cols:
        tile_4_by_1(out + j * size, out_row, a, a_row, a_col, b + j * size, b_row, depth, cols - j, accumulate, vector)
        j += step


@inlined
def inner_products(out, a, b, b_row, depth, cols, accumulate, zero):
    """A row of a product with a transposed matrix."""
    vector, size = many(zero), itemsize(zero)
    j = 0
    while j + 8 <= cols:
        many_dots(out + j * size, a, b + j * b_row, b_row, depth, accumulate, vector)
        j += 8
    while j + 4 <= cols:
        four_dots(out + j * size, a, b + j * b_row, b_row, depth, accumulate, vector)
        j += 4
    while j < cols:
        one_dot(out + j * size, a, b + j * b_row, b_row, depth, accumulate, vector)
        j += 1


@inlined
def gathered_products(out, a, a_col, b, b_row, depth, cols, accumulate, zero):
    """A row of a product of two transposed matrices."""
    for j in range(cols):
        result = zero
        for k in range(depth):
            result += load(a + k * a_col, 0, zero) * load(b + j * b_row, k, zero)
        store(out, j, load(out, j, zero) + result if accumulate != 0 else result)


@inlined
def matmul(p, zero):
    rows, cols, accumulate, size = word(p, 5), word(p, 6), word(p, 2), itemsize(zero)
    transpose_a, transpose_b = word(p, 3) & 1, word(p, 3) & 2
    depth = word(p, 9) if transpose_a else word(p, 10)
    a_row, a_col = (size, word(p, 11) * size) if transpose_a else (word(p, 11) * size, size)
    out, a, b = word(p, 4), word(p, 8), word(p, 12)
    out_row, b_row = word(p, 7) * size, word(p, 15) * size
    if depth == 1 and b_row == size:
        transpose_b = 0  # a column without gaps is a row
    i = 0
    if not transpose_b:
        while i + 4 <= rows:
            four_rows(out + i * out_row, out_row, a + i * a_row, a_row, a_col, b, b_row, depth, cols, accumulate, zero)
            i += 4
    while i < rows:
        if not transpose_b:
            one_row(out + i * out_row, a + i * a_row, a_col, b, b_row, depth, cols, accumulate, zero)
        elif a_col == size:
            inner_products(out + i * out_row, a + i * a_row, b, b_row, depth, cols, accumulate, zero)
        else:
            gathered_products(out + i * out_row, a + i * a_row, a_col, b, b_row, depth, cols, accumulate, zero)
        i += 1
