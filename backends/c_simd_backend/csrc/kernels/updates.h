// Updates of parameters by rules.
#ifndef WYRM_UPDATES_H
#define WYRM_UPDATES_H

#include "behind.h"
#include "rules.h"

// A parameter, with what its rule reads and writes beside it.
typedef struct {
    Rule *rule;
    const Operand *value, *states;
    const real *scalars;
    Clock *clock; // null where the rule has none
} Target;

// The operands from `first` on are the states, the scalars and the clock.
INLINE Target target_of(const Instruction *instruction, int first) {
    Rule *rule = (Rule *)instruction->attribute;
    const Operand *states = &instruction->operand[1 + first];
    Clock *clock = rule->catch_up ? states[rule->states + 1].data : 0;
    return (Target){rule, &instruction->operand[0], states, states[rule->states].data, clock};
}

// Written where it is used: to copy what has just been written in parts would have to wait.
INLINE void point_to_row(Row *row, const Target *target, int64_t number, const real *gradient) {
    row->numbers = 0;
    row->stream[0] = row_of(target->value, number);
    row->stream[1] = (real *)gradient;
    for (int64_t s = 0; s < target->rule->states; s++) row->stream[2 + s] = row_of(&target->states[s], number);
}

// --- updates ----------------------------------------------------------------------------------------------------

INLINE void tick_row(const Target *target, int64_t number) {
    Clock *clock = target->clock;
    if (!clock) return;
    if (clock->last[number] < clock->now) {
        const Operand *moving = clock->moving < 0 ? target->value : &target->states[clock->moving];
        catch_up_row(clock, target->value, moving, number);
    }
    if (clock->last[number] <= clock->now) clock->last[number] = clock->now + 1;
}

INLINE void update_row(Updater *updater, const Target *target, int64_t number, const real *gradient) {
    tick_row(target, number);
    Row row;
    point_to_row(&row, target, number, gradient);
    apply_rule(updater, &row, target->value->cols);
}

// Rows of one number each, all different: brought together, updated as elements of one row, and put back.
static void update_numbers(Updater *updater, const Target *target, const int64_t *numbers, const real *gradient, int64_t count) {
    Register together[1 + MAX_STATES];
    for (; count > 0; count -= BLOCK, numbers += BLOCK, gradient += BLOCK) {
        const int64_t n = count < BLOCK ? count : BLOCK;
        Row row = {.stream[1] = (real *)gradient, .numbers = 1};
        for (int64_t i = 0; i < n; i++) tick_row(target, numbers[i]);
        for (int64_t s = 0; s <= target->rule->states; s++) {
            const Operand *from = s ? &target->states[s - 1] : target->value;
            row.stream[s ? s + 1 : 0] = together[s];
            for (int64_t i = 0; i < n; i++) together[s][i] = *row_of(from, numbers[i]);
        }
        apply_rule(updater, &row, n);
        for (int64_t s = 0; s <= target->rule->states; s++) {
            const Operand *to = s ? &target->states[s - 1] : target->value;
            for (int64_t i = 0; i < n; i++) *row_of(to, numbers[i]) = together[s][i];
        }
    }
}

INLINE void update_all(Updater *updater, const Target *target, const real *gradient, int64_t stride) {
    const Operand *value = target->value;
    if (target->rule->by_element && stride == value->cols && value->stride == value->cols) {
        Row row;
        point_to_row(&row, target, 0, gradient);
        apply_rule(updater, &row, value->rows * value->cols);
    } else {
        for (int64_t i = 0; i < value->rows; i++) update_row(updater, target, i, gradient + i * stride);
    }
}

static void kernel_update(const Instruction *instruction) {
    const Operand *gradient = &instruction->operand[1];
    const Target target = target_of(instruction, 1);
    Updater updater;
    prepare_update(&updater, target.rule, target.scalars);
    update_all(&updater, &target, gradient->data, gradient->stride);
}

static void kernel_update_rows(const Instruction *instruction) {
    const Operand *index = &instruction->operand[1], *rows = &instruction->operand[2];
    const Target target = target_of(instruction, 2);
    Updater updater;
    prepare_update(&updater, target.rule, target.scalars);
    for (int64_t i = 0; i < rows->rows; i++)
        update_row(&updater, &target, ((const int64_t *)index->data)[i * index->stride], row_of(rows, i));
}

// Adds the rows of a gradient's list to its matrix.
INLINE void gather_densely(Gradient *gradient) {
    const int64_t cols = gradient->cols;
    for (int64_t i = 0; i < gradient->count; i++) {
        real *to = (real *)gradient->dense + gradient->row_numbers[i] * cols;
        unary_row(same, to, (const real *)gradient->row_values + i * cols, 0, cols, 1);
    }
    gradient->count = 0;
}

static void kernel_update_gradient(const Instruction *instruction) {
    Gradient *gradient = instruction->operand[1].data;
    gradient->steps++;
    gradient->doubt &= 2;
    if (!gradient->touched && !gradient->count) return;
    const Target target = target_of(instruction, 1);
    const int64_t cols = gradient->cols;
    Updater updater;
    prepare_update(&updater, target.rule, target.scalars);
    if (gradient->touched) {
        gather_densely(gradient);
        update_all(&updater, &target, gradient->dense, cols);
        clear_row(gradient->dense, gradient->rows * cols);
    } else {
        merge_rows(gradient);
        if (cols == 1) update_numbers(&updater, &target, gradient->row_numbers, gradient->row_values, gradient->count);
        for (int64_t i = 0; cols > 1 && i < gradient->count; i++)
            update_row(&updater, &target, gradient->row_numbers[i], (const real *)gradient->row_values + i * cols);
    }
    gradient->touched = 0;
    gradient->count = 0;
}

// Adds a gradient to another, which has room for it (that has been checked before), and clears it.
static void kernel_merge_gradient(const Instruction *instruction) {
    Gradient *to = instruction->operand[0].data, *from = instruction->operand[1].data;
    const int64_t cols = from->cols;
    if (from->touched) {
        unary_row(same, to->dense, from->dense, 0, from->rows * cols, 1);
        clear_row(from->dense, from->rows * cols);
        to->touched = 1;
    }
    if (from->count) {
        memcpy(to->row_numbers + to->count, from->row_numbers, (size_t)from->count * sizeof *from->row_numbers);
        unary_row(same, (real *)to->row_values + to->count * cols, from->row_values, 0, from->count * cols, 0);
    }
    to->count += from->count;
    from->touched = 0;
    from->count = 0;
}

// --- norms ------------------------------------------------------------------------------------------------------

INLINE real squares(const real *row, int64_t n) {
    vec sum = {0};
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) sum += load(row + j) * load(row + j);
    if (j < n) sum += load_part(row + j, n - j) * load_part(row + j, n - j);
    return lane_sum(sum);
}

// Of rows whose numbers are given, or of the first `count`; without those that are frozen, by a number for each row of the table.
static real squares_of_free_rows(const real *values, int64_t cols, const int64_t *numbers, int64_t count, const Operand *frozen) {
    real sum = 0;
    for (int64_t i = 0; i < count; i++)
        if (!*row_of(frozen, numbers ? numbers[i] : i)) sum += squares(values + i * cols, cols);
    return sum;
}

static void kernel_square_sum(const Instruction *instruction) {
    real *out = instruction->operand[0].data;
    Gradient *gradient = instruction->operand[1].data;
    const int64_t cols = gradient->cols, words = (int64_t)(sizeof *instruction + 2 * sizeof(Operand)) / 8;
    const Operand *frozen = instruction->length > words ? &instruction->operand[2] : 0;
    const int64_t *numbers = 0;
    const real *values;
    int64_t count;
    if (gradient->touched) {
        gather_densely(gradient);
        values = gradient->dense;
        count = gradient->rows;
    } else {
        merge_rows(gradient);
        values = gradient->row_values;
        numbers = gradient->row_numbers;
        count = gradient->count;
    }
    const real sum = frozen ? squares_of_free_rows(values, cols, numbers, count, frozen) : squares(values, count * cols);
    *out = instruction->accumulate ? *out + sum : sum;
}

#endif
