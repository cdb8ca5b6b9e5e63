// Numbers that are drawn, as wyrm/philox.py has them, and drawn again until a value is positive: the one loop of a program.
#ifndef WYRM_DRAWS_H
#define WYRM_DRAWS_H

#include <stdlib.h>

#include "random.h"

enum { ATTEMPTS = 64 };

// Whether one of several numbers is a certain one, without a branch for each. The last vector may overlap the one before.
#define CONTAINS(NAME, TYPE, LOOSE)                                                                                    \
    typedef TYPE NAME##_vec __attribute__((vector_size(VECTOR_BYTES)));                                                \
    INLINE int NAME(const LOOSE *from, const LOOSE *end, TYPE number) {                                                  \
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
CONTAINS(contains_int, int32_t, LooseInt)
CONTAINS(contains_long, int64_t, LooseLong)
#undef CONTAINS

// Whether a number is among those that must not be drawn.
INLINE int is_excluded(const Bag *bag, int64_t row, int64_t number) {
    const int64_t which = bag->bags == 1 ? 0 : row;
    const void *begin = bag->places[which].begin, *end = bag->places[which].end;
    return bag->dtype == INT64 ? contains_long(begin, end, number) : contains_int(begin, end, (int32_t)number);
}

// The number that an entry of an alias table stands for, if it is not its own; below the rows, whatever memory holds.
INLINE int64_t alias_of(uint64_t entry, int64_t rows) {
    const int64_t alias = (uint32_t)entry;
    return alias < rows ? alias : rows - 1;
}

// The numbers, below draw->rows, that WORDS attempts come to: their blocks of random numbers are `apart` from each other.
INLINE void attempt(const Instruction *instruction, const Draw *draw, uint64_t block, uint64_t apart, int64_t *numbers) {
    const wvec rows = (wvec){0} + (uint64_t)draw->rows;
    wvec words[4];
    philox_lanes(instruction->operand[1].data, block + apart * counting_words, words);
    store_words(numbers, (products_of_halves(words[0], rows) + (products_of_halves(words[1], rows) >> 32)) >> 32);
    if (!draw->table) return;
    const uint64_t *table = instruction->operand[draw->table].data;
    for (int i = 0; i < WORDS; i++) {
        const uint64_t entry = table[numbers[i]];
        if (words[2][i] >= entry >> 32) numbers[i] = alias_of(entry, draw->rows);
    }
}

// The fraction of 64 bits, times a whole number below 2**63.
INLINE uint64_t part_of(uint64_t whole, const uint32_t fraction[2]) {
    const uint64_t half = 0xFFFFFFFFu, high = whole >> 32, low = whole & half;
    const uint64_t a = high * fraction[1], b = low * fraction[0], c = low * fraction[1];
    return high * fraction[0] + (a >> 32) + (b >> 32) + (((a & half) + (b & half) + (c >> 32)) >> 32);
}

// Which numbers are excluded, as bits; 0 if there is no memory for them.
static uint64_t *excluded_bits(const Bag *bag, int64_t row, int64_t rows) {
    uint64_t *bits = calloc((size_t)(rows + 63) / 64, sizeof *bits);
    const int64_t which = bag->bags == 1 ? 0 : row;
    const char *next = bag->places[which].begin, *end = bag->places[which].end;
    for (; bits && next < end; next += bag->dtype == INT64 ? 8 : 4) {
        const int64_t number = bag->dtype == INT64 ? *(const int64_t *)next : *(const int32_t *)next;
        bits[number / 64] |= (uint64_t)1 << number % 64;
    }
    return bits;
}

// Goes through the tickets of what is left up to a ticket, whose number it returns; -1: there are none so late. Adds up those
// that it has passed.
static int64_t owner_of(const uint64_t *table, const uint64_t *bits, const Bag *bag, int64_t row, int64_t rows, uint64_t ticket, uint64_t *passed) {
    for (int64_t entry = 0; entry < rows; entry++) {
        const uint64_t own = table ? table[entry] >> 32 : 1, rest = table ? ((uint64_t)1 << 32) - own : 0;
        for (int part = 0; part < (table ? 2 : 1); part++) {
            const int64_t number = part ? alias_of(table[entry], rows) : entry;
            if (bits ? bits[number / 64] >> number % 64 & 1 : (uint64_t)is_excluded(bag, row, number)) continue;
            *passed += part ? rest : own;
            if (ticket < *passed) return number;
        }
    }
    return -1;
}

// A draw from what is left; -1: that is nothing.
static int64_t drawn_from_what_is_left(const Instruction *instruction, const Draw *draw, const Bag *bag, int64_t row) {
    const uint64_t *table = draw->table ? instruction->operand[draw->table].data : 0;
    uint64_t *bits = excluded_bits(bag, row, draw->rows), tickets = 0, passed = 0;
    uint32_t words[4];
    owner_of(table, bits, bag, row, draw->rows, UINT64_MAX, &tickets);
    philox(instruction->operand[1].data, (uint64_t)(ATTEMPTS * row + ATTEMPTS - 1), words);
    const int64_t drawn = owner_of(table, bits, bag, row, draw->rows, part_of(tickets, words), &passed);
    free(bits);
    return drawn;
}

// What comes of a draw whose first attempt came to an excluded number; -1: nothing is left.
static __attribute__((noinline)) int64_t drawn_again(const Instruction *instruction, const Draw *draw, const Bag *bag, int64_t row) {
    int64_t numbers[WORDS];
    for (int made = 1; made < ATTEMPTS - 1; made++) {
        const int lane = (made - 1) % WORDS;
        if (!lane) attempt(instruction, draw, (uint64_t)(ATTEMPTS * row + made), 1, numbers);
        if (!is_excluded(bag, row, numbers[lane])) return numbers[lane];
    }
    return drawn_from_what_is_left(instruction, draw, bag, row);
}

// Lets a draw for which nothing was left have some number, and notes it in the outcome.
INLINE int64_t noted(int64_t number, real *outcome) {
    if (number >= 0) return number;
    outcome[1] = 0;
    return 0;
}

// Numbers that stand as they are drawn.
static void draw_once(const Instruction *instruction, const Draw *draw, const Bag *bag) {
    const Operand *out = &instruction->operand[0];
    int64_t *numbers = out->data, coming[WORDS];
    real *outcome = instruction->operand[2].data;
    outcome[0] = draw->rows > 2 ? (real)(draw->rows - 1) : 1;
    outcome[1] = 1;
    for (int64_t i = 0; i < out->rows; i++) {
        if (i % WORDS == 0) attempt(instruction, draw, (uint64_t)(ATTEMPTS * i), ATTEMPTS, coming);
        int64_t number = coming[i % WORDS];
        if (bag && is_excluded(bag, i, number)) number = noted(drawn_again(instruction, draw, bag, i), outcome);
        numbers[i * out->stride] = number;
    }
}

// One number, with what is repeated, until that is positive and the number not excluded.
static void draw_until(const Instruction *instruction, const Draw *draw, const Bag *bag) {
    int64_t *number = instruction->operand[0].data, coming[WORDS];
    real *outcome = instruction->operand[2].data, *until = instruction->operand[draw->until].data;
    const Instruction *body = (const Instruction *)&instruction->operand[draw->operands];
    const Instruction *end = (const Instruction *)((const int64_t *)instruction + instruction->length);
    for (int64_t made = 0; made < draw->tries; made++) {
        if (made % WORDS == 0) attempt(instruction, draw, (uint64_t)(ATTEMPTS * made), ATTEMPTS, coming);
        *number = coming[made % WORDS];
        const uint32_t estimate = (uint32_t)(draw->rows - 1) / (uint32_t)(made + 1); // twice as fast as that of 64 bits
        const int last = made + 1 == draw->tries;
        outcome[0] = estimate > 1 ? (real)estimate : 1;
        outcome[1] = 1;
        if (last && bag && is_excluded(bag, 0, *number)) *number = noted(drawn_again(instruction, draw, bag, made), outcome);
        for (const Instruction *next = body; next < end; next = (const Instruction *)((const int64_t *)next + next->length))
            next->kernel(next);
        if (*until > 0 && (last ? outcome[1] > 0 : !bag || !is_excluded(bag, 0, *number))) return;
    }
    if (*until > 0) *until = 0;
}

static void kernel_draw(const Instruction *instruction) {
    const Draw *draw = (const Draw *)instruction->attribute;
    const Bag *bag = draw->bag ? instruction->operand[draw->bag].data : 0;
    if (draw->until)
        draw_until(instruction, draw, bag);
    else
        draw_once(instruction, draw, bag);
}

#endif
