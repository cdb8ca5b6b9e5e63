// What Python calls; see run.c.
#ifndef WYRM_RUN_H
#define WYRM_RUN_H

#include <stdint.h>

int wyrm_forward(intptr_t frame);
int wyrm_backward(intptr_t frame, double weight);
int wyrm_run(intptr_t frame, intptr_t order, int64_t start, int64_t stop);

#endif
