// Update rules: short programs over registers, run on blocks of a row. Two that are common, plain gradient descent and Adagrad,
// are recognised by what they compute, and have code of their own.
#ifndef WYRM_RULES_H
#define WYRM_RULES_H

#include "elementwise.h"

#define BLOCK 64         // elements of a row that a register holds

typedef real Register[BLOCK] __attribute__((aligned(VECTOR_BYTES)));

// What a rule is recognised as, by what it computes.
enum { NOT_LOOKED_AT, OF_ITS_OWN, DESCENT, ADAGRAD, ADAGRAD_WITH_L2 };

// A rule with its scalars and literals in registers, applied to one row after the other.
typedef struct {
    const Rule *rule;
    const RuleStep *steps;
    int64_t kind;
    real rate, eps, l2; // of the kinds that have them
    Register registers[MAX_REGISTERS];
} Updater;

// What a rule reads and writes of one row: value, gradient, states.
typedef struct {
    real *stream[2 + MAX_STATES];
    int numbers; // each element is a row of its own
} Row;

INLINE void fill(real *to, real value) {
    for (int64_t j = 0; j < BLOCK; j += LANES) store(to + j, splat(value));
}

INLINE const RuleStep *steps_of(const Rule *rule) { return (const RuleStep *)(rule->results + 1 + rule->states); }

// Whether a rule is value - rate * gradient: registers are value, gradient, scalars, literals, steps.
static int is_descent(const Rule *rule) {
    const RuleStep *product = steps_of(rule), *difference = product + 1;
    return rule->steps == 2 && !rule->states && rule->results[0] == difference->out && product->opcode == OPCODE_multiply &&
           product->a >= 2 && product->a < 2 + rule->scalars && product->b == 1 && difference->opcode == OPCODE_subtract &&
           difference->a == 0 && difference->b == product->out;
}

// Whether it is Adagrad with an accumulator for each element, and nothing besides but l2.
static int is_adagrad(const Rule *rule) {
    enum { VALUE, GRADIENT, SUM, RATE, EPS, L2 };
    const int64_t decays = rule->scalars == 3, next = RATE + rule->scalars;
    const int64_t square = next + 2 * decays, gradient = decays ? next + 1 : GRADIENT;
    const RuleStep steps[] = {
        {OPCODE_multiply, next, L2, VALUE, 0},
        {OPCODE_add, next + 1, GRADIENT, next, 0},
        {OPCODE_multiply, square, gradient, gradient, 0},
        {OPCODE_add, square + 1, SUM, square, 0},
        {OPCODE_sqrt, square + 2, square + 1, 0, 0},
        {OPCODE_add, square + 3, square + 2, EPS, 0},
        {OPCODE_divide, square + 4, RATE, square + 3, 0},
        {OPCODE_multiply, square + 5, square + 4, gradient, 0},
        {OPCODE_subtract, square + 6, VALUE, square + 5, 0},
    };
    const int64_t count = 7 + 2 * decays;
    return rule->steps == count && rule->states == 1 && !rule->states_per_row && rule->scalars == 2 + decays && !rule->literals &&
           rule->results[0] == square + 6 && rule->results[1] == square + 1 &&
           !memcmp(steps_of(rule), steps + 9 - count, (size_t)count * sizeof *steps);
}

// Threads may look at a rule at the same time, and come to the same.
static __attribute__((noinline)) int64_t recognised(Rule *rule) {
    const int64_t adagrad = rule->scalars == 3 ? ADAGRAD_WITH_L2 : ADAGRAD;
    const int64_t kind = is_descent(rule) ? DESCENT : is_adagrad(rule) ? adagrad : OF_ITS_OWN;
    __atomic_store_n(&rule->kind, kind, __ATOMIC_RELAXED);
    return kind;
}

// `count` elements from j on, or where that is 0, a vector. The flags are constants where this is used.
INLINE void adagrad_at(const Updater *updater, const Row *row, int64_t j, int64_t count, int has_l2) {
    real *at = row->stream[0] + j, *sum_at = row->stream[2] + j;
    const real *gradient_at = row->stream[1] + j;
    const vec value = count ? load_part(at, count) : load(at);
    vec gradient = count ? load_part(gradient_at, count) : load(gradient_at);
    if (has_l2) gradient += updater->l2 * value;
    const vec sum = (count ? load_part(sum_at, count) : load(sum_at)) + gradient * gradient;
    const vec moved = value - updater->rate / (square_root(sum) + updater->eps) * gradient;
    if (count) {
        store_part(at, moved, count);
        store_part(sum_at, sum, count);
    } else {
        store(at, moved);
        store(sum_at, sum);
    }
}

INLINE void adagrad_row(const Updater *updater, const Row *row, int64_t n, int has_l2) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) adagrad_at(updater, row, j, 0, has_l2);
    if (j < n) adagrad_at(updater, row, j, n - j, has_l2);
}

static void apply_adagrad(const Updater *updater, const Row *row, int64_t n) {
    if (updater->kind == ADAGRAD_WITH_L2)
        adagrad_row(updater, row, n, 1);
    else
        adagrad_row(updater, row, n, 0);
}

static void prepare(Updater *updater, const Rule *rule, const real *scalars) {
    Register *next = updater->registers + 2 + rule->states;
    updater->rule = rule;
    updater->steps = steps_of(rule);
    updater->kind = OF_ITS_OWN;
    for (int64_t i = 0; i < rule->scalars; i++) fill(*next++, scalars[i]);
    for (int64_t i = 0; i < rule->literals; i++) fill(*next++, ((const real *)rule->literal)[i]);
}

// The same for updates by gradients, where no registers are needed if the rule is known.
INLINE void prepare_update(Updater *updater, Rule *rule, const real *scalars) {
    const int64_t noted = __atomic_load_n(&rule->kind, __ATOMIC_RELAXED), kind = noted ? noted : recognised(rule);
    updater->rule = rule;
    updater->kind = kind;
    if (kind == OF_ITS_OWN) {
        prepare(updater, rule, scalars);
    } else if (kind == DESCENT) {
        updater->rate = scalars[steps_of(rule)->a - 2];
    } else {
        updater->rate = scalars[0];
        updater->eps = scalars[1];
        updater->l2 = kind == ADAGRAD_WITH_L2 ? scalars[2] : 0;
    }
}

#define STEP(NAME, RESULT)                                                                                             \
    case OPCODE_##NAME:                                                                                                \
        for (int64_t j = 0; j < n; j += LANES) store(out + j, RESULT);                                                 \
        break;
#define UNARY(NAME, VALUE) STEP(NAME, element_##NAME(load(a + j)))
#define BINARY(NAME, VALUE) STEP(NAME, element_##NAME(load(a + j), load(b + j)))
#define TERNARY(NAME, VALUE) STEP(NAME, element_##NAME(load(a + j), load(b + j), load(c + j)))

// The steps from `first` on, up to the first mean over the row that is not known yet, on the first n elements of the registers and
// whatever lies beyond them in the last vector. Returns the number of the step that it stopped at. Where each element is a row of
// its own, it is its own mean.
static int64_t run_steps(Updater *updater, int64_t first, int64_t known, int64_t n, int numbers) {
    for (int64_t s = first; s < updater->rule->steps; s++) {
        const RuleStep *step = &updater->steps[s];
        real *out = updater->registers[step->out];
        const real *a = updater->registers[step->a], *b = updater->registers[step->b], *c = updater->registers[step->c];
        switch (step->opcode) {
#include "elementwise.def"
        case OPCODE_ROW_MEAN:
            if (numbers)
                read_row(out, a, n);
            else if (s >= known)
                return s;
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
        if (s >= 2 && !row->numbers && rule->states_per_row >> (s - 2) & 1)
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
            stop = run_steps(updater, 0, known, count, 0);
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
    if (updater->kind == DESCENT) {
        add_scaled(row->stream[0], -updater->rate, row->stream[1], n);
        return;
    }
    if (updater->kind != OF_ITS_OWN) {
        apply_adagrad(updater, row, n);
        return;
    }
    const Rule *rule = updater->rule;
    const int64_t known = rule->by_element || row->numbers ? 0 : compute_means(updater, row, n);
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        const int64_t count = n - begin < BLOCK ? n - begin : BLOCK;
        read_block(updater, row, begin, count);
        run_steps(updater, 0, known, count, row->numbers);
        for (int64_t s = 0; s <= rule->states; s++) {
            const real *result = updater->registers[rule->results[s]];
            real *to = row->stream[s ? s + 1 : 0];
            if (!s || row->numbers || !(rule->states_per_row >> (s - 1) & 1))
                write_row(to + begin, result, count);
            else if (begin + BLOCK >= n)
                to[0] = result[0];
        }
    }
}

#endif
