// Update rules: short programs over registers, run on blocks of a row.
#ifndef WYRM_RULES_H
#define WYRM_RULES_H

#include "elementwise.h"

#define BLOCK 64         // elements of a row that a register holds
#define MAX_REGISTERS 64 // checked when a rule is compiled
#define MAX_STATES 8

typedef real Register[BLOCK] __attribute__((aligned(VECTOR_BYTES)));

// A rule with its scalars and literals in registers, applied to one row after the other.
typedef struct {
    const Rule *rule;
    const RuleStep *steps;
    Register registers[MAX_REGISTERS];
} Updater;

// What a rule reads and writes of one row: value, gradient (or the steps missed), states.
typedef struct {
    real *stream[2 + MAX_STATES];
    int one_gradient; // it is a single number
} Row;

INLINE void fill(real *to, real value) {
    for (int64_t j = 0; j < BLOCK; j += LANES) store(to + j, splat(value));
}

static void prepare(Updater *updater, const Rule *rule, const real *scalars) {
    Register *next = updater->registers + 2 + rule->states;
    updater->rule = rule;
    updater->steps = (const RuleStep *)(rule->results + 1 + rule->states);
    for (int64_t i = 0; i < rule->scalars; i++) fill(*next++, scalars[i]);
    for (int64_t i = 0; i < rule->literals; i++) fill(*next++, ((const real *)rule->literal)[i]);
}

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

// The number of each elementwise kernel, by its place in elementwise.def; then the mean over the row.
enum {
#define UNARY(NAME, VALUE) OPCODE_##NAME,
#define BINARY(NAME, VALUE) OPCODE_##NAME,
#define TERNARY(NAME, VALUE) OPCODE_##NAME,
#include "elementwise.def"
#undef UNARY
#undef BINARY
#undef TERNARY
    OPCODE_ROW_MEAN
};

#define STEP(NAME, RESULT)                                                                                             \
    case OPCODE_##NAME:                                                                                                \
        for (int64_t j = 0; j < n; j += LANES) store(out + j, RESULT);                                                 \
        break;
#define UNARY(NAME, VALUE) STEP(NAME, element_##NAME(load(a + j)))
#define BINARY(NAME, VALUE) STEP(NAME, element_##NAME(load(a + j), load(b + j)))
#define TERNARY(NAME, VALUE) STEP(NAME, element_##NAME(load(a + j), load(b + j), load(c + j)))

// The steps from `first` on, up to the first mean over the row that is not known yet, on the first n elements of the registers and
// whatever lies beyond them in the last vector. Returns the number of the step that it stopped at.
static int64_t run_steps(Updater *updater, int64_t first, int64_t known, int64_t n) {
    for (int64_t s = first; s < updater->rule->steps; s++) {
        const RuleStep *step = &updater->steps[s];
        real *out = updater->registers[step->out];
        const real *a = updater->registers[step->a], *b = updater->registers[step->b], *c = updater->registers[step->c];
        switch (step->opcode) {
#include "elementwise.def"
        case OPCODE_ROW_MEAN:
            if (s >= known) return s;
        }
    }
    return updater->rule->steps;
}

#undef UNARY
#undef BINARY
#undef TERNARY

static void read_block(Updater *updater, const Row *row, int64_t begin, int64_t count) {
    const Rule *rule = updater->rule;
    for (int64_t s = 0; s < 2 + rule->states; s++) {
        if (s == 1 ? row->one_gradient : s >= 2 && rule->states_per_row >> (s - 2) & 1)
            fill(updater->registers[s], row->stream[s][0]);
        else
            read_row(updater->registers[s], row->stream[s] + begin, count);
    }
}

// Computes the means over the row, one after the other, each from all blocks.
static int64_t compute_means(Updater *updater, const Row *row, int64_t n) {
    int64_t known = 0; // steps before this one need no further means
    for (;;) {
        int64_t stop = updater->rule->steps;
        real sum = 0;
        for (int64_t begin = 0; begin < n; begin += BLOCK) {
            const int64_t count = n - begin < BLOCK ? n - begin : BLOCK;
            read_block(updater, row, begin, count);
            stop = run_steps(updater, 0, known, count);
            if (stop == updater->rule->steps) return stop;
            const real *operand = updater->registers[updater->steps[stop].a];
            for (int64_t j = 0; j < count; j++) sum += operand[j];
        }
        if (stop == updater->rule->steps) return stop;
        fill(updater->registers[updater->steps[stop].out], sum / (real)n);
        known = stop + 1;
    }
}

// Applies the rule to a row of n elements.
static void apply_rule(Updater *updater, const Row *row, int64_t n) {
    const Rule *rule = updater->rule;
    const int64_t known = rule->by_element ? 0 : compute_means(updater, row, n);
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        const int64_t count = n - begin < BLOCK ? n - begin : BLOCK;
        read_block(updater, row, begin, count);
        run_steps(updater, 0, known, count);
        for (int64_t s = 0; s <= rule->states; s++) {
            const real *result = updater->registers[rule->results[s]];
            real *to = row->stream[s ? s + 1 : 0];
            if (!s || !(rule->states_per_row >> (s - 1) & 1))
                write_row(to + begin, result, count);
            else if (begin + BLOCK >= n)
                to[0] = result[0];
        }
    }
}

#endif
