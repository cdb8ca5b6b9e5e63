// Chains of elementwise steps in one instruction: of single numbers, and of rows.
#ifndef WYRM_CHAINS_H
#define WYRM_CHAINS_H

#include "scalars.h"

// --- one element ------------------------------------------------------------------------------------------------
//
// A threaded interpreter that keeps the results of the last two steps in registers. There is code for each step and each place
// of its operands: 0 in memory, 1 the last result, 2 the one before. A function of its own: in a larger one, the compiler would
// not keep the two in registers.

// Loads the inputs of an example, and asks for those of a later one.
INLINE void load_reals(const Repetition *repetition) {
    enum { AHEAD = 32 };
    const int64_t position = repetition->position, example = repetition->order[position];
    const Single *const end = repetition->reals_end;
    for (const Single *one = repetition->reals; one < end; one++)
        *(real *)one->destination = *(const real *)(one->source + example * one->stride);
    if (repetition->in_order || position + AHEAD >= repetition->stop) return;
    const int64_t later = repetition->order[position + AHEAD];
    for (const Single *one = repetition->reals; one < end; one++) __builtin_prefetch(one->source + later * one->stride);
}

#define CODE(OPCODE, A, B, C, STORED) ((27 * (OPCODE) + 9 * (A) + 3 * (B) + (C)) * 2 + (STORED))
#define PLACE_0(OPERAND) *(const real *)step->OPERAND
#define PLACE_1(OPERAND) last
#define PLACE_2(OPERAND) before

// X(NAME, A, B, C, STORED) for each place of the operands.
#define STORED_OR_NOT(X, NAME, A, B, C) X(NAME, A, B, C, 0) X(NAME, A, B, C, 1)
#define PLACES_C(X, NAME, A, B)                                                                                        \
    STORED_OR_NOT(X, NAME, A, B, 0) STORED_OR_NOT(X, NAME, A, B, 1) STORED_OR_NOT(X, NAME, A, B, 2)
#define PLACES_BC(X, NAME, A) PLACES_C(X, NAME, A, 0) PLACES_C(X, NAME, A, 1) PLACES_C(X, NAME, A, 2)
#define PLACES_ABC(X, NAME) PLACES_BC(X, NAME, 0) PLACES_BC(X, NAME, 1) PLACES_BC(X, NAME, 2)
#define PLACES_B(X, NAME, A)                                                                                           \
    STORED_OR_NOT(X, NAME, A, 0, 0) STORED_OR_NOT(X, NAME, A, 1, 0) STORED_OR_NOT(X, NAME, A, 2, 0)
#define PLACES_AB(X, NAME) PLACES_B(X, NAME, 0) PLACES_B(X, NAME, 1) PLACES_B(X, NAME, 2)
#define PLACES_A(X, NAME) STORED_OR_NOT(X, NAME, 0, 0, 0) STORED_OR_NOT(X, NAME, 1, 0, 0) STORED_OR_NOT(X, NAME, 2, 0, 0)

static void kernel_fused_single(const Instruction *instruction) {
    static const void *const labels[CODE(OPCODES, 0, 0, 0, 0)] = {
#define LABEL(NAME, A, B, C, STORED) [CODE(OPCODE_##NAME, A, B, C, STORED)] = &&NAME##_##A##B##C##STORED,
#define UNARY(NAME, VALUE) PLACES_A(LABEL, NAME)
#define BINARY(NAME, VALUE) PLACES_AB(LABEL, NAME)
#define TERNARY(NAME, VALUE) PLACES_ABC(LABEL, NAME)
#include "elementwise.def"
        TERNARY(multiply_add, ) TERNARY(multiply_subtract, ) UNARY(copy, ) UNARY(STORE, ) UNARY(GUARD, )
#undef UNARY
#undef BINARY
#undef TERNARY
#undef LABEL
        [CODE(OPCODE_END, 0, 0, 0, 0)] = &&END,
    };
    const SingleStep *const steps = (const SingleStep *)(instruction->operand + instruction->attribute), *step = steps;
    Repetition *const repetition = (Repetition *)instruction->accumulate;
    real last = 0, before = 0, next;
    if (repetition) goto EXAMPLE;
    goto *labels[step->code];

#define GO_ON                                                                                                          \
    step++;                                                                                                            \
    goto *labels[step->code];
#define RESULT(VALUE, STORED)                                                                                          \
    next = VALUE;                                                                                                      \
    before = last;                                                                                                     \
    last = next;                                                                                                       \
    if (STORED) *(real *)step->out = last;                                                                             \
    GO_ON
#define UNARY_CODE(NAME, A, B, C, STORED) NAME##_##A##B##C##STORED : RESULT(single_##NAME(PLACE_##A(a)), STORED)
#define BINARY_CODE(NAME, A, B, C, STORED)                                                                             \
    NAME##_##A##B##C##STORED : RESULT(single_##NAME(PLACE_##A(a), PLACE_##B(b)), STORED)
#define TERNARY_CODE(NAME, A, B, C, STORED)                                                                            \
    NAME##_##A##B##C##STORED : RESULT(single_##NAME(PLACE_##A(a), PLACE_##B(b), PLACE_##C(c)), STORED)
#define STORE_CODE(NAME, A, B, C, STORED)                                                                              \
    NAME##_##A##B##C##STORED : *(real *)step->out = PLACE_##A(a);                                                      \
    GO_ON
#define GUARD_CODE(NAME, A, B, C, STORED)                                                                              \
    NAME##_##A##B##C##STORED : if (!isfinite(PLACE_##A(a))) return;                                                    \
    GO_ON
#define UNARY(NAME, VALUE) PLACES_A(UNARY_CODE, NAME)
#define BINARY(NAME, VALUE) PLACES_AB(BINARY_CODE, NAME)
#define TERNARY(NAME, VALUE) PLACES_ABC(TERNARY_CODE, NAME)
#include "elementwise.def"
    TERNARY(multiply_add, )
    TERNARY(multiply_subtract, )
    UNARY(copy, )
    PLACES_A(STORE_CODE, STORE)
    PLACES_A(GUARD_CODE, GUARD)
#undef UNARY
#undef BINARY
#undef TERNARY
END:
    if (!repetition) return;
    repetition->losses += (double)*(const real *)repetition->loss;
    repetition->position++;
EXAMPLE:
    if (repetition->position == repetition->stop) return;
    if ((uint64_t)repetition->order[repetition->position] >= (uint64_t)repetition->length) return;
    load_reals(repetition);
    step = steps;
    goto *labels[step->code];
}

// --- rows -------------------------------------------------------------------------------------------------------

#define CHAIN_VECTORS 4         // a register holds so many
#define CHAIN_REGISTERS (5 * 24) // the frontend makes no chain of more
#define CHAIN_BLOCK (CHAIN_VECTORS * LANES)

typedef real ChainBlock[CHAIN_VECTORS * VECTOR_BYTES / sizeof(real)] __attribute__((aligned(VECTOR_BYTES)));

// The steps, on `vectors` vectors of each register.
INLINE void chain_steps(const ChainStep *step, const ChainStep *end, real **next, real *const *registers, int vectors) {
    for (; step < end; step++, next++) {
        real *out = *next;
        const real *a = registers[step->a], *b = registers[step->b], *c = registers[step->c];
        switch (step->opcode) {
#define STEP(NAME, RESULT)                                                                                             \
    case OPCODE_##NAME:                                                                                                \
        for (int v = 0; v < vectors; v++) store(out + v * LANES, RESULT);                                              \
        break;
#define AT(OPERAND) load(OPERAND + v * LANES)
#define UNARY(NAME, VALUE) STEP(NAME, element_##NAME(AT(a)))
#define BINARY(NAME, VALUE) STEP(NAME, element_##NAME(AT(a), AT(b)))
#define TERNARY(NAME, VALUE) STEP(NAME, element_##NAME(AT(a), AT(b), AT(c)))
#include "elementwise.def"
            STEP(multiply_add, AT(a) * AT(b) + AT(c))
            STEP(multiply_subtract, AT(c) - AT(a) * AT(b))
            STEP(copy, AT(a))
#undef UNARY
#undef BINARY
#undef TERNARY
#undef AT
#undef STEP
        }
    }
}

// A chain over rows of several elements, block by block. Results are put in place when all steps of a block have been made.
static void kernel_fused(const Instruction *instruction) {
    const int64_t *words = (const int64_t *)(instruction->operand + instruction->attribute);
    const int64_t results = words[0], operands = instruction->attribute - results, *stored = words + 2;
    const ChainStep *steps = (const ChainStep *)(stored + results), *end = steps + words[1];
    const Operand *targets = instruction->operand, *read = targets + results;
    const int64_t n = targets->cols;
    ChainBlock blocks[CHAIN_REGISTERS];
    real *registers[CHAIN_REGISTERS];
    for (int64_t s = 0; s < words[1]; s++) registers[operands + s] = blocks[operands + s];
    for (int64_t i = 0; i < targets->rows; i++) {
        for (int64_t k = 0; k < operands; k++)
            if (read[k].cols == 1 && n != 1) {
                const vec one = splat(*row_of(&read[k], i));
                for (int v = 0; v < CHAIN_VECTORS; v++) store(blocks[k] + v * LANES, one);
                registers[k] = blocks[k];
            }
        for (int64_t j = 0; j < n; j += CHAIN_BLOCK) {
            const int64_t count = n - j < CHAIN_BLOCK ? n - j : CHAIN_BLOCK;
            for (int64_t k = 0; k < operands; k++) {
                if (read[k].cols == 1 && n != 1) continue;
                real *from = row_of(&read[k], i) + j;
                registers[k] = from;
                if (count % LANES) {
                    registers[k] = blocks[k];
                    read_row(blocks[k], from, count);
                }
            }
            if (count == CHAIN_BLOCK)
                chain_steps(steps, end, registers + operands, registers, CHAIN_VECTORS);
            else
                chain_steps(steps, end, registers + operands, registers, (int)((count + LANES - 1) / LANES));
            for (int64_t r = 0; r < results; r++) write_row(row_of(&targets[r], i) + j, registers[stored[r]], count);
        }
    }
}

// --- sums -------------------------------------------------------------------------------------------------------

// Chains whose steps are all z + s x or z - s x, of numbers s and rows x and z that are read: what most updates come to. One
// vector of each result, all computed before any is stored; `part` elements of it, where that is not 0.
INLINE void sums_at(real *const *to, const real *const *x, const real *const *z, const vec *s, int count, int64_t j, int64_t part) {
    vec sum[4];
    for (int r = 0; r < count; r++)
        sum[r] = part ? load_part(z[r] + j, part) + s[r] * load_part(x[r] + j, part) : load(z[r] + j) + s[r] * load(x[r] + j);
    for (int r = 0; r < count; r++)
        if (part)
            store_part(to[r] + j, sum[r], part);
        else
            store(to[r] + j, sum[r]);
}

INLINE void sums(const Instruction *instruction, int count) {
    const Operand *targets = instruction->operand, *read = targets + count;
    const ChainStep *steps = (const ChainStep *)((const int64_t *)(targets + instruction->attribute) + 2 + count);
    const int64_t n = targets->cols, rows = targets->rows;
    if (!rows) return;
    vec s[4];
    real *to[4];
    const real *x[4], *z[4];
    for (int r = 0; r < count; r++) {
        const real number = *(const real *)read[steps[r].a].data;
        s[r] = splat(steps[r].opcode == OPCODE_multiply_add ? number : -number);
        to[r] = targets[r].data;
        x[r] = read[steps[r].b].data;
        z[r] = read[steps[r].c].data;
    }
    for (int64_t i = 0;;) {
        int64_t j = 0;
        for (; j + 2 * LANES <= n; j += 2 * LANES) {
            sums_at(to, x, z, s, count, j, 0);
            sums_at(to, x, z, s, count, j + LANES, 0);
        }
        for (; j + LANES <= n; j += LANES) sums_at(to, x, z, s, count, j, 0);
        if (j < n) sums_at(to, x, z, s, count, j, n - j);
        if (++i >= rows) return;
        for (int r = 0; r < count; r++) {
            to[r] += targets[r].stride;
            x[r] += read[steps[r].b].stride;
            z[r] += read[steps[r].c].stride;
        }
    }
}

static void kernel_fused_sums_1(const Instruction *instruction) { sums(instruction, 1); }
static void kernel_fused_sums_2(const Instruction *instruction) { sums(instruction, 2); }
static void kernel_fused_sums_3(const Instruction *instruction) { sums(instruction, 3); }
static void kernel_fused_sums_4(const Instruction *instruction) { sums(instruction, 4); }

#endif
