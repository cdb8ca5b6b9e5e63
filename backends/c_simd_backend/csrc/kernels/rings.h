// Filling the rings of a loop: the numbers of coming examples, and the addresses of the rows that they look up. What lies in
// memory as it is needed is taken in vectors.
#ifndef WYRM_RINGS_H
#define WYRM_RINGS_H

#include "../table.h"
#include "vector.h"

// How many examples are added at a time; a ring has room for a few times as many.
enum { BLOCK_OF_EXAMPLES = 16 };

// Examples to be added. Where they lie one after the other, no look at each of them is needed.
typedef struct {
    int64_t position, count, slot; // in the order; how many there are; where they belong in rings
    uint64_t example[BLOCK_OF_EXAMPLES];
    int consecutive;
} Block;

// Whether a whole block of examples lies one after the other; if so, takes them.
INLINE int take_consecutive(Block *block, const int64_t *order, uint64_t length) {
    const uint64_t first = (uint64_t)order[0];
    if (first >= length || length - first < BLOCK_OF_EXAMPLES) return 0;
    wvec apart = {0};
    UNROLLED
    for (int i = 0; i < BLOCK_OF_EXAMPLES; i += WORDS) {
        const wvec example = load_words(order + i);
        apart |= example ^ (counting_words + (first + (uint64_t)i));
        store_words(block->example + i, example);
    }
    return !is_any(apart);
}

#define SELDOM static __attribute__((noinline)) // it would take registers from what is done more often

SELDOM void take_scattered(Block *block, const Repetition *repetition, const int64_t *order) {
    int64_t valid = 0;
    for (; valid < block->count && (uint64_t)order[valid * repetition->width] < repetition->length; valid++)
        block->example[valid] = (uint64_t)order[valid * repetition->width];
    block->count = valid;
}

INLINE void take_examples(Block *block, const Repetition *repetition) {
    const int64_t *order = repetition->order + block->position * repetition->width;
    block->consecutive = repetition->width == 1 && block->count == BLOCK_OF_EXAMPLES && take_consecutive(block, order, repetition->length);
    if (!block->consecutive) take_scattered(block, repetition, order);
}

// Whether a block's values lie one after the other.
INLINE int is_dense(const Block *block, int64_t stride, int64_t item) { return block->consecutive && stride == item; }

#define TAKE(TYPE)                                                                                                     \
    for (int64_t i = 0; i < block->count; i++) {                                                                       \
        const int64_t place = number->by_position ? block->position + i : (int64_t)block->example[i];                  \
        ring[i] = (real) * (const TYPE *)(number->source + place * number->stride);                                    \
    }                                                                                                                  \
    break;

SELDOM void take_numbers(const RingNumber *number, const Block *block, real *ring) {
    switch (number->dtype) {
    case FLOAT32: TAKE(LooseFloat)
    case FLOAT64: TAKE(LooseDouble)
    case INT32: TAKE(LooseInt)
    case INT64: TAKE(LooseLong)
    }
}

INLINE void fill_numbers(const RingNumber *number, const Block *block) {
    real *const ring = (real *)number->ring + block->slot;
    const int is_real = number->dtype == (sizeof(real) == 4 ? FLOAT32 : FLOAT64);
    if (is_real && !number->by_position && is_dense(block, number->stride, sizeof(real)))
        memcpy(ring, number->source + (int64_t)block->example[0] * number->stride, BLOCK_OF_EXAMPLES * sizeof(real));
    else
        take_numbers(number, block, ring);
}

#undef TAKE

INLINE void fetch_row(const char *row, int64_t bytes) {
    const char *end = row + bytes;
    do __builtin_prefetch(row, 1);
    while ((row += 64) < end);
}

// The rows of a block whose indices lie one after the other. Returns whether it could be done: indices, and bytes of a row, have
// to be below 2^32.
INLINE int fill_dense_rows(const RingRow *row, char **ring, const char *from) {
    if ((row->limit | (uint64_t)row->row) >> 32) return 0;
    wvec wrong = {0};
    UNROLLED
    for (int i = 0; i < BLOCK_OF_EXAMPLES; i += WORDS) {
        const wvec index = row->wide ? load_words(from + 8 * i) : load_halves(from + 4 * i);
        wrong |= (wvec)(index >= row->limit);
        store_words(ring + i, products_of_halves(index, (wvec){0} + (uint64_t)row->row) + (uint64_t)row->table);
    }
    return !is_any(wrong);
}

SELDOM void fill_scattered_rows(const RingRow *row, Block *block, char **ring) {
    for (int64_t i = 0; i < block->count; i++) {
        const char *from = row->source + (int64_t)block->example[i] * row->stride;
        const uint64_t index = (uint64_t)(row->wide ? *(const LooseLong *)from : *(const LooseInt *)from);
        if (index >= row->limit) block->count = i;
        ring[i] = row->table + index * (uint64_t)row->row;
    }
}

INLINE void fill_rows(const RingRow *row, Block *block) {
    char **const ring = row->ring + block->slot;
    const char *from = row->source + (int64_t)block->example[0] * row->stride;
    if (!is_dense(block, row->stride, row->wide ? 8 : 4) || !fill_dense_rows(row, ring, from)) fill_scattered_rows(row, block, ring);
}

// Asks for the rows of tables that are not in the cache, of the example in one place of the rings. It does no harm where there is
// none.
INLINE void fetch_rows(const Repetition *repetition, uint64_t k) {
    for (const RingRow *row = repetition->rows; row < repetition->rows_end; row++)
        if (row->far) fetch_row(row->ring[k % RING], row->row);
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
        block.slot = (int64_t)((uint64_t)(block.position - repetition->begin) % RING);
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
    if (repetition->far && position == repetition->begin)
        for (uint64_t k = 0; k < AHEAD; k++) fetch_rows(repetition, k);
    return position < filling->next;
}

#endif
