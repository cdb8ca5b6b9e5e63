// Random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), as wyrm/philox.py has it.
#ifndef WYRM_RANDOM_H
#define WYRM_RANDOM_H

#include "elementwise.h"

// Four words that depend on the key (seed, stream, step) and the block's number alone.
INLINE void philox(const int64_t *key, uint64_t block, uint32_t words[4]) {
    uint32_t low = (uint32_t)key[0], high = (uint32_t)((uint64_t)key[0] >> 32);
    uint32_t a = (uint32_t)block, b = (uint32_t)key[1], c = (uint32_t)key[2], d = (uint32_t)((uint64_t)key[2] >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t first = (uint64_t)a * 0xD2511F53u, second = (uint64_t)c * 0xCD9E8D57u;
        a = (uint32_t)(second >> 32) ^ b ^ low;
        b = (uint32_t)second;
        c = (uint32_t)(first >> 32) ^ d ^ high;
        d = (uint32_t)first;
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
    words[0] = a;
    words[1] = b;
    words[2] = c;
    words[3] = d;
}

// Those of several blocks, one in each lane.
INLINE void philox_lanes(const int64_t *key, wvec block, wvec words[4]) {
    const wvec half = (wvec){0} + 0xFFFFFFFFu, first_factor = (wvec){0} + 0xD2511F53u, second_factor = (wvec){0} + 0xCD9E8D57u;
    uint32_t low = (uint32_t)key[0], high = (uint32_t)((uint64_t)key[0] >> 32);
    wvec a = block, b = (wvec){0} + (uint32_t)key[1], c = (wvec){0} + (uint32_t)key[2], d = (wvec){0} + ((uint64_t)key[2] >> 32);
    UNROLLED
    for (int round = 0; round < 10; round++) { // the upper halves of b and d are whatever they are
        const wvec first = products_of_halves(a, first_factor), second = products_of_halves(c, second_factor);
        a = (second >> 32) ^ b ^ low;
        b = second;
        c = (first >> 32) ^ d ^ high;
        d = first;
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
    words[0] = a & half;
    words[1] = b & half;
    words[2] = c & half;
    words[3] = d & half;
}

static void kernel_dropout_mask(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0];
    const int64_t *key = instruction->operand[1].data;
    const real rate = *(const real *)instruction->operand[2].data, scale = 1 / (1 - rate);
    uint32_t words[4] = {0};
    for (int64_t i = 0, element = 0; i < out->rows; i++) {
        real *to = row_of(out, i);
        for (int64_t j = 0; j < out->cols; j++, element++) {
            if (element % 4 == 0) philox(key, (uint64_t)element / 4, words);
            const real uniform = (real)(words[element % 4] >> 8) * (real)0x1p-24;
            const real factor = uniform >= rate ? scale : 0;
            to[j] = instruction->accumulate ? to[j] + factor : factor;
        }
    }
}

#endif
