// Kernels that change the shape: sums and maxima along axes, transposition.
#ifndef WYRM_SHAPES_H
#define WYRM_SHAPES_H

#include "elementwise.h"

INLINE real row_sum(const real *row, int64_t n) {
    vec sum = {0};
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) sum += load(row + j);
    if (j < n) sum += load_part(row + j, n - j);
    return lane_sum(sum);
}

// The largest element, NaN where there is one; -infinity of none.
INLINE real row_largest(const real *row, int64_t n) {
    vec largest = splat(-INFINITY);
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) largest = element_maximum(largest, load(row + j));
    if (j < n) largest = element_maximum(largest, load_part_or(row + j, n - j, -INFINITY));
    return lanes_folded(largest, element_maximum)[0];
}

INLINE void clear_row(real *row, int64_t n) { memset(row, 0, (size_t)n * sizeof(real)); }

// The sum of `rows` rows, `width` vectors of columns; the last may be a part.
INLINE void sum_of_rows(real *to, const real *from, int64_t stride, int64_t rows, int width, int64_t part, int accumulate) {
    vec sum[4];
    UNROLLED
    for (int w = 0; w < width; w++)
        sum[w] = !accumulate ? (vec){0} : part ? load_part(to, part) : load(to + w * LANES);
    for (int64_t i = 0; i < rows; i++, from += stride)
        UNROLLED
        for (int w = 0; w < width; w++) sum[w] += part ? load_part(from, part) : load(from + w * LANES);
    UNROLLED
    for (int w = 0; w < width; w++)
        if (part)
            store_part(to, sum[w], part);
        else
            store(to + w * LANES, sum[w]);
}

// out = a summed along the axes where out has length 1.
static void kernel_sum(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1];
    const int accumulate = instruction->accumulate != 0;
    const int64_t n = out->cols, rows = out->rows == 1 ? a->rows : 1; // to be summed for each row of the result
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *from = row_of(a, i);
        if (n == 1) {
            real sum = accumulate ? *to : 0;
            for (int64_t k = 0; k < rows; k++) sum += row_sum(from + k * a->stride, a->cols);
            *to = sum;
            continue;
        }
        int64_t j = 0;
        for (; j + 4 * LANES <= n; j += 4 * LANES) sum_of_rows(to + j, from + j, a->stride, rows, 4, 0, accumulate);
        for (; j + LANES <= n; j += LANES) sum_of_rows(to + j, from + j, a->stride, rows, 1, 0, accumulate);
        if (j < n) sum_of_rows(to + j, from + j, a->stride, rows, 1, n - j, accumulate);
    }
}

static void kernel_row_max(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1];
    for (int64_t i = 0; i < out->rows; i++) {
        const real largest = row_largest(row_of(a, i), a->cols);
        *row_of(out, i) = instruction->accumulate ? *row_of(out, i) + largest : largest;
    }
}

static void kernel_transpose(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1];
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *from = (const real *)a->data + i;
        for (int64_t j = 0; j < out->cols; j++) to[j] = (instruction->accumulate ? to[j] : 0) + from[j * a->stride];
    }
}

#endif
