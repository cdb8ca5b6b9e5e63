// The tables of kernels: one for each instruction set and kind of real number, each ended by a null name.
#ifndef WYRM_KERNELS_H
#define WYRM_KERNELS_H

#include "../table.h"

typedef struct {
    const char *name;
    void (*kernel)(void); // of whatever type it is
} Kernel;

extern const Kernel wyrm_portable_float[], wyrm_portable_double[];
extern const Kernel wyrm_avx2_float[], wyrm_avx2_double[];
extern const Kernel wyrm_avx512_float[], wyrm_avx512_double[];

#endif
