// Chains of one element, and whole runs of a program as steps, gone through for one example after the other.
//
// A threaded interpreter that keeps the results of the last two steps in registers. There is code for each step on single
// numbers and each place of its operands: 0 in memory, 1 the last result, 2 the one before. Steps on rows find each through a
// cell that has its address; whatever else there is, is called.
#ifndef WYRM_LOOPS_H
#define WYRM_LOOPS_H

#include "../table.h"
#include "chains.h"
#include "products.h"
#include "rings.h"
#include "scalars.h"

// The sum of products of the rows of the k-th example that two rings have.
INLINE real step_row_dot(const SingleStep *step, uint64_t k) {
    const real *a = ((const real *const *)step->a)[k], *b = ((const real *const *)step->b)[k];
    const int64_t n = (int64_t)step->c;
    if (n % (2 * LANES)) return dot(a, b, n);
    vec even = load(a) * load(b), odd = load(a + LANES) * load(b + LANES);
    for (int64_t j = 2 * LANES; j < n; j += 2 * LANES) {
        even += load(a + j) * load(b + j);
        odd += load(a + j + LANES) * load(b + j + LANES);
    }
    return lane_sum(even + odd);
}

INLINE void exchange(real *const *row, vec s, int64_t j) {
    const vec a = load(row[0] + j), b = load(row[1] + j);
    store(row[0] + j, a + s * b);
    store(row[1] + j, b + s * a);
}

// z + number * x in place of z, for `count` pairs of rows, whose rings are in what would be the next step.
INLINE void step_add_rows(const SingleStep *step, uint64_t k, real number, int count) {
    real *const *const *const rings = (real *const *const *)(step + 1);
    real *z[2];
    const real *x[2];
    for (int r = 0; r < count; r++) {
        z[r] = rings[2 * r][k];
        x[r] = rings[2 * r + 1][k];
    }
    const int64_t n = (int64_t)step->out;
    const vec s[2] = {splat(number), splat(number)};
    if (n % (2 * LANES)) {
        sums_row(z, x, (const real *const *)z, s, count, 0, n);
        return;
    }
    int64_t j = 0;
    if (count == 2 && z[0] == x[1] && z[1] == x[0]) { // each is added to the other, as a product's gradients are
        do {
            exchange(z, s[0], j);
            exchange(z, s[0], j + LANES);
        } while ((j += 2 * LANES) < n);
        return;
    }
    do {
        sums_at(z, x, (const real *const *)z, s, count, 0, j, 0);
        sums_at(z, x, (const real *const *)z, s, count, 0, j + LANES, 0);
    } while ((j += 2 * LANES) < n);
}

// Adds the losses of the examples up to a position, in their order, and notes that these have been run.
static __attribute__((noinline)) void count_losses(Repetition *repetition, const real *losses, int64_t position) {
    for (; repetition->position < position; repetition->position++)
        repetition->losses += (double)losses[(uint64_t)(repetition->position - repetition->begin) % RING];
}

#define CODE(OPCODE, A, B, C, STORED) ((64 * (OPCODE) + 16 * (A) + 4 * (B) + (C)) * 2 + (STORED))
#define PLACE_0(OPERAND) *(const real *)step->OPERAND
#define PLACE_1(OPERAND) last
#define PLACE_2(OPERAND) before
#define PLACE_3(OPERAND) ((const real *)step->OPERAND)[k]

// X(NAME, A, B, C, STORED) for each place of the operands.
#define STORED_OR_NOT(X, NAME, A, B, C) X(NAME, A, B, C, 0) X(NAME, A, B, C, 1)
#define PLACES_C(X, NAME, A, B)                                                                                        \
    STORED_OR_NOT(X, NAME, A, B, 0) STORED_OR_NOT(X, NAME, A, B, 1) STORED_OR_NOT(X, NAME, A, B, 2)                    \
    STORED_OR_NOT(X, NAME, A, B, 3)
#define PLACES_BC(X, NAME, A) PLACES_C(X, NAME, A, 0) PLACES_C(X, NAME, A, 1) PLACES_C(X, NAME, A, 2) PLACES_C(X, NAME, A, 3)
#define PLACES_ABC(X, NAME) PLACES_BC(X, NAME, 0) PLACES_BC(X, NAME, 1) PLACES_BC(X, NAME, 2) PLACES_BC(X, NAME, 3)
#define PLACES_B(X, NAME, A)                                                                                           \
    STORED_OR_NOT(X, NAME, A, 0, 0) STORED_OR_NOT(X, NAME, A, 1, 0) STORED_OR_NOT(X, NAME, A, 2, 0)                    \
    STORED_OR_NOT(X, NAME, A, 3, 0)
#define PLACES_AB(X, NAME) PLACES_B(X, NAME, 0) PLACES_B(X, NAME, 1) PLACES_B(X, NAME, 2) PLACES_B(X, NAME, 3)
#define PLACES_A(X, NAME)                                                                                              \
    STORED_OR_NOT(X, NAME, 0, 0, 0) STORED_OR_NOT(X, NAME, 1, 0, 0) STORED_OR_NOT(X, NAME, 2, 0, 0)                    \
    STORED_OR_NOT(X, NAME, 3, 0, 0)

// Without a repetition, the steps once; with one, for its examples. Without steps, nothing; returns where the code of each is. A
// function of its own: in a larger one, the compiler would not keep the two results in registers.
static __attribute__((noinline)) const void *const *interpret(const SingleStep *const steps, Repetition *const repetition) {
    static const void *const labels[CODE(OPCODES, 0, 0, 0, 0)] = {
#define LABEL(NAME, A, B, C, STORED) [CODE(OPCODE_##NAME, A, B, C, STORED)] = &&NAME##_##A##B##C##STORED,
#define UNARY(NAME, VALUE) PLACES_A(LABEL, NAME)
#define BINARY(NAME, VALUE) PLACES_AB(LABEL, NAME)
#define TERNARY(NAME, VALUE) PLACES_ABC(LABEL, NAME)
#include "elementwise.def"
        TERNARY(multiply_add, ) TERNARY(multiply_subtract, ) UNARY(copy, ) UNARY(STORE, ) UNARY(GUARD, )
        BINARY(guard_product, ) UNARY(add_rows_1, ) UNARY(add_rows_2, ) UNARY(subtract_rows_1, ) UNARY(subtract_rows_2, )
        LABEL(row_dot, 0, 0, 0, 0) LABEL(row_dot, 0, 0, 0, 1) LABEL(END, 0, 0, 0, 0) LABEL(NEXT, 0, 0, 0, 0) LABEL(USES, 0, 0, 0, 0) LABEL(CLAIM, 0, 0, 0, 0)
        LABEL(CALL, 0, 0, 0, 0) LABEL(BEGIN, 0, 0, 0, 0)
#undef UNARY
#undef BINARY
#undef TERNARY
#undef LABEL
    };
    if (!steps) return labels;
    const SingleStep *step = steps, *first = steps;
    real last = 0, before = 0, next, losses[RING]; // of the examples that have not been counted yet
    int64_t position = 0;
    uint64_t k = 0;
    Filling filling;
    if (repetition) {
        position = repetition->position;
        filling = (Filling){position, position, repetition->in_order && !repetition->far ? repetition->stop : repetition->known};
    }
    goto *step->code;

#define GO_ON(COUNT)                                                                                                   \
    step += COUNT;                                                                                                     \
    goto *step->code;
#define RESULT(VALUE, STORED)                                                                                          \
    next = VALUE;                                                                                                      \
    before = last;                                                                                                     \
    last = next;                                                                                                       \
    if (STORED) *(real *)step->out = last;                                                                             \
    GO_ON(1)
#define UNARY_CODE(NAME, A, B, C, STORED) NAME##_##A##B##C##STORED : RESULT(single_##NAME(PLACE_##A(a)), STORED)
#define BINARY_CODE(NAME, A, B, C, STORED)                                                                             \
    NAME##_##A##B##C##STORED : RESULT(single_##NAME(PLACE_##A(a), PLACE_##B(b)), STORED)
#define TERNARY_CODE(NAME, A, B, C, STORED)                                                                            \
    NAME##_##A##B##C##STORED : RESULT(single_##NAME(PLACE_##A(a), PLACE_##B(b), PLACE_##C(c)), STORED)
#define STORE_CODE(NAME, A, B, C, STORED)                                                                              \
    NAME##_##A##B##C##STORED : *(real *)step->out = PLACE_##A(a);                                                      \
    GO_ON(1)
#define GUARD_CODE(NAME, A, B, C, STORED)                                                                              \
    NAME##_##A##B##C##STORED : next = PLACE_##A(a);                                                                    \
    if (!isfinite(next)) goto LEAVE;                                                                                   \
    losses[k] = next;                                                                                                  \
    GO_ON(1)
#define GUARD_PRODUCT_CODE(NAME, A, B, C, STORED)                                                                            \
    NAME##_##A##B##C##STORED : next = PLACE_##A(a) * PLACE_##B(b);                                                     \
    if (!isfinite(next)) goto LEAVE;                                                                                   \
    losses[k] = next;                                                                                                  \
    GO_ON(1)
#define ROWS_CODE(NAME, A, B, C, STORED)                                                                               \
    NAME##_##A##B##C##STORED : ROWS_##NAME(PLACE_##A(a));                                                              \
    GO_ON(2)
#define ROWS_add_rows_1(NUMBER) step_add_rows(step, k, NUMBER, 1)
#define ROWS_add_rows_2(NUMBER) step_add_rows(step, k, NUMBER, 2)
#define ROWS_subtract_rows_1(NUMBER) step_add_rows(step, k, -(NUMBER), 1)
#define ROWS_subtract_rows_2(NUMBER) step_add_rows(step, k, -(NUMBER), 2)
#define UNARY(NAME, VALUE) PLACES_A(UNARY_CODE, NAME)
#define BINARY(NAME, VALUE) PLACES_AB(BINARY_CODE, NAME)
#define TERNARY(NAME, VALUE) PLACES_ABC(TERNARY_CODE, NAME)
#include "elementwise.def"
    TERNARY(multiply_add, )
    TERNARY(multiply_subtract, )
    UNARY(copy, )
    PLACES_A(STORE_CODE, STORE)
    PLACES_A(GUARD_CODE, GUARD)
    PLACES_AB(GUARD_PRODUCT_CODE, guard_product)
    PLACES_A(ROWS_CODE, add_rows_1)
    PLACES_A(ROWS_CODE, add_rows_2)
    PLACES_A(ROWS_CODE, subtract_rows_1)
    PLACES_A(ROWS_CODE, subtract_rows_2)
#undef UNARY
#undef BINARY
#undef TERNARY
row_dot_0000:
    RESULT(step_row_dot(step, k), 0)
row_dot_0001:
    RESULT(step_row_dot(step, k), 1)
CLAIM_0000:
    if (repetition->claim(repetition->frame)) goto LEAVE;
    GO_ON(1)
CALL_0000 : {
    const Instruction *called = (const Instruction *)(step + 1);
    called->kernel(called);
    step = (const SingleStep *)((const int64_t *)called + called->length);
    goto *step->code;
}
USES_0000:
    for (const RingUse *use = repetition->uses; use < repetition->uses_end; use++) {
        if (use->is_number)
            *(real *)use->place = ((const real *)use->ring)[k];
        else
            *(char **)use->place = ((char *const *)use->ring)[k] + use->offset;
    }
    GO_ON(1)
BEGIN_0000:
    first = step + 1;
    goto EXAMPLE;
END_0000:
    return labels;
NEXT_0000:
    position++;
    k = (k + 1) % RING;
    if (repetition->far) fetch_rows(repetition, k + AHEAD - 1);
    if (position == filling.next) {
EXAMPLE:
        count_losses(repetition, losses, position);
        if (!fill_further(repetition, &filling, position)) goto LEAVE;
    }
    step = first;
    goto *step->code;
LEAVE:
    if (repetition) {
        count_losses(repetition, losses, position);
    }
    return labels;
}

// Where the code for a step is; 0 where there is none.
static intptr_t step_address(int64_t code) {
    return code >= 0 && code < CODE(OPCODES, 0, 0, 0, 0) ? (intptr_t)interpret(0, 0)[code] : 0;
}

static void kernel_fused_single(const Instruction *instruction) {
    interpret((const SingleStep *)(instruction->operand + instruction->attribute), 0);
}

static void run_loop(const Loop *loop, Repetition *repetition) { interpret(loop->steps, repetition); }

#endif
