// Numbers that are drawn, as wyrm/philox.py has them, and drawn again until a value is positive: the one loop of a program.
#ifndef WYRM_DRAWS_H
#define WYRM_DRAWS_H

#include "random.h"

enum { ATTEMPTS = 64 };

// Whether one of several numbers is a certain one, without a branch for each. The last vector may overlap the one before.
#define CONTAINS(NAME, TYPE)                                                                                           \
    typedef TYPE NAME##_vec __attribute__((vector_size(VECTOR_BYTES)));                                                \
    INLINE int NAME(const TYPE *from, const TYPE *end, TYPE number) {                                                  \
        enum { EACH = VECTOR_BYTES / sizeof(TYPE) };                                                                   \
        if (end - from < EACH) {                                                                                       \
            int found = 0;                                                                                             \
            for (; from < end; from++) found |= *from == number;                                                       \
            return found;                                                                                              \
        }                                                                                                              \
        NAME##_vec any = {0}, numbers;                                                                                 \
        for (; from < end; from += EACH) {                                                                             \
            memcpy(&numbers, end - from < EACH ? end - EACH : from, sizeof numbers);                                   \
            any |= numbers == number;                                                                                  \
        }                                                                                                              \
        TYPE found = 0;                                                                                                \
        for (int i = 0; i < EACH; i++) found |= any[i];                                                                \
        return found != 0;                                                                                             \
    }
CONTAINS(contains_int, int32_t)
CONTAINS(contains_long, int64_t)
#undef CONTAINS

// Whether a number is among those that must not be drawn.
INLINE int is_excluded(const Bag *bag, int64_t row, int64_t number) {
    const int64_t which = bag->bags == 1 ? 0 : row;
    const void *begin = bag->places[which].begin, *end = bag->places[which].end;
    return bag->dtype == INT64 ? contains_long(begin, end, number) : contains_int(begin, end, (int32_t)number);
}

// The number that an attempt at a draw comes to, below draw->rows.
INLINE int64_t attempted(const Instruction *instruction, const Draw *draw, uint64_t count, uint64_t attempt) {
    const uint64_t *table = draw->table ? instruction->operand[draw->table].data : 0;
    const uint64_t rows = (uint64_t)draw->rows;
    uint32_t words[4];
    philox(instruction->operand[1].data, ATTEMPTS * count + attempt, words);
    const uint64_t number = (words[0] * rows + ((words[1] * rows) >> 32)) >> 32;
    return (int64_t)(table && words[2] >= table[number] >> 32 ? (uint32_t)table[number] : number);
}

// Numbers that stand as they are drawn: attempts that come to excluded ones are repeated.
static void draw_once(const Instruction *instruction, const Draw *draw, const Bag *bag) {
    const Operand *out = &instruction->operand[0];
    int64_t *numbers = out->data;
    for (int64_t i = 0; i < out->rows; i++) {
        int64_t *number = &numbers[i * out->stride];
        for (uint64_t attempt = 0; attempt < ATTEMPTS; attempt++) {
            *number = attempted(instruction, draw, (uint64_t)i, attempt);
            if (!bag || !is_excluded(bag, i, *number)) break;
        }
    }
}

// One number, with what is repeated, until that is positive and the number not excluded.
static void draw_until(const Instruction *instruction, const Draw *draw, const Bag *bag) {
    int64_t *number = instruction->operand[0].data;
    real *rank = instruction->operand[2].data, *until = instruction->operand[draw->until].data;
    const Instruction *body = (const Instruction *)&instruction->operand[draw->operands];
    const Instruction *end = (const Instruction *)((const int64_t *)instruction + instruction->length);
    int64_t coming = attempted(instruction, draw, 0, 0);
    for (int64_t made = 0; made < draw->tries; made++) {
        *number = coming;
        coming = attempted(instruction, draw, (uint64_t)made + 1, 0); // while the body waits for memory; perhaps in vain
        const int64_t estimate = (draw->rows - 1) / (made + 1);
        *rank = estimate > 1 ? (real)estimate : 1;
        for (const Instruction *next = body; next < end; next = (const Instruction *)((const int64_t *)next + next->length))
            next->kernel(next);
        if (*until > 0 && (!bag || !is_excluded(bag, 0, *number))) return;
    }
    if (*until > 0) *until = 0;
}

static void kernel_draw(const Instruction *instruction) {
    const Draw *draw = (const Draw *)instruction->attribute;
    const Bag *bag = draw->bag ? instruction->operand[draw->bag].data : 0;
    if (draw->until) {
        draw_until(instruction, draw, bag);
    } else {
        draw_once(instruction, draw, bag);
        *(real *)instruction->operand[2].data = draw->rows > 2 ? (real)(draw->rows - 1) : 1;
    }
}

#endif
