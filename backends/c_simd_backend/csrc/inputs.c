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
    case FLOAT32: CONVERT(TO, LooseFloat); break;                                                                      \
    case FLOAT64: CONVERT(TO, LooseDouble); break;                                                                     \
    case INT32: CONVERT(TO, LooseInt); break;                                                                          \
    case INT64: CONVERT(TO, LooseLong); break;                                                                         \
    }

// Numbers begin, begin + 1, … of a source.
static void load_reals(const Frame *frame, const void *source, int64_t dtype, int64_t begin, int64_t count, void *to) {
    if (frame->real == FLOAT32) {
        CONVERT_FROM(float)
    } else {
        CONVERT_FROM(double)
    }
}

// Where the index number `place` of an input is outside its table.
static int load_indices(
    const Frame *frame, const Input *input, const void *source, int64_t dtype, int64_t count, int64_t *to, int64_t place) {
    const int wide = dtype == INT64;
    for (int64_t i = 0; i < count; i++) {
        const int64_t index = wide ? ((const LooseLong *)source)[i] : ((const LooseInt *)source)[i];
        if ((uint64_t)index >= (uint64_t)input->limit)
            return report(frame, INDEX_OUT_OF_RANGE, input - frame->inputs, place + i, index);
        to[i] = index;
    }
    return 0;
}

static void load_weights(const Frame *frame, const BagSource *source, int64_t begin, int64_t count, char *to) {
    if (source->weights)
        load_reals(frame, source->weights, source->weights_dtype, begin, count, to);
    else if (frame->real == FLOAT32)
        for (int64_t i = 0; i < count; i++) ((float *)to)[i] = 1;
    else
        for (int64_t i = 0; i < count; i++) ((double *)to)[i] = 1;
}

// A number that another thread may change.
static int64_t read_once(const int64_t *number) { return __atomic_load_n(number, __ATOMIC_RELAXED); }

// Finds where the bags of several examples stand in their source, and how many indices they have. Each begin and each end is read
// once: whatever another thread does to them, what is read after this lies within the values.
static int find_bags(
    const Frame *frame, const Input *input, const BagSource *source, int64_t each, const int64_t *examples, int64_t n,
    int64_t *count) {
    Bag *bag = input->destination;
    const int64_t item = source->dtype == INT64 ? 8 : 4;
    int64_t sum = 0, at = 0;
    bag->dtype = source->dtype;
    for (int64_t e = 0; e < n; e++)
        for (int64_t b = examples[e] * each, last = b + each; b < last; b++, at++) {
            const int64_t begin = read_once(source->begins + b), end = read_once(source->ends + b);
            if (begin < 0 || end < begin || end > source->length || __builtin_add_overflow(sum, end - begin, &sum))
                return report(frame, ORDER_OUT_OF_RANGE, input - frame->inputs, at, end);
            bag->places[at].begin = (const char *)source->values + begin * item;
            bag->places[at].end = (const char *)source->values + end * item;
        }
    *count = sum;
    return 0;
}

// The bags of several examples, one after the other.
static int load_bags(const Frame *frame, const Input *input, const BagSource *source, const int64_t *examples, int64_t n) {
    Bag *bag = input->destination;
    const int64_t each = n == 1 ? bag->bags : input->count;
    const int64_t item = frame->real == FLOAT32 ? 4 : 8, shift = source->dtype == INT64 ? 3 : 2;
    int64_t count;
    int status = find_bags(frame, input, source, each, examples, n, &count);
    if (status || !input->stride) return status; // without a stride, nobody looks up what is in them
    if (count > bag->capacity) return report(frame, BAG_FULL, input - frame->inputs, 0, count);
    int64_t at = 0;
    for (int64_t number = 0; number < n * each; number++) {
        const char *begin_at = bag->places[number].begin;
        const int64_t begin = (begin_at - (const char *)source->values) >> shift;
        const int64_t part = ((const char *)bag->places[number].end - begin_at) >> shift;
        status = load_indices(frame, input, begin_at, source->dtype, part, bag->indices + at, at);
        if (status) return status;
        load_weights(frame, source, begin, part, (char *)bag->weights + at * item);
        bag->offsets[number] = at;
        at += part;
    }
    bag->offsets[n * each] = bag->count = count;
    return 0;
}

static void load_key(const Input *input, const int64_t *words, int64_t step) {
    int64_t *key = input->destination;
    key[0] = words[0];
    key[1] = words[1];
    key[2] = step;
}

int load_for_pass(const Frame *frame, const Input *input) {
    static const int64_t first = 0;
    const void *source = (const void *)(frame->leaves + input->source);
    if (input->mode) source = *(const void *const *)source;
    switch (input->kind) {
    case DENSE: load_reals(frame, source, input->dtype, 0, input->count, input->destination); return 0;
    case INDEX: return load_indices(frame, input, source, input->dtype, input->count, input->destination, 0);
    case BAG: return load_bags(frame, input, source, &first, 1);
    default: load_key(input, source, input->stride ? *(const int64_t *)input->stride : 0); return 0;
    }
}

// One row of a source, to the place of number n in the destination.
static int load_row(const Frame *frame, const Input *input, int64_t row, int64_t n) {
    const void *source = (const void *)(input->source + row * input->stride);
    const int64_t at = n * input->count;
    if (input->kind == INDEX)
        return load_indices(
            frame, input, source, input->dtype, input->count, (int64_t *)input->destination + at, at);
    load_reals(frame, source, input->dtype, 0, input->count, (char *)input->destination + at * (frame->real == FLOAT32 ? 4 : 8));
    return 0;
}

// The row of a source in which an example's values are.
static int64_t row_of(const Input *input, int64_t example) { return input->starts ? input->starts[example] : example; }

int load_for_run(const Frame *frame, const Input *input, const int64_t *examples, int64_t position) {
    if (input->kind == BAG) return load_bags(frame, input, (const BagSource *)input->source, examples, frame->examples);
    if (input->kind == RANDOM) {
        load_key(input, (const int64_t *)input->source, frame->first_step + examples[0]);
        return 0;
    }
    if (input->mode != BY_EXAMPLE) return load_row(frame, input, input->mode == BY_POSITION ? position : 0, 0);
    for (int64_t n = 0; n < frame->examples; n++) {
        const int status = load_row(frame, input, row_of(input, examples[n]), n);
        if (status) return status;
    }
    return 0;
}

void prefetch_for_run(const Input *input, int64_t example, int64_t position) {
    const int64_t row = input->mode == BY_POSITION ? position : row_of(input, example);
    if (input->kind == BAG) {
        const BagSource *source = (const BagSource *)input->source;
        __builtin_prefetch(source->begins + example * input->count);
        __builtin_prefetch(source->ends + example * input->count);
    } else
        __builtin_prefetch((const void *)(input->source + row * input->stride));
}
