// Bringing inputs to where a program expects them; see inputs.c.
#ifndef WYRM_INPUTS_H
#define WYRM_INPUTS_H

#include "table.h"

// Fills the report and returns the status.
int report(const Frame *frame, int64_t status, int64_t where, int64_t place, int64_t value);

// Both return 0 or a status.
int load_for_pass(const Frame *frame, const Input *input);
int load_for_run(const Frame *frame, const Input *input, const int64_t *examples, int64_t position);

// Asks for the cache line that an example's input begins in.
void prefetch_for_run(const Input *input, int64_t example, int64_t position);

#endif
