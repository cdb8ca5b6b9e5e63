// Kernels of recurrent cells: a whole step, and its derivative, in one pass over the columns of the cell.
#ifndef WYRM_CELLS_H
#define WYRM_CELLS_H

#include "elementwise.h"

// A vector, or where `part` is not 0, its first `part` elements. The flag is a constant in the loops over whole vectors.
INLINE vec load_up_to(const real *from, int64_t part) { return part ? load_part(from, part) : load(from); }
INLINE void put_up_to(real *to, vec v, int64_t part, int accumulate) {
    if (part)
        put_part(to, v, part, accumulate);
    else
        put(to, v, accumulate);
}

// The derivatives of sigmoid and tanh, by their values.
INLINE vec logistic_slope(vec y) { return y * (1 - y); }
INLINE vec tangent_slope(vec y) { return 1 - y * y; }

// One vector of columns. What belongs together lies n columns apart: in the gates f, i, o, g; in the result h, c, f, i, o, g,
// tanh(c).
INLINE void lstm_cell_at(real *out, const real *gates, const real *cell, int64_t n, int64_t part, int accumulate) {
    const vec f = logistic(load_up_to(gates, part)), i = logistic(load_up_to(gates + n, part));
    const vec o = logistic(load_up_to(gates + 2 * n, part)), g = hyperbolic_tangent(load_up_to(gates + 3 * n, part));
    const vec c = f * load_up_to(cell, part) + i * g, bounded = hyperbolic_tangent(c);
    const vec results[] = {o * bounded, c, f, i, o, g, bounded};
    for (int k = 0; k < 7; k++) put_up_to(out + k * n, results[k], part, accumulate);
}

// The same for the derivative: in the gradient those by h, c; in the result those by the gates f, i, o, g and the old cell.
INLINE void lstm_cell_vjp_at(
    real *out, const real *gradient, const real *saved, const real *cell, int64_t n, int64_t part, int accumulate) {
    const vec f = load_up_to(saved + 2 * n, part), i = load_up_to(saved + 3 * n, part), o = load_up_to(saved + 4 * n, part);
    const vec g = load_up_to(saved + 5 * n, part), bounded = load_up_to(saved + 6 * n, part);
    const vec dh = load_up_to(gradient, part), dc = load_up_to(gradient + n, part) + dh * o * tangent_slope(bounded);
    const vec results[] = {
        dc * load_up_to(cell, part) * logistic_slope(f),
        dc * g * logistic_slope(i),
        dh * bounded * logistic_slope(o),
        dc * i * tangent_slope(g),
        dc * f,
    };
    for (int k = 0; k < 5; k++) put_up_to(out + k * n, results[k], part, accumulate);
}

static void kernel_lstm_cell(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *gates = &instruction->operand[1], *cell = &instruction->operand[2];
    const int64_t n = cell->cols;
    const int accumulate = instruction->accumulate != 0;
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *z = row_of(gates, i), *c = row_of(cell, i);
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) lstm_cell_at(to + j, z + j, c + j, n, 0, accumulate);
        if (j < n) lstm_cell_at(to + j, z + j, c + j, n, n - j, accumulate);
    }
}

static void kernel_lstm_cell_vjp(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *gradient = &instruction->operand[1];
    const Operand *saved = &instruction->operand[2], *cell = &instruction->operand[3];
    const int64_t n = cell->cols;
    const int accumulate = instruction->accumulate != 0;
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *d = row_of(gradient, i), *s = row_of(saved, i), *c = row_of(cell, i);
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) lstm_cell_vjp_at(to + j, d + j, s + j, c + j, n, 0, accumulate);
        if (j < n) lstm_cell_vjp_at(to + j, d + j, s + j, c + j, n, n - j, accumulate);
    }
}

#endif
