// Bags: any number of rows of a table, pooled to one.
#ifndef WYRM_BAGS_H
#define WYRM_BAGS_H

#include "rows.h"

// How the weights of a bag become shares: times a factor, and divided by a number of which the reciprocal is too large.
typedef struct {
    real factor, divisor;
} Shares;

// Those of a mean are divided by their sum; if they cancel, all shares are 0, and if it is infinite, NaN.
INLINE Shares bag_shares(const Bag *bag, int64_t number, int64_t mean) {
    if (!mean) return (Shares){1, 1};
    real sum = 0, size = 0;
    for (int64_t i = bag->offsets[number]; i < bag->offsets[number + 1]; i++) {
        const real weight = ((const real *)bag->weights)[i];
        sum += weight;
        size += weight < 0 ? -weight : weight;
    }
    const real distance = sum < 0 ? -sum : sum, factor = 1 / sum;
    if (distance <= EPSILON * size && size < (real)INFINITY) return (Shares){0, 1};
    if (factor == 0) return (Shares){(real)NAN, 1};
    return isinf(factor) ? (Shares){1, sum} : (Shares){factor, 1};
}

INLINE real bag_share(const Bag *bag, int64_t i, Shares shares) {
    const real weight = ((const real *)bag->weights)[i];
    return shares.divisor == 1 ? shares.factor * weight : weight / shares.divisor;
}

// What a bag comes to where rows are single numbers.
INLINE real bag_number(const Operand *table, const Bag *bag, int64_t number, Shares shares) {
    real sum = 0;
    for (int64_t i = bag->offsets[number]; i < bag->offsets[number + 1]; i++)
        sum += bag_share(bag, i, shares) * *row_of(table, bag->indices[i]);
    return sum;
}

static void kernel_gather_bag(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *table = &instruction->operand[1];
    const Bag *bag = instruction->operand[2].data;
    const int64_t mean = instruction->attribute;
    for (int64_t b = 0; b < bag->bags; b++) {
        const Shares shares = bag_shares(bag, b, mean);
        if (!instruction->accumulate) clear_row(row_of(out, b), out->cols);
        if (out->cols == 1) {
            *row_of(out, b) += bag_number(table, bag, b, shares);
            continue;
        }
        for (int64_t i = bag->offsets[b]; i < bag->offsets[b + 1]; i++)
            add_scaled(row_of(out, b), bag_share(bag, i, shares), row_of(table, bag->indices[i]), out->cols);
    }
}

static void kernel_scatter_bag(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *from = &instruction->operand[2];
    const Bag *bag = instruction->operand[1].data;
    const int64_t mean = instruction->attribute;
    if (!instruction->accumulate)
        for (int64_t i = 0; i < out->rows; i++) clear_row(row_of(out, i), out->cols);
    for (int64_t b = 0; b < bag->bags; b++) {
        const Shares shares = bag_shares(bag, b, mean);
        for (int64_t i = bag->offsets[b]; i < bag->offsets[b + 1]; i++)
            add_scaled(row_of(out, bag->indices[i]), bag_share(bag, i, shares), row_of(from, b), out->cols);
    }
}

// Appends to the list of a gradient; that there is room has been checked before the pass.
static void kernel_accumulate_bag(const Instruction *instruction) {
    Gradient *gradient = instruction->operand[0].data;
    const Bag *bag = instruction->operand[1].data;
    const Operand *from = &instruction->operand[2];
    const int64_t cols = gradient->cols, mean = instruction->attribute;
    for (int64_t b = 0; b < bag->bags; b++) {
        const Shares shares = bag_shares(bag, b, mean);
        const real *row = row_of(from, b);
        const int64_t begin = bag->offsets[b], count = bag->offsets[b + 1] - begin;
        real *to = (real *)gradient->row_values + gradient->count * cols;
        if (!count) continue; // there may be no memory for rows either
        memcpy(gradient->row_numbers + gradient->count, bag->indices + begin, (size_t)count * sizeof *bag->indices);
        gradient->count += count;
        if (cols == 1)
            for (int64_t i = 0; i < count; i++) to[i] = bag_share(bag, begin + i, shares) * *row;
        else
            for (int64_t i = 0; i < count; i++) scaled_row(to + i * cols, bag_share(bag, begin + i, shares), row, cols);
    }
}

#endif
