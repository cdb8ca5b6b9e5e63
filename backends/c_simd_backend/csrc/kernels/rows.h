// Rows of tables. Indices have been checked against the tables when they were loaded.
#ifndef WYRM_ROWS_H
#define WYRM_ROWS_H

#include "shapes.h"

enum { FEW = 6 }; // rows of which each pair is compared

static __attribute__((noinline)) void gather_rows(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *table = &instruction->operand[1], *index = &instruction->operand[2];
    const int64_t *rows = index->data;
    for (int64_t i = 0; i < out->rows; i++) {
        const real *from = (const real *)table->data + rows[i * index->stride] * table->stride;
        unary_row(same, row_of(out, i), from, 0, out->cols, instruction->accumulate != 0);
    }
}

// Mostly it is a single row.
static void kernel_gather(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *table = &instruction->operand[1];
    if (out->rows != 1 || instruction->accumulate) {
        gather_rows(instruction);
        return;
    }
    const real *from = (const real *)table->data + *(const int64_t *)instruction->operand[2].data * table->stride;
    if (out->cols == 1)
        *(real *)out->data = *from;
    else
        unary_row(same, out->data, from, 0, out->cols, 0);
}

static void kernel_scatter(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *index = &instruction->operand[1], *from = &instruction->operand[2];
    const int64_t *rows = index->data;
    if (!instruction->accumulate)
        for (int64_t i = 0; i < out->rows; i++) clear_row(row_of(out, i), out->cols);
    for (int64_t i = 0; i < from->rows; i++) {
        real *to = (real *)out->data + rows[i * index->stride] * out->stride;
        unary_row(same, to, row_of(from, i), 0, out->cols, 1);
    }
}

static void kernel_pick(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *from = &instruction->operand[1], *index = &instruction->operand[2];
    const int64_t *columns = index->data;
    for (int64_t i = 0; i < out->rows; i++) {
        const real picked = row_of(from, i)[columns[i * index->stride]];
        real *to = row_of(out, i);
        *to = instruction->accumulate ? *to + picked : picked;
    }
}

static void kernel_place(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *index = &instruction->operand[1], *from = &instruction->operand[2];
    const int64_t *columns = index->data;
    for (int64_t i = 0; i < out->rows; i++) {
        if (!instruction->accumulate) clear_row(row_of(out, i), out->cols);
        row_of(out, i)[columns[i * index->stride]] += *row_of(from, i);
    }
}

// Appends to the list of a gradient; that there is room has been checked before the pass.
static void kernel_accumulate_rows(const Instruction *instruction) {
    Gradient *gradient = instruction->operand[0].data;
    const Operand *index = &instruction->operand[1], *from = &instruction->operand[2];
    const int64_t *rows = index->data;
    for (int64_t i = 0; i < from->rows; i++, gradient->count++) {
        gradient->row_numbers[gradient->count] = rows[i * index->stride];
        real *to = (real *)gradient->row_values + gradient->count * gradient->cols;
        unary_row(same, to, row_of(from, i), 0, gradient->cols, 0);
    }
}

// Whether it is easy to see that the rows of a gradient's list are different ones: they ascend, as in a bag of a matrix in the
// format CSR, or there are few.
INLINE int are_distinct(const Gradient *gradient) {
    const int64_t *rows = gradient->row_numbers, count = gradient->count;
    int64_t ascending = 1;
    while (ascending < count && rows[ascending - 1] < rows[ascending]) ascending++;
    if (ascending >= count) return 1;
    if (count > FEW) return 0;
    for (int64_t i = ascending; i < count; i++)
        for (int64_t j = 0; j < i; j++)
            if (rows[i] == rows[j]) return 0;
    return 1;
}

// Sums the rows that stand more than once in a gradient's list.
static void merge_rows(Gradient *gradient) {
    const int64_t count = gradient->count, cols = gradient->cols;
    if (are_distinct(gradient)) return;
    int64_t mask = gradient->scratch_mask;
    while (mask >> 1 >= 2 * count) mask >>= 1; // no more of the table than these rows need: it has to be cleared
    int32_t *place = gradient->scratch; // place + 1 in the list of the row that hashes here; 0: none
    memset(place, 0, (size_t)(mask + 1) * sizeof *place);
    gradient->count = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = gradient->row_numbers[i];
        const real *values = (const real *)gradient->row_values + i * cols;
        uint64_t cell = ((uint64_t)row * 0x9E3779B97F4A7C15u >> 32) & (uint64_t)mask; // Fibonacci hashing (Knuth, TAOCP 6.4)
        while (place[cell] && gradient->row_numbers[place[cell] - 1] != row) cell = (cell + 1) & (uint64_t)mask;
        if (place[cell]) {
            unary_row(same, (real *)gradient->row_values + (place[cell] - 1) * cols, values, 0, cols, 1);
        } else {
            gradient->row_numbers[gradient->count] = row;
            unary_row(same, (real *)gradient->row_values + gradient->count * cols, values, 0, cols, 0);
            place[cell] = (int32_t)++gradient->count;
        }
    }
}

#endif
