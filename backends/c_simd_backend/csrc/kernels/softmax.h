// Kernels that normalise rows of exponentials.
#ifndef WYRM_SOFTMAX_H
#define WYRM_SOFTMAX_H

#include "shapes.h"

// The sum of exp(x - largest) over a row.
INLINE real exponential_sum(const real *row, real largest, int64_t n) {
    vec sum = {0};
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) sum += exponential(load(row + j) - largest);
    if (j < n) sum += exponential(load_part_or(row + j, n - j, -INFINITY) - largest);
    return lane_sum(sum);
}

INLINE real log_of(real x) { return logarithm((vec){x})[0]; }

static void kernel_logsumexp(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1];
    for (int64_t i = 0; i < out->rows; i++) {
        const real largest = row_largest(row_of(a, i), a->cols), shift = isfinite(largest) ? largest : 0;
        const real result = shift + log_of(exponential_sum(row_of(a, i), shift, a->cols));
        *row_of(out, i) = instruction->accumulate ? *row_of(out, i) + result : result;
    }
}

static void kernel_softmax(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1];
    const int64_t n = out->cols;
    const int accumulate = instruction->accumulate != 0;
    for (int64_t i = 0; i < out->rows; i++) {
        const real *from = row_of(a, i);
        real *to = row_of(out, i);
        const real largest = row_largest(from, n);
        const vec sum = splat(exponential_sum(from, largest, n));
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) put(to + j, exponential(load(from + j) - largest) / sum, accumulate);
        if (j < n) put_part(to + j, exponential(load_part(from + j, n - j) - largest) / sum, n - j, accumulate);
    }
}

#endif
