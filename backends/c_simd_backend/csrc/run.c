// The interpreter: walks instructions, and drives a program over a feed.
// Nothing here depends on the instruction set; the kernels that instructions point to do.

#include "run.h"

#include <math.h>
#include <string.h>

#include "feeding.h"

static void walk(const Instruction *instruction, const Instruction *end) {
    while (instruction < end) {
        instruction->kernel(instruction);
        instruction = (const Instruction *)((const int64_t *)instruction + instruction->length);
    }
}

// Puts the addresses of rows that are read where they stand into the instructions; the indices have been checked.
static void point_to_rows(const Frame *frame) {
    for (const Lookup *row = frame->rows; row < frame->rows_end; row++) {
        char *address = row->table + *row->index * row->stride;
        const RowUse *use = row->uses; // there is one at least
        do *use->place = address + use->offset;
        while (++use < row->uses_end);
    }
}

// --- passes ---------------------------------------------------------------------------------------------------

// Checks that gradients have room for what is to be added to them, and marks the matrices that are touched.
static int claim_gradients(const Frame *frame) {
    int64_t needed = 0;
    for (const Claim *claim = frame->claims; claim < frame->claims_end; claim++) {
        if (claim == frame->claims || claim->gradient != claim[-1].gradient) needed = 0;
        if (claim->rows < 0) {
            if ((!claim->count || *claim->count) && !claim->gradient->dense)
                return report(frame, NO_MATRIX, claim - frame->claims, 0, 0);
            continue;
        }
        needed += claim->rows + (claim->count ? *claim->count : 0);
        if (claim->gradient->count + needed > claim->gradient->capacity)
            return report(frame, ROWS_FULL, claim - frame->claims, 0, needed);
    }
    for (const Claim *claim = frame->claims; claim < frame->claims_end; claim++)
        if (claim->rows < 0 && !claim->count) claim->gradient->touched = 1;
    return 0;
}

static int claim_for_loop(const void *frame) { return claim_gradients(frame); }

static double number_at(const Frame *frame, const void *place) {
    return frame->real == FLOAT32 ? *(const float *)place : *(const double *)place;
}

static double loss_of(const Frame *frame) { return number_at(frame, frame->loss); }

// Whether there are gradients, and whoever has added to them knows that they are finite.
static int are_certain(const Frame *frame) {
    for (int64_t *const *doubt = frame->doubts; doubt < frame->doubts_end; doubt++)
        if (**doubt) return 0;
    return frame->doubts < frame->doubts_end;
}

int wyrm_forward(intptr_t address) {
    const Frame *frame = (const Frame *)address;
    for (const Input *input = frame->inputs; input < frame->inputs_end; input++) {
        const int status = load_for_pass(frame, input);
        if (status) return status;
    }
    point_to_rows(frame);
    if (!frame->loss) {
        walk(frame->forward, frame->forward_end);
    } else if (!are_certain(frame)) { // a step, whose loss is not finite if gradients are not
        walk(frame->forward, frame->forward_end);
        if (!isfinite(loss_of(frame))) return report(frame, NOT_FINITE, 0, 0, 0);
    }
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
    const double most = frame->real == FLOAT32 ? 0x1p96 : 0x1p768;
    if (frame->look && !(fabs(weight) <= 1 && fabs(number_at(frame, frame->look)) <= most))
        for (int64_t *const *doubt = frame->doubts; doubt < frame->doubts_end; doubt++) **doubt |= 1;
    return 0;
}

// --- runs -----------------------------------------------------------------------------------------------------

static void drain(const Frame *frame, const Sink *sink, int64_t example, int64_t number) {
    const int64_t item = frame->real == FLOAT32 ? 4 : 8, row = sink->cols * item;
    char *to = sink->address + example * sink->stride;
    const char *from = sink->slot + number * sink->step;
    for (int64_t i = 0; i < sink->rows; i++) memcpy(to + i * row, from + i * sink->slot_stride * item, row);
}

// Whether what follows the forward section may be passed over.
static int may_skip(const Frame *frame) {
    if (!frame->skip) return 0;
    return !(frame->real == FLOAT32 ? *(const float *)frame->skip > 0 : *(const double *)frame->skip > 0);
}

// One run, by a plan or without; returns a status before anything has changed.
static int run_once(Frame *frame, const Plan *plan, const int64_t *examples, int64_t position) {
    if (position >= frame->positions) return report(frame, ORDER_OUT_OF_RANGE, 0, 0, position);
    for (int64_t n = 0; n < frame->examples; n++)
        if ((uint64_t)examples[n] >= (uint64_t)frame->length) return report(frame, ORDER_OUT_OF_RANGE, 0, n, examples[n]);
    const int wrong = plan ? load_planned(frame, plan, examples, position) : load_all(frame, examples, position);
    if (wrong) return wrong;
    point_to_rows(frame);
    walk(frame->forward, frame->forward_end);
    double loss = 0;
    if (frame->loss) {
        loss = loss_of(frame);
        if (!isfinite(loss)) return report(frame, NOT_FINITE, examples[0], 0, 0);
    }
    const int skip = may_skip(frame);
    if (!skip && frame->claims < frame->claims_end) {
        const int status = claim_gradients(frame);
        if (status) return status;
    }
    frame->losses += loss;
    if (!skip) walk(frame->backward, frame->update_end); // the update follows
    for (const Sink *sink = frame->sinks; sink < frame->sinks_end; sink++)
        for (int64_t n = 0; n < frame->examples; n++) drain(frame, sink, examples[n], n);
    return 0;
}

// Runs by the program's loop, as far as it gets; returns where.
static int64_t repeat(Frame *frame, Plan *plan) {
    Repetition *repetition = &plan->repetition;
    if (!plan->by_loop) return repetition->position;
    repetition->claim = claim_for_loop;
    repetition->losses = frame->losses; // one after the other, wherever slices end
    frame->loop->run(frame->loop, repetition);
    frame->losses = repetition->losses;
    return repetition->position;
}

// The runs from start to before stop, all by one part; those to before `known` may be of that part, too.
static int run_stretch(Frame *frame, const Order *order, int64_t start, int64_t stop, int64_t known) {
    Plan plan;
    int status = make_plan(frame, &plan, order, start, stop, known);
    int64_t position = status ? start : repeat(frame, &plan);
    for (; position < stop && !status; position++) {
        fetch_ahead(frame, &plan, order, position);
        status = run_once(frame, &plan, order->examples + position * order->width, position);
        if (status) break;
    }
    if (status) frame->report[4] = position;
    return status;
}

int run_update(Frame *update, int64_t batch) {
    const int status = run_once(update, 0, 0, batch);
    if (status) update->report[4] = batch;
    return status;
}

int run_joined(Joined *joined, const Order *order, int64_t start, int64_t stop) {
    const int64_t *choice = joined->choice, batch_size = joined->batch_size;
    for (int64_t position = start, end; position < stop; position = end) {
        joined->position = position;
        const int64_t number = choice ? choice[position] : 0;
        end = stop;
        if (joined->update && end > (position / batch_size + 1) * batch_size) end = (position / batch_size + 1) * batch_size;
        if (choice) {
            if ((uint64_t)number >= (uint64_t)joined->count) {
                joined->failed = 0;
                joined->parts[0]->report[4] = position;
                return report(joined->parts[0], ORDER_OUT_OF_RANGE, 0, 0, number);
            }
            int64_t same = position + 1;
            while (same < end && choice[same] == number) same++;
            end = same;
        }
        int status = run_stretch(joined->parts[number], order, position, end, choice ? end : stop);
        if (status) {
            joined->failed = number;
            joined->position = joined->parts[number]->report[4];
            return status;
        }
        if (joined->update && (end % batch_size == 0 || end == order->runs)) {
            status = run_update(joined->update, (end - 1) / batch_size);
            if (status) {
                joined->failed = joined->count;
                return status;
            }
        }
    }
    joined->position = stop;
    return 0;
}

int wyrm_run(intptr_t joined, intptr_t order, int64_t start, int64_t stop) {
    return run_joined((Joined *)joined, (const Order *)order, start, stop);
}
