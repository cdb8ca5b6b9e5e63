// What Python calls, and what teams are made of; see run.c and team.c.
#ifndef WYRM_RUN_H
#define WYRM_RUN_H

#include "table.h"

int wyrm_forward(intptr_t frame);
int wyrm_backward(intptr_t frame, double weight);
int wyrm_run(intptr_t joined, intptr_t order, int64_t start, int64_t stop);
int wyrm_run_team(intptr_t team, int64_t thread, intptr_t order, int64_t start, int64_t stop);

// The runs from start to before stop, each by its part, with an update after each batch.
int run_joined(Joined *joined, const Order *order, int64_t start, int64_t stop);

// The step that follows a batch.
int run_update(Frame *update, int64_t batch);

#endif
