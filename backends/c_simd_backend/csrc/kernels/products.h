// Products of matrices and of rows.
#ifndef WYRM_PRODUCTS_H
#define WYRM_PRODUCTS_H

#include "elementwise.h"

// The sum of products of two rows of n elements.
INLINE real dot(const real *a, const real *b, int64_t n) {
    vec even = {0}, odd = {0}; // two sums: one would wait for itself
    int64_t j = 0;
    for (; j + 2 * LANES <= n; j += 2 * LANES) {
        even += load(a + j) * load(b + j);
        odd += load(a + j + LANES) * load(b + j + LANES);
    }
    for (; j + LANES <= n; j += LANES) even += load(a + j) * load(b + j);
    if (j < n) odd += load_part(a + j, n - j) * load_part(b + j, n - j);
    return lane_sum(even + odd);
}

static void kernel_row_dot(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1], *b = &instruction->operand[2];
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *from_a = row_of(a, i), *from_b = row_of(b, i);
        real product;
        if (a->cols == b->cols) {
            product = dot(from_a, from_b, a->cols);
        } else { // one of them has a single column
            const Operand *wide = a->cols == 1 ? b : a;
            const real *row = a->cols == 1 ? from_b : from_a;
            product = 0;
            for (int64_t j = 0; j < wide->cols; j++) product += row[j];
            product *= a->cols == 1 ? *from_a : *from_b;
        }
        *to = instruction->accumulate ? *to + product : product;
    }
}

// The elements of the left factor: element (i, p) is data[i * row + p * col].
typedef struct {
    const real *data;
    int64_t row, col;
} Left;

// A block of the product, `height` rows by `width` vectors, kept in registers while p runs; the last vector may be a part.
INLINE void product_block(
    real *out, int64_t stride, Left a, const real *b, int64_t b_stride, int64_t depth, int height, int width, int64_t part,
    int accumulate) {
    vec sum[4][4];
    for (int i = 0; i < height; i++)
        for (int w = 0; w < width; w++) sum[i][w] = (vec){0};
    for (int64_t p = 0; p < depth; p++, b += b_stride) {
        vec row[4];
        for (int w = 0; w < width; w++) row[w] = w == width - 1 && part ? load_part(b + w * LANES, part) : load(b + w * LANES);
        for (int i = 0; i < height; i++) {
            const real factor = a.data[i * a.row + p * a.col];
            for (int w = 0; w < width; w++) sum[i][w] += factor * row[w];
        }
    }
    for (int i = 0; i < height; i++)
        for (int w = 0; w < width; w++) {
            real *to = out + i * stride + w * LANES;
            if (w == width - 1 && part)
                put_part(to, sum[i][w], part, accumulate);
            else
                put(to, sum[i][w], accumulate);
        }
}

// `height` rows of the product with a right factor whose rows are contiguous.
INLINE void product_rows(
    real *out, int64_t stride, Left a, const real *b, int64_t b_stride, int64_t depth, int64_t n, int height, int accumulate) {
    int64_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES)
        product_block(out + j, stride, a, b + j, b_stride, depth, height, 4, 0, accumulate);
    for (; j + LANES <= n; j += LANES) product_block(out + j, stride, a, b + j, b_stride, depth, height, 1, 0, accumulate);
    if (j < n) product_block(out + j, stride, a, b + j, b_stride, depth, height, 1, n - j, accumulate);
}

static void kernel_matmul(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1], *b = &instruction->operand[2];
    const int transpose_a = instruction->attribute & 1, transpose_b = instruction->attribute & 2;
    const int accumulate = instruction->accumulate != 0;
    const int64_t depth = transpose_a ? a->rows : a->cols;
    Left left = {a->data, transpose_a ? 1 : a->stride, transpose_a ? a->stride : 1};
    if (!transpose_b) {
        int64_t i = 0;
        for (; i + 4 <= out->rows; i += 4, left.data += 4 * left.row)
            product_rows(row_of(out, i), out->stride, left, b->data, b->stride, depth, out->cols, 4, accumulate);
        for (; i < out->rows; i++, left.data += left.row)
            product_rows(row_of(out, i), out->stride, left, b->data, b->stride, depth, out->cols, 1, accumulate);
        return;
    }
    for (int64_t i = 0; i < out->rows; i++, left.data += left.row) {
        real *to = row_of(out, i);
        for (int64_t j = 0; j < out->cols; j++) {
            const real *row = row_of(b, j);
            real product = 0;
            if (left.col == 1)
                product = dot(left.data, row, depth);
            else
                for (int64_t p = 0; p < depth; p++) product += left.data[p * left.col] * row[p];
            to[j] = accumulate ? to[j] + product : product;
        }
    }
}

#endif
