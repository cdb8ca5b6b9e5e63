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

// `count` vectors of columns, 2 at most. What belongs together lies n columns apart: in the gates f, i, o, g; in the result h, c,
// f, i, o, g, tanh(c). The new cells wait for the gates: those of the other vector are computed meanwhile.
INLINE void lstm_cell_at(real *out, const real *gates, const real *cell, int64_t n, int count, int64_t part, int accumulate) {
    vec f[2], i[2], o[2], g[2];
    UNROLLED
    for (int v = 0; v < count; v++) {
        const real *from = gates + v * LANES;
        f[v] = logistic(load_up_to(from, part)), i[v] = logistic(load_up_to(from + n, part));
        o[v] = logistic(load_up_to(from + 2 * n, part)), g[v] = hyperbolic_tangent(load_up_to(from + 3 * n, part));
    }
    UNROLLED
    for (int v = 0; v < count; v++) {
        const vec c = f[v] * load_up_to(cell + v * LANES, part) + i[v] * g[v], bounded = hyperbolic_tangent(c);
        const vec results[] = {o[v] * bounded, c, f[v], i[v], o[v], g[v], bounded};
        for (int k = 0; k < 7; k++) put_up_to(out + k * n + v * LANES, results[k], part, accumulate);
    }
}

// The same for the derivative, by those by h and c: in the result those by the gates f, i, o, g and the old cell.
INLINE void lstm_cell_vjp_at(
    real *out, const real *by_h, const real *by_c, const real *saved, const real *cell, int64_t n, int64_t part, int accumulate) {
    const vec f = load_up_to(saved + 2 * n, part), i = load_up_to(saved + 3 * n, part), o = load_up_to(saved + 4 * n, part);
    const vec g = load_up_to(saved + 5 * n, part), bounded = load_up_to(saved + 6 * n, part);
    const vec dh = load_up_to(by_h, part), dc = load_up_to(by_c, part) + dh * o * tangent_slope(bounded);
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
        for (; j + 2 * LANES <= n; j += 2 * LANES) lstm_cell_at(to + j, z + j, c + j, n, 2, 0, accumulate);
        for (; j + LANES <= n; j += LANES) lstm_cell_at(to + j, z + j, c + j, n, 1, 0, accumulate);
        if (j < n) lstm_cell_at(to + j, z + j, c + j, n, 1, n - j, accumulate);
    }
}

static void kernel_lstm_cell_vjp(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *by_h = &instruction->operand[1], *by_c = &instruction->operand[2];
    const Operand *saved = &instruction->operand[3], *cell = &instruction->operand[4];
    const int64_t n = cell->cols;
    const int accumulate = instruction->accumulate != 0;
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *h = row_of(by_h, i), *d = row_of(by_c, i), *s = row_of(saved, i), *c = row_of(cell, i);
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) lstm_cell_vjp_at(to + j, h + j, d + j, s + j, c + j, n, 0, accumulate);
        if (j < n) lstm_cell_vjp_at(to + j, h + j, d + j, s + j, c + j, n, n - j, accumulate);
    }
}

#endif
