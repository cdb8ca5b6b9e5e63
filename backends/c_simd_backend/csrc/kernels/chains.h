// Chains of elementwise steps on rows, in one instruction; those on single numbers are in loops.h.
#ifndef WYRM_CHAINS_H
#define WYRM_CHAINS_H

#include "elementwise.h"

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
            switch ((count + LANES - 1) / LANES) { // loops of a known length cost less than the steps between them
            case 1: chain_steps(steps, end, registers + operands, registers, 1); break;
            case 2: chain_steps(steps, end, registers + operands, registers, 2); break;
            case CHAIN_VECTORS: chain_steps(steps, end, registers + operands, registers, CHAIN_VECTORS); break;
            default: chain_steps(steps, end, registers + operands, registers, 3);
            }
            for (int64_t r = 0; r < results; r++) write_row(row_of(&targets[r], i) + j, registers[stored[r]], count);
        }
    }
}

// --- sums -------------------------------------------------------------------------------------------------------

// Chains whose steps are all z + s x, z - s x or s x, of numbers s and rows x and z that are read: what most updates, and most
// gradients of products, come to. One vector of each result, all computed before any is stored; `part` elements of it, where
// that is not 0. Where `some` have no z, it is null there.
INLINE void sums_at(real *const *to, const real *const *x, const real *const *z, const vec *s, int count, int some, int64_t j, int64_t part) {
    vec sum[4];
    for (int r = 0; r < count; r++) {
        sum[r] = s[r] * (part ? load_part(x[r] + j, part) : load(x[r] + j));
        if (!some || z[r]) sum[r] = (part ? load_part(z[r] + j, part) : load(z[r] + j)) + sum[r];
    }
    for (int r = 0; r < count; r++)
        if (part)
            store_part(to[r] + j, sum[r], part);
        else
            store(to[r] + j, sum[r]);
}

// One row of n elements of each result.
INLINE void sums_row(real *const *to, const real *const *x, const real *const *z, const vec *s, int count, int some, int64_t n) {
    int64_t j = 0;
    for (; j + 2 * LANES <= n; j += 2 * LANES) {
        sums_at(to, x, z, s, count, some, j, 0);
        sums_at(to, x, z, s, count, some, j + LANES, 0);
    }
    for (; j + LANES <= n; j += LANES) sums_at(to, x, z, s, count, some, j, 0);
    if (j < n) sums_at(to, x, z, s, count, some, j, n - j);
}

INLINE void sums(const Instruction *instruction, int count) {
    const Operand *targets = instruction->operand, *read = targets + count;
    const ChainStep *steps = (const ChainStep *)((const int64_t *)(targets + instruction->attribute) + 2 + count);
    if (!targets->rows) return;
    vec s[4];
    real *to[4];
    const real *x[4], *z[4];
    int some = 0;
    for (int r = 0; r < count; r++) {
        const real number = *(const real *)read[steps[r].a].data;
        s[r] = splat(steps[r].opcode == OPCODE_multiply_subtract ? -number : number);
        to[r] = targets[r].data;
        x[r] = read[steps[r].b].data;
        z[r] = steps[r].opcode == OPCODE_multiply ? 0 : read[steps[r].c].data;
        some |= !z[r];
    }
    for (int64_t i = 0;;) {
        if (some)
            sums_row(to, x, z, s, count, 1, targets->cols);
        else
            sums_row(to, x, z, s, count, 0, targets->cols);
        if (++i >= targets->rows) return;
        for (int r = 0; r < count; r++) {
            to[r] += targets[r].stride;
            x[r] += read[steps[r].b].stride;
            if (z[r]) z[r] += read[steps[r].c].stride;
        }
    }
}

static void kernel_fused_sums_1(const Instruction *instruction) { sums(instruction, 1); }
static void kernel_fused_sums_2(const Instruction *instruction) { sums(instruction, 2); }
static void kernel_fused_sums_3(const Instruction *instruction) { sums(instruction, 3); }
static void kernel_fused_sums_4(const Instruction *instruction) { sums(instruction, 4); }

#endif
