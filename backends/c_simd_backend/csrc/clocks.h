// What steps do to rows that they do not touch. wyrm/clocks.py says what a clock keeps, and computes the same to the bit: so this
// is compiled without products that are fused with sums.
#ifndef WYRM_CLOCKS_H
#define WYRM_CLOCKS_H

#include "table.h"

// value = keep * value - move * velocity, velocity = fade * velocity.
typedef struct {
    double keep, move, fade;
} Missed;

// What the steps come to that were made since a row was up to date.
Missed wyrm_missed(const Clock *clock, int64_t since);

// Counts a step; returns how many rows are to be brought up to date now, from *first on, after the last row the first.
int64_t wyrm_tick(Clock *clock, int64_t rows, double rate, int64_t *first);

#endif
