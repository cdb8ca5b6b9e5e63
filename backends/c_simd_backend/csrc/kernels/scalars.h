// The elementwise kernels on single numbers, from the same table as those on vectors.
#ifndef WYRM_SCALARS_H
#define WYRM_SCALARS_H

#include "elementwise.h"

// Functions that are long on vectors too are shared, out of line.
#define ONE(NAME)                                                                                                      \
    static __attribute__((noinline)) real one_##NAME(real a) { return element_##NAME((vec){a})[0]; }
ONE(exp)
ONE(log)
ONE(tanh)
ONE(sigmoid)
ONE(softplus)
#undef ONE
static __attribute__((noinline)) real one_power(real a, real b) { return power((vec){a}, (vec){b})[0]; }

#ifdef WYRM_DOUBLE
INLINE real one_sqrt(real a) { return sqrt(a); }
INLINE real one_absolute(real a) { return fabs(a); }
#else
INLINE real one_sqrt(real a) { return sqrtf(a); }
INLINE real one_absolute(real a) { return fabsf(a); }
#endif

// What the table's expressions mean on single numbers.
#define choose(MASK, YES, NO) ((MASK) ? (YES) : (NO))
#define splat(X) ((real)(X))
#define exponential one_exp
#define logarithm one_log
#define hyperbolic_tangent one_tanh
#define logistic one_sigmoid
#define softplus one_softplus
#define square_root one_sqrt
#define magnitude one_absolute
#define power one_power
#define UNARY(NAME, VALUE)                                                                                             \
    INLINE real single_##NAME(real a) { return VALUE; }
#define BINARY(NAME, VALUE)                                                                                            \
    INLINE real single_##NAME(real a, real b) { return VALUE; }
#define TERNARY(NAME, VALUE)                                                                                           \
    INLINE real single_##NAME(real a, real b, real c) { return VALUE; }
#include "elementwise.def"
UNARY(copy, a)
TERNARY(multiply_add, a *b + c)
TERNARY(multiply_subtract, c - a * b)
#undef UNARY
#undef BINARY
#undef TERNARY
#undef choose
#undef splat
#undef exponential
#undef logarithm
#undef hyperbolic_tangent
#undef logistic
#undef softplus
#undef square_root
#undef magnitude
#undef power

#endif
