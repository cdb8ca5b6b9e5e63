// Elementary functions of vectors, within a few units in the last place; NaN stays NaN, infinity is as in the C library.
// The approximations are those of the Cephes library (S. Moshier; exp.c, expf.c, log.c, logf.c, tanh.c, tanhf.c).
#ifndef WYRM_FUNCTIONS_H
#define WYRM_FUNCTIONS_H

#include <math.h>

#include "vector.h"

#ifdef WYRM_DOUBLE
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#else
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#endif

INLINE vec magnitude(vec x) { return (vec)((ivec)x & ~((ivec)splat((real)-0.0))); }
INLINE vec with_sign(vec x, vec sign) { return (vec)((ivec)x | ((ivec)sign & (ivec)splat((real)-0.0))); }

// 2 to the power of n, a whole number within the exponent's range.
INLINE vec power_of_two(ivec n) { return (vec)((n + EXPONENT_BIAS) << MANTISSA_BITS); }

// A number as n ln 2 + r with a whole n and |r| <= ln 2 / 2.
typedef struct {
    vec n;
    ivec whole;                 // n once more
    vec numerator, denominator; // of e to the power of r, less 1
} Power;

INLINE Power power_of_e(vec x) {
    Power power;
#ifdef WYRM_DOUBLE
    const real magic = 6755399441055744.0; // 1.5 * 2^52: adding it rounds to whole numbers
    const real log2e = 1.4426950408889634, ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
#else
    const real magic = 12582912; // 1.5 * 2^23
    const real log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
#endif
    const vec shifted = x * log2e + magic;
    power.n = shifted - magic;
    power.whole = (ivec)shifted - (ivec)splat(magic);
    const vec r = (x - power.n * ln2_high) - power.n * ln2_low;
    const vec square = r * r;
#ifdef WYRM_DOUBLE
    const vec p = r * ((1.26177193074810590878e-4 * square + 3.02994407707441961300e-2) * square + 1.0);
    const vec q = ((3.00198505138664455042e-6 * square + 2.52448340349684104192e-3) * square + 2.27265548208155028766e-1) * square + 2.0;
    power.numerator = 2.0 * p;
    power.denominator = q - p;
#else
    vec p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    power.numerator = p * square + r;
    power.denominator = splat(1);
#endif
    return power;
}

// e to the power of x. The power of two comes in two factors, so that results below the normal range come out right.
INLINE vec exponential(vec x) {
#ifdef WYRM_DOUBLE
    const real low = -746, high = 710;
#else
    const real low = -104, high = 89;
#endif
    const Power power = power_of_e(limited(x, low, high));
    const vec power_of_r = power.numerator / power.denominator + 1;
#ifdef __AVX512F__
    return OF_TWO(scalef, power_of_r, power.n);
#else
    const ivec half = power.whole >> 1;
    return power_of_r * power_of_two(half) * power_of_two(power.whole - half);
#endif
}

// The natural logarithm. x = 2^n (1 + r) with 1 + r between sqrt(1/2) and sqrt(2).
INLINE vec logarithm(vec x) {
#ifdef WYRM_DOUBLE
    const real smallest = 0x1p-1022, scale = 0x1p54, scale_log = 54;
    const real ln2_high = 0.693359375, ln2_low = -2.121944400546905827679e-4;
#else
    const real smallest = 0x1p-126f, scale = 0x1p25f, scale_log = 25;
    const real ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
#endif
    const ivec subnormal = x < smallest;
    const vec scaled = choose(subnormal, x * scale, x);
    const ivec bits = (ivec)scaled;
    ivec exponent = ((bits >> MANTISSA_BITS) & (2 * EXPONENT_BIAS + 1)) - (EXPONENT_BIAS - 1);
    const ivec mantissa = (bits & (((integer)1 << MANTISSA_BITS) - 1)) | ((ivec){0} + (EXPONENT_BIAS - 1)) << MANTISSA_BITS;
    vec m = (vec)mantissa; // in [1/2, 1)
    const ivec lower = m < (real)0.70710678118654752440;
    exponent += lower; // less 1 where it is lower
    const vec r = choose(lower, m + m, m) - 1;
    const vec n = __builtin_convertvector(exponent, vec) - choose(subnormal, splat(scale_log), splat(0));
    const vec square = r * r;
#ifdef WYRM_DOUBLE
    const vec p = ((((1.01875663804580931796e-4 * r + 4.97494994976747001425e-1) * r + 4.70579119878881725854e0) * r +
                    1.44989225341610930846e1) * r + 1.79368678507819816313e1) * r + 7.70838733755885391666e0;
    const vec q = ((((r + 1.12873587189167450590e1) * r + 4.52279145837532221105e1) * r + 8.29875266912776603211e1) * r +
                   7.11544750618563894466e1) * r + 2.31251620126765340583e1;
    vec y = r * (square * p / q);
#else
    vec p = 7.0376836292e-2f * r - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    vec y = p * r * square;
#endif
    y = (y + n * ln2_low) - (real)0.5 * square;
    vec result = (r + y) + n * ln2_high;
    result = choose(x == 0, splat(-INFINITY), result);
    result = choose(x == INFINITY, x, result);
    return choose((x < 0) | (x != x), splat(NAN), result);
}

INLINE vec square_root(vec x) {
    for (int64_t i = 0; i < LANES; i++)
#ifdef WYRM_DOUBLE
        x[i] = sqrt(x[i]);
#else
        x[i] = sqrtf(x[i]);
#endif
    return x;
}

INLINE vec power(vec x, vec y) {
    for (int64_t i = 0; i < LANES; i++)
#ifdef WYRM_DOUBLE
        x[i] = pow(x[i], y[i]);
#else
        x[i] = powf(x[i], y[i]);
#endif
    return x;
}

// With m = exp(-2|x|) - 1, it is -m / (m + 2), which loses no digits where x is small. In double, where more are asked for, it is
// a rational function for |x| <= 0.625, else 1 - 2 (m + 1) / (m + 2). Beyond 20, it is 1.
INLINE vec hyperbolic_tangent(vec x) {
    const vec size = magnitude(x);
    const Power power = power_of_e(limited(-2 * size, -40, 0));
    const vec scale = power_of_two(power.whole);
#ifdef WYRM_DOUBLE
    const vec z = x * x;
    const vec p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3;
    const vec q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3;
    const vec e = (power.numerator + power.denominator) * scale; // times the denominator
    const ivec is_large = size > 0.625;
    const vec quotient = choose(is_large, 2 * e, z * p) / choose(is_large, e + power.denominator, q);
    return with_sign(choose(is_large, 1 - quotient, size + size * quotient), x);
#else
    const vec m = power.numerator * scale + (scale - 1);
    return with_sign(magnitude(m / (m + 2)), x);
#endif
}

// 1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow.
INLINE vec logistic(vec x) {
    const vec e = exponential(-magnitude(x));
    return choose(x < 0, e, splat(1)) / (1 + e);
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)); log1p by correcting the rounding of 1 + e (W. Kahan, HP-15C Advanced
// Functions Handbook, 1982, appendix).
INLINE vec softplus(vec x) {
    const vec e = exponential(-magnitude(x)), u = 1 + e;
    const vec log1p = logarithm(u) - ((u - 1) - e) / u;
    return choose(x != x, x, choose(x > 0, x, splat(0)) + log1p);
}

#endif
