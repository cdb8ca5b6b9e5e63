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

// What comes of a draw, below draw->rows; `row` is that of the result.
INLINE int64_t drawn(const Instruction *instruction, const Draw *draw, uint64_t count, int64_t row) {
    const uint64_t *table = draw->table ? instruction->operand[draw->table].data : 0;
    const Bag *bag = draw->bag ? instruction->operand[draw->bag].data : 0;
    const uint64_t rows = (uint64_t)draw->rows;
    uint64_t number = 0;
    for (uint64_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint32_t words[4];
        philox(instruction->operand[1].data, ATTEMPTS * count + attempt, words);
        number = (words[0] * rows + ((words[1] * rows) >> 32)) >> 32;
        if (table && words[2] >= table[number] >> 32) number = (uint32_t)table[number];
        if (!bag || !is_excluded(bag, row, (int64_t)number)) break;
    }
    return (int64_t)number;
}

static void kernel_draw(const Instruction *instruction) {
    const Draw *draw = (const Draw *)instruction->attribute;
    const Operand *out = &instruction->operand[0];
    int64_t *numbers = out->data;
    real *rank = instruction->operand[2].data;
    const real *until = draw->until ? instruction->operand[draw->until].data : 0;
    const Instruction *body = (const Instruction *)&instruction->operand[draw->operands];
    const Instruction *end = (const Instruction *)((const int64_t *)instruction + instruction->length);
    for (int64_t made = 0; made < draw->tries; made++) {
        for (int64_t i = 0; i < out->rows; i++) numbers[i * out->stride] = drawn(instruction, draw, (uint64_t)(made + i), i);
        const int64_t estimate = (draw->rows - 1) / (made + 1);
        *rank = estimate > 1 ? (real)estimate : 1;
        for (const Instruction *next = body; next < end; next = (const Instruction *)((const int64_t *)next + next->length))
            next->kernel(next);
        if (!until || *until > 0) return;
    }
}

#endif
