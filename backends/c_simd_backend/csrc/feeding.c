// Sorting the inputs of many runs, and fetching those of coming ones into the cache; see feeding.h.

#include "feeding.h"

// Tables of fewer bytes are taken to be in the first cache.
enum { SMALL_TABLE = 1 << 14 };

// The tables of which single indices name rows that are read where they stand.
static void plan_fetches(const Frame *frame, Plan *plan) {
    Fetch *fetch = plan->fetches;
    for (const Lookup *row = frame->rows; row < frame->rows_end; row++)
        for (const Single *one = plan->indices; one < plan->indices_end && fetch < plan->fetches + SORTED; one++) {
            const Input *input = one->input;
            if (one->destination != row->index || input->limit * row->stride < SMALL_TABLE) continue;
            *fetch++ = (Fetch){one->source, one->stride, input->dtype == INT64, row->table, row->stride};
        }
    plan->fetches_end = fetch;
}

int make_plan(const Frame *frame, Plan *plan, const Order *order, int64_t start, int64_t stop) {
    Single *reals = plan->reals, *indices = plan->indices;
    const Input **others = plan->others, *input = frame->inputs;
    for (; input < frame->inputs_end && input - frame->inputs < SORTED; input++) {
        const Single single = {(const char *)input->source, input->stride, input->destination, input};
        const int is_single = input->count == 1 && !input->starts && input->mode == BY_EXAMPLE && frame->examples == 1;
        if (input->kind <= INDEX && input->mode == CONSTANT) {
            const int status = load_for_run(frame, input, 0, 0);
            if (status) return status;
        } else if (is_single && input->kind == INDEX && (input->dtype == INT32 || input->dtype == INT64)) {
            *indices++ = single;
        } else if (is_single && input->kind == DENSE && input->dtype == frame->real) {
            *reals++ = single;
        } else {
            *others++ = input;
        }
    }
    plan->reals_end = reals;
    plan->indices_end = indices;
    plan->others_end = others;
    plan->rest = input;
    const int64_t *examples = order->examples;
    plan->in_order = order->width == 1 && frame->examples == 1 && examples[stop - 1] - examples[start] == stop - 1 - start;
    plan_fetches(frame, plan);
    return 0;
}

void fetch_inputs(const Frame *frame, const int64_t *examples, int64_t position) {
    for (const Input *input = frame->inputs; input < frame->inputs_end; input++)
        for (int64_t n = 0; n < frame->examples; n++) prefetch_for_run(input, examples[n], position);
}
