// Filling the rings of a loop: the numbers of coming examples, and the addresses of the rows that they look up. All loops here
// are over a few examples at a time, and most of them become vectors.
#ifndef WYRM_RINGS_H
#define WYRM_RINGS_H

#include "../table.h"
#include "vector.h"

// How many examples are added at a time; a ring has room for a few times as many.
enum { BLOCK_OF_EXAMPLES = 8 };

typedef uint64_t Words __attribute__((vector_size(8 * BLOCK_OF_EXAMPLES)));
typedef int32_t Halves __attribute__((vector_size(4 * BLOCK_OF_EXAMPLES)));
typedef Words Words_anywhere __attribute__((aligned(8), may_alias));
typedef Halves Halves_anywhere __attribute__((aligned(4), may_alias));
typedef real Reals __attribute__((vector_size(sizeof(real) * BLOCK_OF_EXAMPLES)));
typedef Reals Reals_anywhere __attribute__((aligned(sizeof(real)), may_alias));

INLINE int is_any(const Words *mask) {
    uint64_t any = 0;
    for (int i = 0; i < BLOCK_OF_EXAMPLES; i++) any |= (*mask)[i];
    return any != 0;
}

// Examples to be added. Where they lie one after the other, no look at each of them is needed.
typedef struct {
    int64_t position, count, slot; // in the order; how many there are; where they belong in rings
    Words example;
    int consecutive;
} Block;

static void take_examples(Block *block, const Repetition *repetition) {
    const int64_t *order = repetition->order + block->position * repetition->width;
    const Words steps = {0, 1, 2, 3, 4, 5, 6, 7};
    block->consecutive = 0;
    if (repetition->width == 1 && block->count == BLOCK_OF_EXAMPLES) {
        block->example = *(const Words_anywhere *)order;
        const Words apart = block->example - block->example[0] - steps;
        block->consecutive = !is_any(&apart);
        if (block->consecutive && block->example[BLOCK_OF_EXAMPLES - 1] < repetition->length) return;
    }
    block->consecutive = 0;
    int64_t valid = 0;
    for (; valid < block->count && (uint64_t)order[valid * repetition->width] < repetition->length; valid++)
        block->example[valid] = (uint64_t)order[valid * repetition->width];
    block->count = valid;
    for (int64_t i = valid; valid && i < BLOCK_OF_EXAMPLES; i++) block->example[i] = block->example[valid - 1];
}

// Whether a block's values lie one after the other.
INLINE int is_dense(const Block *block, int64_t stride, int64_t item) { return block->consecutive && stride == item; }

#define TAKE(TYPE)                                                                                                     \
    for (int64_t i = 0; i < block->count; i++) {                                                                       \
        const int64_t place = number->by_position ? block->position + i : (int64_t)block->example[i];                  \
        ring[i] = (real) * (const TYPE *)(number->source + place * number->stride);                                    \
    }                                                                                                                  \
    break;

INLINE void fill_numbers(const RingNumber *number, const Block *block) {
    real *const ring = (real *)number->ring + block->slot;
    if (number->dtype == (sizeof(real) == 4 ? FLOAT32 : FLOAT64) && !number->by_position && is_dense(block, number->stride, sizeof(real))) {
        *(Reals_anywhere *)ring = *(const Reals_anywhere *)(number->source + (int64_t)block->example[0] * number->stride);
        return;
    }
    switch (number->dtype) {
    case FLOAT32: TAKE(float)
    case FLOAT64: TAKE(double)
    case INT32: TAKE(int32_t)
    case INT64: TAKE(int64_t)
    }
}

#undef TAKE

INLINE void fetch_row(const char *row, int64_t bytes) {
    const char *end = row + bytes;
    do __builtin_prefetch(row, 1);
    while ((row += 64) < end);
}

INLINE void fill_rows(const RingRow *row, Block *block) {
    Words index = {0};
    const char *from = row->source + (int64_t)block->example[0] * row->stride;
    if (!row->wide && is_dense(block, row->stride, 4))
        index = __builtin_convertvector(*(const Halves_anywhere *)from, Words);
    else if (row->wide && is_dense(block, row->stride, 8))
        index = *(const Words_anywhere *)from;
    else
        for (int i = 0; i < BLOCK_OF_EXAMPLES; i++) {
            const char *place = row->source + (int64_t)block->example[i] * row->stride;
            index[i] = (uint64_t)(row->wide ? *(const int64_t *)place : *(const int32_t *)place);
        }
    const Words wrong = (Words)(index >= row->limit);
    if (is_any(&wrong))
        for (int64_t i = 0; i < block->count; i++)
            if (index[i] >= row->limit) block->count = i;
    char **const ring = row->ring + block->slot;
    *(Words_anywhere *)ring = index * (uint64_t)row->row + (uint64_t)row->table;
    if (row->far)
        for (int64_t i = 0; i < block->count; i++) fetch_row(ring[i], row->row);
}

// Asks for the inputs of the examples from begin to before end, where they do not lie in the order in which they are needed.
static void fetch_numbers(const Repetition *repetition, int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
        const int64_t example = repetition->order[p * repetition->width];
        for (const RingNumber *number = repetition->numbers; number < repetition->numbers_end; number++)
            __builtin_prefetch(number->source + (number->by_position ? p : example) * number->stride);
        for (const RingRow *row = repetition->rows; row < repetition->rows_end; row++)
            __builtin_prefetch(row->source + example * row->stride);
    }
}

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// What of the order is in the rings: examples up to `filled`, of those before `end`. Before that of `next` is run, there is more
// to do.
typedef struct {
    int64_t filled, next, end;
} Filling;

// Goes on filling; returns whether the example at `position` is there.
static __attribute__((noinline)) int fill_further(const Repetition *repetition, Filling *filling, int64_t position) {
    while (filling->filled < filling->end && filling->filled < position + AHEAD + BLOCK_OF_EXAMPLES) {
        Block block = {.position = filling->filled, .count = smaller(BLOCK_OF_EXAMPLES, filling->end - filling->filled)};
        const int64_t wanted = block.position + block.count;
        block.slot = (int64_t)((uint64_t)(block.position - repetition->position) % RING);
        if (!repetition->in_order)
            fetch_numbers(repetition, smaller(wanted + AHEAD, repetition->known), smaller(wanted + AHEAD + BLOCK_OF_EXAMPLES, repetition->known));
        take_examples(&block, repetition);
        for (const RingNumber *number = repetition->numbers; block.count && number < repetition->numbers_end; number++)
            fill_numbers(number, &block);
        for (const RingRow *row = repetition->rows; block.count && row < repetition->rows_end; row++) fill_rows(row, &block);
        filling->filled = block.position + block.count;
        if (filling->filled < wanted) filling->end = filling->filled; // one is no good
    }
    filling->next = smaller(filling->filled < filling->end ? filling->filled - AHEAD : filling->filled, repetition->stop);
    return position < filling->next;
}

#endif
