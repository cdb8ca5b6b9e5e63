// Rows that are behind: read as they are after all steps, and brought up to date.
#ifndef WYRM_BEHIND_H
#define WYRM_BEHIND_H

#include "../clocks.h"
#include "bags.h"

// A parameter of which rows may be behind.
typedef struct {
    const Operand *value, *moving;
    Clock *clock;
} Table;

INLINE Table table_of(const Operand *operands) { return (Table){&operands[0], &operands[1], operands[2].data}; }

// Adds a row as it is after all steps, times a factor.
INLINE void add_current(real *out, real factor, const Table *table, int64_t number, int64_t cols) {
    const int64_t since = table->clock->last[number];
    if (since >= table->clock->now) {
        add_scaled(out, factor, row_of(table->value, number), cols);
        return;
    }
    const Missed missed = wyrm_missed(table->clock, since);
    add_scaled(out, factor * (real)missed.keep, row_of(table->value, number), cols);
    if (table->clock->moving >= 0) add_scaled(out, factor * -(real)missed.move, row_of(table->moving, number), cols);
}

// A row as it is after all steps; computed as when it is brought up to date, to the bit.
INLINE void current_row(real *out, const Missed *missed, const Table *table, int64_t number, int64_t cols) {
    scaled_row(out, (real)missed->keep, row_of(table->value, number), cols);
    if (table->clock->moving >= 0) add_scaled(out, -(real)missed->move, row_of(table->moving, number), cols);
}

INLINE void store_current(real *out, const Table *table, int64_t number, int64_t cols, int64_t accumulate) {
    const int64_t since = table->clock->last[number];
    if (accumulate)
        add_current(out, 1, table, number, cols);
    else if (since >= table->clock->now)
        unary_row(same, out, row_of(table->value, number), 0, cols, 0);
    else {
        const Missed missed = wyrm_missed(table->clock, since);
        current_row(out, &missed, table, number, cols);
    }
}

// Brings a row up to date; out of line, as few rows need it.
static __attribute__((noinline)) void catch_up_row(Clock *clock, const Operand *value, const Operand *moving, int64_t number) {
    const Table table = {value, moving, clock};
    const Missed missed = wyrm_missed(clock, clock->last[number]);
    current_row(row_of(value, number), &missed, &table, number, value->cols);
    if (clock->moving >= 0) scaled_row(row_of(moving, number), (real)missed.fade, row_of(moving, number), value->cols);
    clock->last[number] = clock->now;
}

static void kernel_current(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0];
    const Table table = table_of(&instruction->operand[1]);
    for (int64_t i = 0; i < out->rows; i++) store_current(row_of(out, i), &table, i, out->cols, instruction->accumulate);
}

static void kernel_current_rows(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0], *index = &instruction->operand[4];
    const Table table = table_of(&instruction->operand[1]);
    for (int64_t i = 0; i < out->rows; i++)
        store_current(row_of(out, i), &table, ((const int64_t *)index->data)[i * index->stride], out->cols, instruction->accumulate);
}

static void kernel_current_bag(const Instruction *instruction) {
    const Operand *out = &instruction->operand[0];
    const Table table = table_of(&instruction->operand[1]);
    const Bag *bag = instruction->operand[4].data;
    const int64_t mean = instruction->attribute;
    for (int64_t b = 0; b < bag->bags; b++) {
        const Shares shares = bag_shares(bag, b, mean);
        if (!instruction->accumulate) clear_row(row_of(out, b), out->cols);
        for (int64_t i = bag->offsets[b]; i < bag->offsets[b + 1]; i++)
            add_current(row_of(out, b), bag_share(bag, i, shares), &table, bag->indices[i], out->cols);
    }
}

// Counts a step, and brings the rows up to date whose turn it is.
static void kernel_tick(const Instruction *instruction) {
    const Operand *value = &instruction->operand[0], *moving = &instruction->operand[1];
    const real *scalars = instruction->operand[2].data;
    Clock *clock = instruction->operand[3].data;
    int64_t number = 0;
    for (int64_t due = wyrm_tick(clock, value->rows, (double)scalars[clock->rate], &number); due > 0; due--) {
        if (clock->last[number] < clock->now) catch_up_row(clock, value, moving, number);
        if (++number == value->rows) number = 0;
    }
}

#endif
