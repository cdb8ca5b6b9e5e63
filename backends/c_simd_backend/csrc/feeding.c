// Sorting the inputs of many runs, and fetching those of coming ones into the cache; see feeding.h.

#include "feeding.h"

// How many runs ahead rows are fetched: in random order, each is a miss.
enum { AHEAD = 16 };
// Tables of fewer bytes are taken to be in the cache.
enum { SMALL_TABLE = 1 << 19 };

// Whether an index looks up rows, where they stand, of a table that is not in the cache.
static int looks_up(const Lookup *row, const Single *index) {
    return index->destination == row->index && ((const Input *)index->input)->limit * row->stride >= SMALL_TABLE;
}

int make_plan(const Frame *frame, Plan *plan, const Order *order, int64_t start, int64_t stop) {
    Single *reals = plan->reals, *indices = plan->indices;
    const Input **others = plan->others, *input = frame->inputs;
    for (; input < frame->inputs_end && input - frame->inputs < SORTED; input++) {
        const Single single = {(const char *)input->source, input->stride, input->destination, input};
        const int is_single = input->count == 1 && input->mode == BY_EXAMPLE && frame->examples == 1;
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
    plan->large_tables = 0;
    for (const Lookup *row = frame->rows; row < frame->rows_end; row++)
        for (const Single *one = plan->indices; one < indices; one++) plan->large_tables |= looks_up(row, one);
    plan->fetches = frame->examples && (!plan->in_order || plan->large_tables);
    return 0;
}

static void fetch_rows(const Frame *frame, const Plan *plan, int64_t example) {
    if ((uint64_t)example >= (uint64_t)frame->length) return;
    for (const Lookup *row = frame->rows; row < frame->rows_end; row++)
        for (const Single *one = plan->indices; one < plan->indices_end; one++) {
            if (!looks_up(row, one)) continue;
            const char *source = one->source + example * one->stride;
            const int wide = ((const Input *)one->input)->dtype == INT64;
            const int64_t index = wide ? *(const int64_t *)source : *(const int32_t *)source;
            for (int64_t byte = 0; byte < row->stride; byte += 64) __builtin_prefetch(row->table + index * row->stride + byte, 1);
        }
}

void fetch_ahead(const Frame *frame, const Plan *plan, const Order *order, int64_t position, int64_t known) {
    const int64_t further = position + 2 * AHEAD;
    if (!plan->in_order && further < known)
        for (const Input *input = frame->inputs; input < frame->inputs_end; input++)
            for (int64_t n = 0; n < frame->examples; n++)
                prefetch_for_run(input, order->examples[further * order->width + n], further);
    if (plan->large_tables && position + AHEAD < known)
        fetch_rows(frame, plan, order->examples[(position + AHEAD) * order->width]);
}
