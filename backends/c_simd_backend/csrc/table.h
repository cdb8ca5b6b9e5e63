// The tables through which programs reach native code, as wyrm/native.py and wyrm/memory.py lay them out: every word an int64.
#ifndef WYRM_TABLE_H
#define WYRM_TABLE_H

#include <stdint.h>

_Static_assert(sizeof(void *) == 8, "addresses are stored in 64-bit words");

// A matrix: element (i, j) is data[i * stride + j].
typedef struct {
    void *data;
    int64_t rows, cols, stride;
} Operand;

// One kernel applied to operands, the result first.
typedef struct Instruction {
    void (*kernel)(const struct Instruction *);
    int64_t length; // of this record, in words
    int64_t accumulate;
    int64_t attribute;
    Operand operand[];
} Instruction;

// The gradient of a parameter: a dense matrix (where there is one) and a list of rows.
typedef struct {
    int64_t touched;
    void *dense;
    int64_t count, capacity;
    int64_t *row_numbers;
    void *row_values;
    int32_t *scratch; // scratch_mask + 1 entries, at least twice the capacity
    int64_t scratch_mask;
    int64_t rows, cols;
    int64_t steps;
} Gradient;

// The steps made on a parameter, and for each row those that it has seen.
typedef struct {
    int64_t now;
    int64_t *last;
} Clock;

// Bags of a data set: bag b has the indices values[offsets[b]] to values[offsets[b + 1] - 1].
typedef struct {
    const void *values;
    const int64_t *offsets;
    const void *weights; // may be null
    int64_t dtype, weights_dtype;
} BagSource;

// The bags of one pass.
typedef struct {
    int64_t count, capacity, bags;
    int64_t *indices, *offsets;
    void *weights;
} Bag;

// One step of an update rule, over registers.
typedef struct {
    int64_t opcode, out, a, b, c;
} RuleStep;

// An update rule; its results (1 + states) and then its steps follow.
typedef struct Rule {
    int64_t states, scalars, literals, steps, registers;
    const void *literal;
    int64_t states_per_row; // bit s: state s has one element a row
    int64_t by_element;     // a matrix may be taken as one long row
    const struct Rule *catch_up;
    int64_t results[];
} Rule;

enum { DENSE, INDEX, BAG, RANDOM };

typedef struct {
    int64_t kind;
    int64_t dtype;  // of the source
    int64_t source; // pass: offset from the leaves; run: address for example 0
    int64_t stride; // bytes from one example to the next; random, in a pass: the address of the step
    int64_t count;  // of elements; of bags
    void *destination;
    int64_t limit;
    int64_t mode; // pass: the cell holds an address; run: by position
} Input;

typedef struct {
    Gradient *gradient;
    int64_t rows; // -1: the dense matrix
    const Bag *bag;
} Claim;

typedef struct {
    char *address;
    int64_t stride; // bytes
    const char *slot;
    int64_t rows, cols, slot_stride;
} Sink;

typedef struct {
    const Instruction *forward, *forward_end, *backward, *backward_end, *update, *update_end;
    const Input *inputs, *inputs_end;
    const Claim *claims, *claims_end;
    const Sink *sinks, *sinks_end;
    int64_t real; // FLOAT32 or FLOAT64
    void *seed;
    const void *loss;
    double losses;
    int64_t *report;
    int64_t leaves;     // the address that passes' sources count from
    int64_t first_step; // of a run's random inputs
} Frame;

enum { FLOAT32, FLOAT64, INT32, INT64 };
enum { INDEX_OUT_OF_RANGE = 1, ROWS_FULL, NOT_FINITE, BAG_FULL };

#endif
