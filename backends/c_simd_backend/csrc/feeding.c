// Sorting the inputs of many runs, and fetching those of coming ones into the cache; see feeding.h.

#include "feeding.h"

// Tables of fewer bytes are taken to be in the cache.
enum { SMALL_TABLE = 1 << 18 };

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

// Fills a ring with what is the same in every run.
static void fill_ring(const Frame *frame, void *ring, const void *number) {
    for (int k = 0; k < RING; k++)
        if (frame->real == FLOAT32)
            ((float *)ring)[k] = *(const float *)number;
        else
            ((double *)ring)[k] = *(const double *)number;
}

// Gives an input's rings what they are filled from. Returns whether there is room for all.
static int plan_rings(const Frame *frame, Plan *plan, const Input *input) {
    Repetition *repetition = &plan->repetition;
    for (const LoopInput *ring = frame->loop_inputs; ring < frame->loop_inputs_end; ring++) {
        if (ring->destination != input->destination) continue;
        const char *source = (const char *)input->source;
        if (input->mode == CONSTANT && input->kind == DENSE) {
            fill_ring(frame, ring->ring, input->destination);
        } else if (input->kind == DENSE) {
            if (plan->numbers_end == plan->numbers + SORTED) return 0;
            *plan->numbers_end++ = (RingNumber){source, input->stride, input->dtype, input->mode == BY_POSITION, ring->ring};
        } else {
            if (plan->rows_end == plan->rows + SORTED || input->mode != BY_EXAMPLE) return 0;
            const int far = input->limit * ring->row >= SMALL_TABLE;
            repetition->far |= far;
            *plan->rows_end++ = (RingRow){
                source, input->stride, input->dtype == INT64, (uint64_t)input->limit, ring->table, ring->row ? ring->row : 1, far, ring->ring};
        }
    }
    return 1;
}

// Whether the program has a loop for which its inputs are of the right kind; makes ready for it.
static int plan_loop(const Frame *frame, Plan *plan, int64_t stop) {
    plan->numbers_end = plan->numbers;
    plan->rows_end = plan->rows;
    if (!frame->loop || frame->examples != 1 || stop > frame->positions) return 0;
    for (const Input *input = frame->inputs; input < frame->inputs_end; input++) {
        const int is_number = input->kind == DENSE || input->dtype == INT32 || input->dtype == INT64;
        if (input->kind > INDEX) return 0;
        if (input->mode != CONSTANT && (!is_number || input->count != 1 || input->starts)) return 0;
        if (!plan_rings(frame, plan, input)) return 0;
    }
    return 1;
}

int make_plan(const Frame *frame, Plan *plan, const Order *order, int64_t start, int64_t stop, int64_t known) {
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
    plan->repetition = (Repetition){
        .order = examples,
        .width = order->width,
        .begin = start,
        .position = start,
        .stop = stop,
        .known = known,
        .length = (uint64_t)frame->length,
        .numbers = plan->numbers,
        .rows = plan->rows,
        .uses = frame->loop_uses,
        .uses_end = frame->loop_uses_end,
        .in_order = order->width == 1 && frame->examples == 1 && examples[stop - 1] - examples[start] == stop - 1 - start,
        .frame = frame,
    };
    plan->by_loop = plan_loop(frame, plan, stop);
    plan->repetition.numbers_end = plan->numbers_end;
    plan->repetition.rows_end = plan->rows_end;
    plan_fetches(frame, plan);
    return 0;
}

void fetch_inputs(const Frame *frame, const int64_t *examples, int64_t position) {
    for (const Input *input = frame->inputs; input < frame->inputs_end; input++)
        for (int64_t n = 0; n < frame->examples; n++)
            if ((uint64_t)examples[n] < (uint64_t)frame->length) prefetch_for_run(input, examples[n], position);
}
