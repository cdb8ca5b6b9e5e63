// The instruction sets that this library was built for, best first, and the kernels of each.

#include "dispatch.h"

#include <string.h>

#include "kernels/kernels.h"
#include "layout.h"

static int always(void) { return 1; }

#ifdef WYRM_AVX2
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif
#ifdef WYRM_AVX512
static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
}
#endif

static const struct {
    const char *name;
    int (*runs_here)(void);
    const Kernel *kernels[2]; // float, double
} sets[] = {
#ifdef WYRM_AVX512
    {"avx512", has_avx512, {wyrm_avx512_float, wyrm_avx512_double}},
#endif
#ifdef WYRM_AVX2
    {"avx2", has_avx2, {wyrm_avx2_float, wyrm_avx2_double}},
#endif
    {"portable", always, {wyrm_portable_float, wyrm_portable_double}},
};

#define COUNT ((int)(sizeof sets / sizeof sets[0]))

// The layout of tables and headers that this library was built for.
const char *wyrm_layout(void) { return LAYOUT; }

// The name of an instruction set; null beyond the last.
const char *wyrm_instruction_set(int number) { return number >= 0 && number < COUNT ? sets[number].name : 0; }

// Whether this machine has it.
int wyrm_runs_here(int number) { return number >= 0 && number < COUNT && sets[number].runs_here(); }

// The address of a kernel; 0 where there is none of that name.
intptr_t wyrm_kernel(int number, int is_double, const char *name) {
    if (number < 0 || number >= COUNT) return 0;
    for (const Kernel *kernel = sets[number].kernels[is_double != 0]; kernel->name; kernel++)
        if (!strcmp(kernel->name, name)) return (intptr_t)kernel->kernel;
    return 0;
}

// Where the code for a step of a chain of one element is; 0 where there is no such step.
intptr_t wyrm_step(int number, int is_double, int64_t code) {
    const intptr_t steps = wyrm_kernel(number, is_double, "steps");
    return steps ? ((intptr_t (*)(int64_t))steps)(code) : 0;
}
