// The interpreter: walks instructions, and drives a program over a feed.
// Nothing here depends on the instruction set; the kernels that instructions point to do.

#include "run.h"

#include <math.h>
#include <string.h>

#include "inputs.h"

static void walk(const Instruction *instruction, const Instruction *end) {
    while (instruction < end) {
        instruction->kernel(instruction);
        instruction = (const Instruction *)((const int64_t *)instruction + instruction->length);
    }
}

// --- passes ---------------------------------------------------------------------------------------------------

// Checks that the lists of gradients have room for a backward pass, and marks the matrices that it touches.
static int claim_gradients(const Frame *frame) {
    int64_t needed = 0;
    for (const Claim *claim = frame->claims; claim < frame->claims_end; claim++) {
        if (claim == frame->claims || claim->gradient != claim[-1].gradient) needed = 0;
        if (claim->rows < 0) continue;
        needed += claim->rows + (claim->bag ? claim->bag->count : 0);
        if (claim->gradient->count + needed > claim->gradient->capacity)
            return report(frame, ROWS_FULL, claim - frame->claims, 0, needed);
    }
    for (const Claim *claim = frame->claims; claim < frame->claims_end; claim++)
        if (claim->rows < 0) claim->gradient->touched = 1;
    return 0;
}

int wyrm_forward(intptr_t address) {
    const Frame *frame = (const Frame *)address;
    for (const Input *input = frame->inputs; input < frame->inputs_end; input++) {
        const int status = load_for_pass(frame, input);
        if (status) return status;
    }
    walk(frame->forward, frame->forward_end);
    walk(frame->update, frame->update_end);
    return 0;
}

int wyrm_backward(intptr_t address, double weight) {
    const Frame *frame = (const Frame *)address;
    const int status = claim_gradients(frame);
    if (status) return status;
    if (frame->seed) {
        if (frame->real == FLOAT32)
            *(float *)frame->seed = (float)weight;
        else
            *(double *)frame->seed = weight;
    }
    walk(frame->backward, frame->backward_end);
    return 0;
}

// --- runs -----------------------------------------------------------------------------------------------------

// How many examples ahead inputs are fetched into the cache: in random order, each is a miss.
enum { AHEAD = 16 };

static void drain(const Frame *frame, const Sink *sink, int64_t example) {
    const int64_t item = frame->real == FLOAT32 ? 4 : 8, row = sink->cols * item;
    char *to = sink->address + example * sink->stride;
    for (int64_t i = 0; i < sink->rows; i++) memcpy(to + i * row, sink->slot + i * sink->slot_stride * item, row);
}

// One example; returns a status before anything has changed.
static int run_example(Frame *frame, int64_t example, int64_t position) {
    for (const Input *input = frame->inputs; input < frame->inputs_end; input++) {
        const int status = load_for_run(frame, input, example, position);
        if (status) return status;
    }
    walk(frame->forward, frame->forward_end);
    if (frame->loss) {
        const double loss = frame->real == FLOAT32 ? *(const float *)frame->loss : *(const double *)frame->loss;
        if (!isfinite(loss)) return report(frame, NOT_FINITE, example, 0, 0);
        const int status = claim_gradients(frame);
        if (status) return status;
        frame->losses += loss;
    }
    walk(frame->backward, frame->backward_end);
    walk(frame->update, frame->update_end);
    for (const Sink *sink = frame->sinks; sink < frame->sinks_end; sink++) drain(frame, sink, example);
    return 0;
}

int wyrm_run(intptr_t address, intptr_t order_address, int64_t start, int64_t stop) {
    Frame *frame = (Frame *)address;
    const int64_t *order = (const int64_t *)order_address;
    for (int64_t position = start; position < stop; position++) {
        if (position + AHEAD < stop)
            for (const Input *input = frame->inputs; input < frame->inputs_end; input++)
                prefetch_for_run(input, order[position + AHEAD], position + AHEAD);
        const int status = run_example(frame, order[position], position);
        if (status) {
            frame->report[4] = position;
            return status;
        }
    }
    return 0;
}
