// Kernels whose element (i, j) depends on element (i, j) of the operands, with broadcasting.
#ifndef WYRM_ELEMENTWISE_H
#define WYRM_ELEMENTWISE_H

#include "../table.h"
#include "functions.h"

// The number of each elementwise kernel, by its place in elementwise.def; then what rules and chains have
// besides.
enum {
#define UNARY(NAME, VALUE) OPCODE_##NAME,
#define BINARY(NAME, VALUE) OPCODE_##NAME,
#define TERNARY(NAME, VALUE) OPCODE_##NAME,
#include "elementwise.def"
#undef UNARY
#undef BINARY
#undef TERNARY
    OPCODE_ROW_MEAN,
    OPCODE_multiply_add,
    OPCODE_multiply_subtract,
    OPCODE_copy,
    OPCODE_STORE,
    OPCODE_GUARD,
    OPCODE_END,
    OPCODE_NEXT,
    OPCODE_USES,
    OPCODE_CLAIM,
    OPCODE_CALL,
    OPCODE_row_dot,
    OPCODE_add_rows_1,
    OPCODE_add_rows_2,
    OPCODE_subtract_rows_1,
    OPCODE_subtract_rows_2,
    OPCODE_BEGIN,
    OPCODE_guard_product,
    OPCODES
};

typedef vec (*Unary)(vec);
typedef vec (*Binary)(vec, vec);
typedef vec (*Ternary)(vec, vec, vec);

// The functions of elementwise.def, on vectors.
#define UNARY(NAME, VALUE)                                                                                             \
    INLINE vec element_##NAME(vec a) { return VALUE; }
#define BINARY(NAME, VALUE)                                                                                            \
    INLINE vec element_##NAME(vec a, vec b) { return VALUE; }
#define TERNARY(NAME, VALUE)                                                                                           \
    INLINE vec element_##NAME(vec a, vec b, vec c) { return VALUE; }
#include "elementwise.def"
#undef UNARY
#undef BINARY
#undef TERNARY

INLINE vec same(vec a) { return a; }

// An operand's elements from column j on: one vector, or `count` elements of it.
INLINE vec take(const real *row, int one, int64_t j) { return one ? splat(row[0]) : load(row + j); }
INLINE vec take_part(const real *row, int one, int64_t j, int64_t count) {
    return one ? splat(row[0]) : load_part(row + j, count);
}

INLINE void put(real *to, vec v, int accumulate) { store(to, accumulate ? load(to) + v : v); }
INLINE void put_part(real *to, vec v, int64_t count, int accumulate) {
    store_part(to, accumulate ? load_part(to, count) + v : v, count);
}

INLINE real *row_of(const Operand *operand, int64_t i) { return (real *)operand->data + i * operand->stride; }

// Whole vectors are stored, though only n elements count: a load that follows a store of part of it has to wait.
INLINE void read_row(real *to, const real *from, int64_t n) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) store(to + j, load(from + j));
    if (j < n) store(to + j, load_part(from + j, n - j));
}

INLINE void write_row(real *to, const real *from, int64_t n) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) store(to + j, load(from + j));
    if (j < n) store_part(to + j, load(from + j), n - j);
}

// One row of n elements; `one_a` and so on say that an operand has a single column. The flags are constants where this is used.
INLINE void unary_row(Unary f, real *out, const real *a, int one_a, int64_t n, int accumulate) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) put(out + j, f(take(a, one_a, j)), accumulate);
    if (j < n) put_part(out + j, f(take_part(a, one_a, j, n - j)), n - j, accumulate);
}

INLINE void binary_row(Binary f, real *out, const real *a, int one_a, const real *b, int one_b, int64_t n, int accumulate) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) put(out + j, f(take(a, one_a, j), take(b, one_b, j)), accumulate);
    if (j < n) put_part(out + j, f(take_part(a, one_a, j, n - j), take_part(b, one_b, j, n - j)), n - j, accumulate);
}

// out += factor * a, n elements.
INLINE void add_scaled(real *out, real factor, const real *a, int64_t n) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) store(out + j, load(out + j) + factor * load(a + j));
    if (j < n) store_part(out + j, load_part(out + j, n - j) + factor * load_part(a + j, n - j), n - j);
}

// out = factor * a, n elements.
INLINE void scaled_row(real *out, real factor, const real *a, int64_t n) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) store(out + j, factor * load(a + j));
    if (j < n) store_part(out + j, factor * load_part(a + j, n - j), n - j);
}

INLINE void unary_rows(Unary f, const Instruction *instruction, int accumulate) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1];
    const int64_t n = out->cols;
    const int one_a = a->cols == 1 && n != 1;
    for (int64_t i = 0; i < out->rows; i++) {
        if (one_a)
            unary_row(f, row_of(out, i), row_of(a, i), 1, n, accumulate);
        else
            unary_row(f, row_of(out, i), row_of(a, i), 0, n, accumulate);
    }
}

INLINE void binary_rows(Binary f, const Instruction *instruction, int accumulate) {
    const Operand *out = &instruction->operand[0], *a = &instruction->operand[1], *b = &instruction->operand[2];
    const int64_t n = out->cols;
    const int one_a = a->cols == 1 && n != 1, one_b = b->cols == 1 && n != 1;
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *from_a = row_of(a, i), *from_b = row_of(b, i);
        if (n == 1) {
            const vec result = f((vec){*from_a}, (vec){*from_b});
            *to = accumulate ? *to + result[0] : result[0];
        } else if (one_a) {
            binary_row(f, to, from_a, 1, from_b, 0, n, accumulate);
        } else if (one_b) {
            binary_row(f, to, from_a, 0, from_b, 1, n, accumulate);
        } else {
            binary_row(f, to, from_a, 0, from_b, 0, n, accumulate);
        }
    }
}

// Of three operands any may have a single column; this is looked up for each vector, as there are too many cases.
INLINE void ternary_rows(Ternary f, const Instruction *instruction, int accumulate) {
    const Operand *out = &instruction->operand[0], *operands = &instruction->operand[1];
    const int64_t n = out->cols;
    int one[3];
    for (int k = 0; k < 3; k++) one[k] = operands[k].cols == 1 && n != 1;
    for (int64_t i = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        const real *a = row_of(operands, i), *b = row_of(operands + 1, i), *c = row_of(operands + 2, i);
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES)
            put(to + j, f(take(a, one[0], j), take(b, one[1], j), take(c, one[2], j)), accumulate);
        if (j < n) {
            const int64_t left = n - j;
            const vec last = f(take_part(a, one[0], j, left), take_part(b, one[1], j, left), take_part(c, one[2], j, left));
            put_part(to + j, last, left, accumulate);
        }
    }
}

// A kernel, for results that are stored and for results that are added. Single numbers, of which programs have many, do without
// what rows need.
#define KERNEL(NAME, ROWS, F, SINGLE)                                                                                  \
    static __attribute__((noinline)) void rows_##NAME(const Instruction *instruction) {                                \
        if (instruction->accumulate)                                                                                   \
            ROWS(F, instruction, 1);                                                                                   \
        else                                                                                                           \
            ROWS(F, instruction, 0);                                                                                   \
    }                                                                                                                  \
    static void kernel_##NAME(const Instruction *instruction) {                                                        \
        const Operand *out = &instruction->operand[0];                                                                 \
        if (out->rows != 1 || out->cols != 1) {                                                                        \
            rows_##NAME(instruction);                                                                                  \
            return;                                                                                                    \
        }                                                                                                              \
        const real result = SINGLE(F)[0];                                                                              \
        real *to = out->data;                                                                                          \
        *to = instruction->accumulate ? *to + result : result;                                                         \
    }
#define NUMBER(K) (vec){*(const real *)out[K].data}
#define UNARY_NUMBER(F) F(NUMBER(1))
#define BINARY_NUMBER(F) F(NUMBER(1), NUMBER(2))
#define TERNARY_NUMBER(F) F(NUMBER(1), NUMBER(2), NUMBER(3))
#define UNARY(NAME, VALUE) KERNEL(NAME, unary_rows, element_##NAME, UNARY_NUMBER)
#define BINARY(NAME, VALUE) KERNEL(NAME, binary_rows, element_##NAME, BINARY_NUMBER)
#define TERNARY(NAME, VALUE) KERNEL(NAME, ternary_rows, element_##NAME, TERNARY_NUMBER)
#include "elementwise.def"
#undef UNARY
#undef BINARY
#undef TERNARY

KERNEL(copy, unary_rows, same, UNARY_NUMBER)

#endif
