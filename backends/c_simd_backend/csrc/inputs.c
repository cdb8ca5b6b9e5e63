// Bringing inputs to where a program expects them: converted, and with every index checked against its table.

#include "inputs.h"

int report(const Frame *frame, int64_t status, int64_t where, int64_t place, int64_t value) {
    frame->report[0] = status;
    frame->report[1] = where;
    frame->report[2] = place;
    frame->report[3] = value;
    return (int)status;
}

#define CONVERT(TO, FROM)                                                                                              \
    for (int64_t i = 0; i < count; i++) ((TO *)to)[i] = (TO)((const FROM *)source)[begin + i]

#define CONVERT_FROM(TO)                                                                                               \
    switch (dtype) {                                                                                                   \
    case FLOAT32: CONVERT(TO, float); break;                                                                           \
    case FLOAT64: CONVERT(TO, double); break;                                                                          \
    case INT32: CONVERT(TO, int32_t); break;                                                                           \
    case INT64: CONVERT(TO, int64_t); break;                                                                           \
    }

// Numbers begin, begin + 1, … of a source.
static void load_reals(const Frame *frame, const void *source, int64_t dtype, int64_t begin, int64_t count, void *to) {
    if (frame->real == FLOAT32) {
        CONVERT_FROM(float)
    } else {
        CONVERT_FROM(double)
    }
}

static int load_indices(
    const Frame *frame, const Input *input, const void *source, int64_t dtype, int64_t begin, int64_t count, int64_t *to) {
    const int wide = dtype == INT64;
    for (int64_t i = 0; i < count; i++) {
        const int64_t index = wide ? ((const int64_t *)source)[begin + i] : ((const int32_t *)source)[begin + i];
        if ((uint64_t)index >= (uint64_t)input->limit) return report(frame, INDEX_OUT_OF_RANGE, input - frame->inputs, i, index);
        to[i] = index;
    }
    return 0;
}

static int load_bags(const Frame *frame, const Input *input, const BagSource *source, int64_t example) {
    Bag *bag = input->destination;
    const int64_t *offsets = source->offsets + example * bag->bags;
    const int64_t begin = offsets[0], count = offsets[bag->bags] - begin;
    if (count > bag->capacity) return report(frame, BAG_FULL, input - frame->inputs, 0, count);
    const int status = load_indices(frame, input, source->values, source->dtype, begin, count, bag->indices);
    if (status) return status;
    for (int64_t b = 0; b <= bag->bags; b++) bag->offsets[b] = offsets[b] - begin;
    bag->count = count;
    if (source->weights)
        load_reals(frame, source->weights, source->weights_dtype, begin, count, bag->weights);
    else if (frame->real == FLOAT32)
        for (int64_t i = 0; i < count; i++) ((float *)bag->weights)[i] = 1;
    else
        for (int64_t i = 0; i < count; i++) ((double *)bag->weights)[i] = 1;
    return 0;
}

static void load_key(const Input *input, const int64_t *words, int64_t step) {
    int64_t *key = input->destination;
    key[0] = words[0];
    key[1] = words[1];
    key[2] = step;
}

int load_for_pass(const Frame *frame, const Input *input) {
    const void *source = (const void *)(frame->leaves + input->source);
    if (input->mode) source = *(const void *const *)source;
    switch (input->kind) {
    case DENSE: load_reals(frame, source, input->dtype, 0, input->count, input->destination); return 0;
    case INDEX: return load_indices(frame, input, source, input->dtype, 0, input->count, input->destination);
    case BAG: return load_bags(frame, input, source, 0);
    default: load_key(input, source, input->stride ? *(const int64_t *)input->stride : 0); return 0;
    }
}

int load_for_run(const Frame *frame, const Input *input, int64_t example, int64_t position) {
    const void *source = (const void *)(input->source + (input->mode ? position : example) * input->stride);
    switch (input->kind) {
    case DENSE: load_reals(frame, source, input->dtype, 0, input->count, input->destination); return 0;
    case INDEX: return load_indices(frame, input, source, input->dtype, 0, input->count, input->destination);
    case BAG: return load_bags(frame, input, (const BagSource *)input->source, example);
    default: load_key(input, (const int64_t *)input->source, frame->first_step + example); return 0;
    }
}

void prefetch_for_run(const Input *input, int64_t example, int64_t position) {
    if (input->kind == BAG)
        __builtin_prefetch(((const BagSource *)input->source)->offsets + example * ((const Bag *)input->destination)->bags);
    else
        __builtin_prefetch((const void *)(input->source + (input->mode ? position : example) * input->stride));
}
