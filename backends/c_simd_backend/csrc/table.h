// The tables through which programs reach native code, as wyrm/native.py and wyrm/memory.py lay them out: every word an int64.
#ifndef WYRM_TABLE_H
#define WYRM_TABLE_H

#include <stdint.h>

_Static_assert(sizeof(void *) == 8, "addresses are stored in 64-bit words");

// The most registers and states of an update rule; checked when a rule is compiled.
enum { MAX_REGISTERS = 64, MAX_STATES = 8 };

// Numbers of a feed, which may stand at any address.
typedef float __attribute__((aligned(1))) LooseFloat;
typedef double __attribute__((aligned(1))) LooseDouble;
typedef int32_t __attribute__((aligned(1))) LooseInt;
typedef int64_t __attribute__((aligned(1))) LooseLong;

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

// Where the address of a row belongs, or one that lies some bytes further on.
typedef struct {
    char **place;
    int64_t offset;
} RowUse;

// A row that is read where it stands.
typedef struct {
    const int64_t *index;
    char *table;
    int64_t stride; // bytes
    const RowUse *uses, *uses_end;
} Lookup;

// A step of a loop or of a chain of one element. `code` is where it is made; see loops.h.
typedef struct {
    const void *code;
    void *out;
    const void *a, *b, *c;
} SingleStep;

// One number or index of each example: source + stride * example.
typedef struct {
    const char *source;
    int64_t stride;
    void *destination;
    const void *input;
} Single;

// Examples that a loop has at hand: for each input, a ring of so many numbers, or addresses of the rows that its indices name.
enum { RING = 64 };

// How many runs ahead rows are fetched into the cache, and half of how many inputs are: in random order, each is a miss.
// On a table of 64 MB, half as many came late.
enum { AHEAD = 16 };

// A number of each example, for a loop.
typedef struct {
    const char *source;
    int64_t stride, dtype, by_position;
    void *ring;
} RingNumber;

// The row that an index of each example names, for a loop; without a table, the index itself.
typedef struct {
    const char *source;
    int64_t stride;
    int64_t wide; // it has eight bytes, not four
    uint64_t limit;
    char *table;
    int64_t row; // bytes
    int64_t far; // the table is not in the cache
    char **ring;
} RingRow;

// What goes from a ring to where an instruction finds it, before each run.
typedef struct {
    const char *ring;
    char *place;
    int64_t is_number; // else it is an address, to which `offset` is added
    int64_t offset;
} RingUse;

// The examples that a loop goes through.
typedef struct {
    const int64_t *order;
    int64_t width;                 // numbers in the order from one run to the next
    int64_t begin, position, stop, known; // `position` is the next one; it may end before `stop`; the order is known up to `known`
    uint64_t length;               // every example is below
    const RingNumber *numbers, *numbers_end;
    const RingRow *rows, *rows_end;
    const RingUse *uses, *uses_end;
    int64_t in_order; // inputs lie in memory as they are needed
    int64_t far;      // there are tables that are not in the cache
    double losses;
    int (*claim)(const void *); // makes sure that there is room for gradients; given the frame
    const void *frame;
} Repetition;

// The steps of a whole run, and what makes runs of them until one cannot be made, which changes nothing that outlives it.
typedef struct Loop {
    void (*run)(const struct Loop *, Repetition *);
    SingleStep steps[];
} Loop;

// An input of a loop: where it is for instructions, and its ring; for an index, the table or null.
typedef struct {
    const void *destination;
    char *table;
    int64_t row; // bytes
    void *ring;
} LoopInput;

// A step of a chain, over registers.
typedef struct {
    int64_t opcode, a, b, c;
} ChainStep;

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
    int64_t doubt; // whether it may be NaN or infinite; the second bit stays
} Gradient;

// The steps made on a parameter, and for each row those that it has seen: see clocks.h.
typedef struct {
    int64_t now;
    int64_t *last;
    double *rates;
    void *stretches;
    int64_t mask;
    double decay, momentum;
    int64_t rate;   // which of the scalars
    int64_t moving; // which of the states; -1: none
    int64_t every, due, next;
} Clock;

// Bags of a data set: bag b has the indices values[begins[b]] to values[ends[b] - 1].
typedef struct {
    const void *values;
    const int64_t *begins, *ends;
    const void *weights; // may be null
    int64_t dtype, weights_dtype;
    int64_t length; // of values
} BagSource;

// The bags of one pass.
typedef struct {
    int64_t count, capacity, bags;
    int64_t *indices, *offsets;
    void *weights;
    int64_t dtype; // of the source
    struct {
        const void *begin, *end;
    } *places; // of each bag in the source
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
    int64_t catch_up;       // whether there is a clock
    int64_t kind; // what it is recognised as, once it has been looked at
    int64_t results[];
} Rule;

// How numbers are drawn: numbers of operands, 0 where there is none of the kind. The body follows the operands.
typedef struct {
    int64_t rows, tries;
    int64_t operands; // the result among them
    int64_t table, bag, until;
} Draw;

enum { DENSE, INDEX, BAG, RANDOM };

typedef struct {
    int64_t kind;
    int64_t dtype;  // of the source
    int64_t source; // pass: offset from the leaves; run: address for example 0
    int64_t stride; // bytes from one example to the next; random, in a pass: the address of the step; bags: whether they are copied
    int64_t count;  // of elements; of bags: those of one example, where there are several
    void *destination;
    int64_t limit;
    int64_t mode;          // pass: whether the cell holds an address; run: one of these
    const int64_t *starts; // run: the rows that examples begin in, or null where their numbers say so
} Input;

enum { BY_EXAMPLE, BY_POSITION, CONSTANT };

typedef struct {
    Gradient *gradient;
    int64_t rows;         // -1: the matrix
    const int64_t *count; // of further rows; of the matrix: whether it is claimed; may be null
} Claim;

typedef struct {
    char *address;
    int64_t stride; // bytes
    const char *slot;
    int64_t rows, cols, slot_stride; // of one example
    int64_t step;                    // bytes in the slot from one example to the next
} Sink;

// What stands before a graph's cells; the dates of when they were last set stand behind them. See wyrm/turns.py.
typedef struct {
    const int64_t *open; // the number of the only thread that sets inputs, if nobody is at work; else null
    const void *ready;   // the date of the workspace whose pass may begin at once
    int64_t capacity, graphs, unused[4];
    union {
        double real;
        int64_t index;
    } cell[];
} Leaves;

// The date, and that of the last change of a parameter.
typedef struct {
    int64_t now, change;
} Time;

typedef struct {
    const Instruction *forward, *forward_end, *backward, *backward_end, *update, *update_end;
    const Input *inputs, *inputs_end;
    const Claim *claims, *claims_end;
    const Sink *sinks, *sinks_end;
    const Lookup *rows, *rows_end;
    int64_t real; // FLOAT32 or FLOAT64
    void *seed;
    const void *loss;
    const void *look; // not finite if a gradient may not be; may be null
    int64_t *const *doubts, *const *doubts_end; // of the gradients
    const void *skip; // where this is not positive, what follows the forward section changes nothing; may be null
    double losses;
    int64_t *report;
    int64_t leaves;     // the address of the cells, which passes' sources count from
    int64_t *date;      // of the last forward pass
    Time *time;
    int64_t first_step; // of a run's random inputs
    int64_t examples;   // of a run
    int64_t length;     // every example is below
    int64_t positions;  // every position is below
    const Loop *loop;   // may be null
    const LoopInput *loop_inputs, *loop_inputs_end;
    const RingUse *loop_uses, *loop_uses_end;
    int64_t whole[2];   // for backends that make functions of whole programs
} Frame;

// Which examples each run takes: the first ones of a row.
typedef struct {
    const int64_t *examples;
    int64_t width, runs;
} Order;

// Programs over the same gradients; see wyrm/native_runs.py, as for what follows.
typedef struct {
    Frame **parts;
    int64_t count;
    const int64_t *choice; // the part of each run; null: the first
    Frame *update;         // may be null
    int64_t batch_size;
    int64_t failed; // the part that returned the last status
    double *losses; // in a team: those of the parts before the batch
    int64_t position; // how far the last call has got
} Joined;

// Threads that share out the runs of batches.
typedef struct {
    Joined **shards;
    int64_t count;
    Frame *update;
    int64_t batch_size, threads;
    int64_t *taken;    // for each shard: the batches in which it has been taken
    int64_t *statuses; // for each shard
    int64_t *runs;     // for each thread, a cache line apart: those that it has made
    int64_t failed;    // the shard that returned the last status
    int64_t status;    // of the last batch
    int64_t batches;   // that have been done with
    int64_t arrived;   // threads that have nothing left to do in this one
    int64_t abandoned; // nobody waits any more
} Team;

enum { FLOAT32, FLOAT64, INT32, INT64 };
enum { INDEX_OUT_OF_RANGE = 1, ROWS_FULL, NOT_FINITE, BAG_FULL, ORDER_OUT_OF_RANGE, NO_MATRIX, ABANDONED };

#endif
