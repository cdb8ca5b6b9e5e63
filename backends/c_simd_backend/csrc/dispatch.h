// Which instruction sets there are, and where their kernels stand; see dispatch.c.
#ifndef WYRM_DISPATCH_H
#define WYRM_DISPATCH_H

#include <stdint.h>

const char *wyrm_layout(void);
const char *wyrm_instruction_set(int number);
int wyrm_runs_here(int number);
intptr_t wyrm_kernel(int number, int is_double, const char *name);
intptr_t wyrm_step(int number, int is_double, int64_t code);

#endif
