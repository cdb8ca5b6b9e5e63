// The inputs of many runs, sorted by what there is to do for each: single numbers and single indices, which most models have, take
// a few instructions each; what is the same in every run is loaded once.
#ifndef WYRM_FEEDING_H
#define WYRM_FEEDING_H

#include "inputs.h"

// How many inputs a plan sorts; further ones are loaded like any other.
enum { SORTED = 32 };

// A table of which rows are read where they stand, and the index that names them.
typedef struct {
    const char *source; // of the index
    int64_t stride;
    int64_t wide; // the index has eight bytes, not four
    const char *table;
    int64_t row; // bytes
} Fetch;

typedef struct {
    Single reals[SORTED], indices[SORTED]; // in the program's dtype; of either width
    const Single *reals_end, *indices_end;
    const Input *others[SORTED], **others_end;
    const Input *rest; // from here on, nothing is sorted
    Fetch fetches[SORTED], *fetches_end; // of tables that are not in the first cache
    int by_loop;                         // whether the program's loop can be taken
    RingNumber numbers[SORTED], *numbers_end;
    RingRow rows[SORTED], *rows_end;
    Repetition repetition; // for the loop, of these
} Plan;

// Sorts the inputs for the runs from start to before stop, and loads those that are the same in all. Runs to before `known` are of
// the same kind. Returns 0 or a status.
int make_plan(const Frame *frame, Plan *plan, const Order *order, int64_t start, int64_t stop, int64_t known);

// Asks for the cache lines of inputs.
void fetch_inputs(const Frame *frame, const int64_t *examples, int64_t position);

// Asks for cache lines of runs to come: inputs, and half as far ahead the rows that they look up.
static inline void fetch_ahead(const Frame *frame, const Plan *plan, const Order *order, int64_t position) {
    const int64_t known = plan->repetition.known, next = position + AHEAD, further = next + AHEAD;
    if (!plan->repetition.in_order && further < known) fetch_inputs(frame, order->examples + further * order->width, further);
    if (plan->fetches_end == plan->fetches || next >= known) return;
    const int64_t example = order->examples[next * order->width];
    if ((uint64_t)example >= (uint64_t)frame->length) return;
    for (const Fetch *fetch = plan->fetches; fetch < plan->fetches_end; fetch++) {
        const char *source = fetch->source + example * fetch->stride;
        const int64_t index = fetch->wide ? *(const LooseLong *)source : *(const LooseInt *)source;
        const char *row = fetch->table + index * fetch->row, *end = row + fetch->row;
        do __builtin_prefetch(row, 1);
        while ((row += 64) < end);
    }
}

static inline int load_from(const Frame *frame, const Input *input, const int64_t *examples, int64_t position) {
    for (; input < frame->inputs_end; input++) {
        const int status = load_for_run(frame, input, examples, position);
        if (status) return status;
    }
    return 0;
}

// The inputs of a run, without a plan.
static inline int load_all(const Frame *frame, const int64_t *examples, int64_t position) {
    return load_from(frame, frame->inputs, examples, position);
}

// The plan's reals and indices; where an index is outside its table, returns the input.
static inline const Input *load_sorted(const Frame *frame, const Plan *plan, int64_t example) {
    if (frame->real == FLOAT32)
        for (const Single *one = plan->reals; one < plan->reals_end; one++)
            *(float *)one->destination = *(const LooseFloat *)(one->source + example * one->stride);
    else
        for (const Single *one = plan->reals; one < plan->reals_end; one++)
            *(double *)one->destination = *(const LooseDouble *)(one->source + example * one->stride);
    for (const Single *one = plan->indices; one < plan->indices_end; one++) {
        const char *source = one->source + example * one->stride;
        const Input *input = one->input;
        const int64_t index = input->dtype == INT64 ? *(const LooseLong *)source : *(const LooseInt *)source;
        *(int64_t *)one->destination = index;
        if ((uint64_t)index >= (uint64_t)input->limit) return input;
    }
    return 0;
}

static inline int load_planned(const Frame *frame, const Plan *plan, const int64_t *examples, int64_t position) {
    const int any = plan->reals_end > plan->reals || plan->indices_end > plan->indices;
    const Input *wrong = any ? load_sorted(frame, plan, examples[0]) : 0;
    if (wrong) return report(frame, INDEX_OUT_OF_RANGE, wrong - frame->inputs, 0, *(const int64_t *)wrong->destination);
    for (const Input *const *other = plan->others; other < plan->others_end; other++) {
        const int status = load_for_run(frame, *other, examples, position);
        if (status) return status;
    }
    return load_from(frame, plan->rest, examples, position);
}

#endif
