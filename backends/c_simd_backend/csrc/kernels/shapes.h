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

// out = a summed along the axes where out has length 1. A result of one row has stride 0 where a has several, so that all rows of a
// are added to it.
static void kernel_sum(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1];
    if (!instruction->accumulate)
        for (int64_t i = 0; i < out->rows; i++) clear_row(row_of(out, i), out->cols);
    for (int64_t i = 0; i < a->rows; i++) {
        if (out->cols == 1)
            *row_of(out, i) += row_sum(row_of(a, i), a->cols);
        else
            unary_row(same, row_of(out, i), row_of(a, i), 0, a->cols, 1);
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
