int wyrm_forward(intptr_t frame);
int wyrm_backward(intptr_t frame, double weight);
int wyrm_run(intptr_t joined, intptr_t order, int64_t start, int64_t stop);
int wyrm_run_team(intptr_t team, int64_t thread, intptr_t order, int64_t start, int64_t stop);

enum { MAX_REGISTERS = ..., MAX_STATES = ..., ... };
const char *wyrm_layout(void);

const char *wyrm_instruction_set(int number);
int wyrm_runs_here(int number);
intptr_t wyrm_kernel(int number, int is_double, const char *name);
intptr_t wyrm_step(int number, int is_double, int64_t code);
