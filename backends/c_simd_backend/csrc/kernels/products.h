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

// The sum of a row, each element times a number.
INLINE real dot_with_number(const real *row, real number, int64_t n) {
    const vec factor = splat(number);
    vec even = {0}, odd = {0};
    int64_t j = 0;
    for (; j + 2 * LANES <= n; j += 2 * LANES) {
        even += load(row + j) * factor;
        odd += load(row + j + LANES) * factor;
    }
    for (; j + LANES <= n; j += LANES) even += load(row + j) * factor;
    real sum = lane_sum(even + odd);
    for (; j < n; j++) sum += row[j] * number;
    return sum;
}

static __attribute__((noinline)) void row_dots(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1], *b = &instruction->operand[2];
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *from_a = row_of(a, i), *from_b = row_of(b, i);
        real product;
        if (a->cols == b->cols) {
            product = dot(from_a, from_b, a->cols);
        } else { // one of them has a single column
            const Operand *wide = a->cols == 1 ? b : a;
            product = a->cols == 1 ? dot_with_number(from_b, *from_a, wide->cols) : dot_with_number(from_a, *from_b, wide->cols);
        }
        *to = instruction->accumulate ? *to + product : product;
    }
}

static void kernel_row_dot(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1], *b = &instruction->operand[2];
    if (out->rows != 1 || a->cols != b->cols) {
        row_dots(instruction);
        return;
    }
    const real product = dot(a->data, b->data, a->cols);
    real *to = out->data;
    *to = instruction->accumulate ? *to + product : product;
}

// The elements of the left factor: element (i, p) is data[i * row + p * col].
typedef struct {
    const real *data;
    int64_t row, col;
} Left;

// Vectors that a block of four rows is wide: what the registers have room for.
#if defined(__AVX512F__)
#define BLOCK_WIDTH 4
#else
#define BLOCK_WIDTH 2
#endif

// Rows of a block that is narrower than a vector.
enum { TALL = 8 };

// A block of the product, `height` rows by `width` vectors, kept in registers while p runs; the last vector may be a part. A block
// that is small has several sums, for p, p + 1, …: one would wait for itself.
INLINE void product_block(
    real *out, int64_t stride, Left a, const real *b, int64_t b_stride, int64_t depth, int height, int width, int sums, int64_t part,
    int accumulate) {
    vec sum[8][8];
    UNROLLED
    for (int i = 0; i < height * sums; i++)
        UNROLLED
        for (int w = 0; w < width; w++) {
            const real *from = out + (i % height) * stride + w * LANES;
            const int begin = accumulate && i < height;
            sum[i][w] = !begin ? (vec){0} : w == width - 1 && part ? load_part(from, part) : load(from);
        }
    int64_t p = 0;
    for (; p + sums <= depth; p += sums, b += sums * b_stride)
        UNROLLED
        for (int s = 0; s < sums; s++)
            UNROLLED
            for (int w = 0; w < width; w++) {
                const real *from = b + s * b_stride + w * LANES;
                const vec row = w == width - 1 && part ? load_part(from, part) : load(from);
                UNROLLED
                for (int i = 0; i < height; i++) sum[s * height + i][w] += a.data[i * a.row + (p + s) * a.col] * row;
            }
    for (; p < depth; p++, b += b_stride)
        UNROLLED
        for (int w = 0; w < width; w++) {
            const vec row = w == width - 1 && part ? load_part(b + w * LANES, part) : load(b + w * LANES);
            UNROLLED
            for (int i = 0; i < height; i++) sum[i][w] += a.data[i * a.row + p * a.col] * row;
        }
    UNROLLED
    for (int i = 0; i < height; i++)
        UNROLLED
        for (int w = 0; w < width; w++) {
            UNROLLED
            for (int s = 1; s < sums; s++) sum[i][w] += sum[s * height + i][w];
            real *to = out + i * stride + w * LANES;
            if (w == width - 1 && part)
                store_part(to, sum[i][w], part);
            else
                store(to, sum[i][w]);
        }
}

// Four rows of the product with a right factor whose rows are contiguous.
INLINE void product_rows(
    real *out, int64_t stride, Left a, const real *b, int64_t b_stride, int64_t depth, int64_t n, int accumulate) {
    int64_t j = 0;
    for (; j + BLOCK_WIDTH * LANES <= n; j += BLOCK_WIDTH * LANES)
        product_block(out + j, stride, a, b + j, b_stride, depth, 4, BLOCK_WIDTH, 1, 0, accumulate);
    for (; j + LANES <= n; j += LANES) product_block(out + j, stride, a, b + j, b_stride, depth, 4, 1, 1, 0, accumulate);
    if (j < n) product_block(out + j, stride, a, b + j, b_stride, depth, 4, 1, 1, n - j, accumulate);
}

// A product a.T @ b of few rows of b, which are kept in registers while the rows of the result pass, `width` vectors of them.
INLINE void few_rows_at(
    const Operand *out, Left a, const real *b, int64_t b_stride, int64_t j, int depth, int width, int accumulate) {
    vec right[4][4];
    UNROLLED
    for (int p = 0; p < depth; p++)
        UNROLLED
        for (int w = 0; w < width; w++) right[p][w] = load(b + p * b_stride + j + w * LANES);
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i) + j;
        vec sum[4];
        UNROLLED
        for (int w = 0; w < width; w++) sum[w] = accumulate ? load(to + w * LANES) : (vec){0};
        UNROLLED
        for (int p = 0; p < depth; p++) {
            const real factor = a.data[i * a.row + p * a.col];
            UNROLLED
            for (int w = 0; w < width; w++) sum[w] += factor * right[p][w];
        }
        UNROLLED
        for (int w = 0; w < width; w++) store(to + w * LANES, sum[w]);
    }
}

// Of all columns that make whole vectors; returns how many.
INLINE int64_t few_rows(const Operand *out, Left a, const Operand *b, int depth, int accumulate) {
    int64_t j = 0;
    for (; j + BLOCK_WIDTH * LANES <= out->cols; j += BLOCK_WIDTH * LANES)
        few_rows_at(out, a, b->data, b->stride, j, depth, BLOCK_WIDTH, accumulate);
    for (; j + LANES <= out->cols; j += LANES) few_rows_at(out, a, b->data, b->stride, j, depth, 1, accumulate);
    return j;
}

static int64_t product_of_few_rows(const Operand *out, Left a, const Operand *b, int64_t depth, int accumulate) {
    switch (depth) {
    case 1: return few_rows(out, a, b, 1, accumulate);
    case 2: return few_rows(out, a, b, 2, accumulate);
    case 3: return few_rows(out, a, b, 3, accumulate);
    case 4: return few_rows(out, a, b, 4, accumulate);
    default: return 0;
    }
}

// One row of it.
INLINE void product_row(real *out, Left a, const real *b, int64_t b_stride, int64_t depth, int64_t n, int accumulate) {
    int64_t j = 0;
    for (; j + 8 * LANES <= n; j += 8 * LANES) product_block(out + j, 0, a, b + j, b_stride, depth, 1, 8, 1, 0, accumulate);
    for (; j + 4 * LANES <= n; j += 4 * LANES) product_block(out + j, 0, a, b + j, b_stride, depth, 1, 4, 2, 0, accumulate);
    for (; j + LANES <= n; j += LANES) product_block(out + j, 0, a, b + j, b_stride, depth, 1, 1, 4, 0, accumulate);
    if (j < n) product_block(out + j, 0, a, b + j, b_stride, depth, 1, 1, 4, n - j, accumulate);
}

// Rows whose sums are kept in registers at a time.
enum { ROWS_AT_ONCE = LANES < 8 ? LANES : 8 };

// The products of a row with some rows of a matrix, each as a vector that is yet to be summed up.
INLINE void row_products(vec *sum, const real *a, const real *rows, int64_t stride, int64_t depth) {
    vec total[ROWS_AT_ONCE];
    UNROLLED
    for (int i = 0; i < ROWS_AT_ONCE; i++) total[i] = (vec){0};
    int64_t p = 0;
    for (; p + LANES <= depth; p += LANES) {
        const vec factor = load(a + p);
        UNROLLED
        for (int i = 0; i < ROWS_AT_ONCE; i++) total[i] += factor * load(rows + i * stride + p);
    }
    if (p < depth) {
        const vec factor = load_part(a + p, depth - p);
        UNROLLED
        for (int i = 0; i < ROWS_AT_ONCE; i++) total[i] += factor * load_part(rows + i * stride + p, depth - p);
    }
    UNROLLED
    for (int i = 0; i < ROWS_AT_ONCE; i++) sum[i] = total[i];
}

// A row of the product with a right factor that is read transposed: row by row, LANES of them at a time.
INLINE void product_transposed(real *out, const real *a, const Operand *b, int64_t depth, int accumulate) {
    int64_t j = 0;
    for (; j + LANES <= b->rows; j += LANES) {
        vec sum[VECTOR_BYTES / sizeof(real)];
        UNROLLED
        for (int i = 0; i < LANES; i += ROWS_AT_ONCE) row_products(sum + i, a, row_of(b, j + i), b->stride, depth);
        put(out + j, lane_sums(sum), accumulate);
    }
    for (; j < b->rows; j++) {
        const real product = dot(a, row_of(b, j), depth);
        out[j] = accumulate ? out[j] + product : product;
    }
}

static void kernel_matmul(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1], *b = &instruction->operand[2];
    const int transpose_a = instruction->attribute & 1, transpose_b = instruction->attribute & 2;
    const int accumulate = instruction->accumulate != 0;
    const int64_t depth = transpose_a ? a->rows : a->cols;
    Left left = {a->data, transpose_a ? 1 : a->stride, transpose_a ? a->stride : 1};
    if (!transpose_b) {
        int64_t i = 0;
        const int64_t begin = out->rows > 8 ? product_of_few_rows(out, left, b, depth, accumulate) : 0, n = out->cols - begin;
        if (!n) return;
        const real *right = (const real *)b->data + begin;
        if (n < LANES) // narrow rows are all loaded before any is stored: a load near what was just stored in part has to wait
            for (; i + TALL <= out->rows; i += TALL, left.data += TALL * left.row)
                product_block(row_of(out, i) + begin, out->stride, left, right, b->stride, depth, TALL, 1, 1, n, accumulate);
        for (; i + 4 <= out->rows; i += 4, left.data += 4 * left.row)
            product_rows(row_of(out, i) + begin, out->stride, left, right, b->stride, depth, n, accumulate);
        for (; i < out->rows; i++, left.data += left.row)
            product_row(row_of(out, i) + begin, left, right, b->stride, depth, n, accumulate);
        return;
    }
    for (int64_t i = 0; i < out->rows; i++, left.data += left.row) {
        real *to = row_of(out, i);
        if (left.col == 1) {
            product_transposed(to, left.data, b, depth, accumulate);
            continue;
        }
        for (int64_t j = 0; j < out->cols; j++) {
            const real *row = row_of(b, j);
            real product = 0;
            for (int64_t p = 0; p < depth; p++) product += left.data[p * left.col] * row[p];
            to[j] = accumulate ? to[j] + product : product;
        }
    }
}

#endif
