// Vectors of real numbers: the one place where instruction sets differ.
//
// A file of kernels is compiled for each instruction set and for float and double (WYRM_DOUBLE). The kernels are written against
// `vec`, LANES numbers wide, with the compiler's vector arithmetic; here is what that lacks: parts of vectors, selection, sums.
#ifndef WYRM_VECTOR_H
#define WYRM_VECTOR_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#ifdef WYRM_DOUBLE
typedef double real;
typedef int64_t integer;
#define EPSILON DBL_EPSILON
#else
typedef float real;
typedef int32_t integer;
#define EPSILON FLT_EPSILON
#endif

#define INLINE static inline __attribute__((always_inline))
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(real)))
#ifdef WYRM_DOUBLE
#define LANES_TO_COUNT (VECTOR_BYTES / 8) // the same for the preprocessor
#else
#define LANES_TO_COUNT (VECTOR_BYTES / 4)
#endif

// Before a loop over arrays of vectors: unrolled, they are kept in registers.
#define UNROLLED _Pragma("GCC unroll 16")

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef integer ivec __attribute__((vector_size(VECTOR_BYTES)));
typedef real vec_anywhere __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

INLINE vec splat(real x) { return x - (vec){0}; } // not `+`: -0.0 + 0.0 is 0.0
INLINE vec load(const real *p) { return *(const vec_anywhere *)p; }
INLINE void store(real *p, vec v) { *(vec_anywhere *)p = v; }

// Lanes of `yes` where the mask is all ones, of `no` where it is 0.
INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

// x, or the nearer of two bounds where it lies outside them; NaN stays NaN.
INLINE vec limited(vec x, real low, real high);

// The first `count` elements, 0 < count < LANES; the other lanes are 0. Reads nothing beyond them.
INLINE vec load_part(const real *p, int64_t count);
INLINE vec load_part_or(const real *p, int64_t count, real rest); // with something else in the other lanes
INLINE void store_part(real *p, vec v, int64_t count);

#if defined(__AVX512F__) && defined(WYRM_DOUBLE)
INLINE __mmask8 first(int64_t count) { return (__mmask8)((1u << count) - 1); }
INLINE vec load_part(const real *p, int64_t count) { return (vec)_mm512_maskz_loadu_pd(first(count), p); }
INLINE vec load_part_or(const real *p, int64_t count, real rest) {
    return (vec)_mm512_mask_loadu_pd((__m512d)splat(rest), first(count), p);
}
INLINE void store_part(real *p, vec v, int64_t count) { _mm512_mask_storeu_pd(p, first(count), (__m512d)v); }
#elif defined(__AVX512F__)
INLINE __mmask16 first(int64_t count) { return (__mmask16)((1u << count) - 1); }
INLINE vec load_part(const real *p, int64_t count) { return (vec)_mm512_maskz_loadu_ps(first(count), p); }
INLINE vec load_part_or(const real *p, int64_t count, real rest) {
    return (vec)_mm512_mask_loadu_ps((__m512)splat(rest), first(count), p);
}
INLINE void store_part(real *p, vec v, int64_t count) { _mm512_mask_storeu_ps(p, first(count), (__m512)v); }
#elif defined(__AVX2__)
// Masked stores take some processors many cycles, and loads that follow have to wait for them: single elements go without.
static const int32_t ones_then_zeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
INLINE __m256i first(int64_t count) {
    const int64_t words = count * (int64_t)(sizeof(real) / 4);
    return _mm256_loadu_si256((const __m256i *)(ones_then_zeros + 8 - words));
}
#ifdef WYRM_DOUBLE
INLINE vec masked_load(const real *p, int64_t count) { return (vec)_mm256_maskload_pd(p, first(count)); }
INLINE void masked_store(real *p, vec v, int64_t count) { _mm256_maskstore_pd(p, first(count), (__m256d)v); }
#else
INLINE vec masked_load(const real *p, int64_t count) { return (vec)_mm256_maskload_ps(p, first(count)); }
INLINE void masked_store(real *p, vec v, int64_t count) { _mm256_maskstore_ps(p, first(count), (__m256)v); }
#endif
INLINE vec load_part(const real *p, int64_t count) { return count == 1 ? (vec){*p} : masked_load(p, count); }
INLINE vec load_part_or(const real *p, int64_t count, real rest) {
    return choose((ivec)first(count), masked_load(p, count), splat(rest));
}
INLINE void store_part(real *p, vec v, int64_t count) {
    if (count == 1)
        *p = v[0];
    else
        masked_store(p, v, count);
}
#else
INLINE vec load_part_or(const real *p, int64_t count, real rest) {
    vec v = splat(rest);
    for (int64_t i = 0; i < count; i++) v[i] = p[i];
    return v;
}
INLINE vec load_part(const real *p, int64_t count) { return load_part_or(p, count, 0); }
INLINE void store_part(real *p, vec v, int64_t count) {
    for (int64_t i = 0; i < count; i++) p[i] = v[i];
}
#endif

#if defined(__AVX512F__) && defined(WYRM_DOUBLE)
#define OF_TWO(NAME, A, B) (vec) _mm512_##NAME##_pd((__m512d)(A), (__m512d)(B))
#elif defined(__AVX512F__)
#define OF_TWO(NAME, A, B) (vec) _mm512_##NAME##_ps((__m512)(A), (__m512)(B))
#elif defined(__AVX2__) && defined(WYRM_DOUBLE)
#define OF_TWO(NAME, A, B) (vec) _mm256_##NAME##_pd((__m256d)(A), (__m256d)(B))
#elif defined(__AVX2__)
#define OF_TWO(NAME, A, B) (vec) _mm256_##NAME##_ps((__m256)(A), (__m256)(B))
#endif

#ifdef OF_TWO
// Of the processor's two operands it is the second that comes out where one is NaN.
INLINE vec limited(vec x, real low, real high) {
    x = OF_TWO(max, splat(low), x);
    return OF_TWO(min, splat(high), x);
}
#else
INLINE vec limited(vec x, real low, real high) {
    x = choose(x < low, splat(low), x);
    return choose(x > high, splat(high), x);
}
#endif

// The sum of all lanes.
INLINE real lane_sum(vec v) {
#if defined(__AVX512F__) && defined(WYRM_DOUBLE)
    return _mm512_reduce_add_pd((__m512d)v);
#elif defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__) && defined(WYRM_DOUBLE)
    __m128d half = _mm256_castpd256_pd128((__m256d)v) + _mm256_extractf128_pd((__m256d)v, 1);
    return half[0] + half[1];
#elif defined(__AVX2__)
    __m128 half = _mm256_castps256_ps128((__m256)v) + _mm256_extractf128_ps((__m256)v, 1);
    half += _mm_movehl_ps(half, half);
    return half[0] + half[1];
#else
    real sum = v[0];
    for (int64_t i = 1; i < LANES; i++) sum += v[i];
    return sum;
#endif
}

// --- words of 64 bits

#define WORDS ((int)(VECTOR_BYTES / 8))

typedef uint64_t wvec __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t wvec_anywhere __attribute__((vector_size(VECTOR_BYTES), aligned(1), may_alias));
typedef int32_t halves_anywhere __attribute__((vector_size(VECTOR_BYTES / 2), aligned(1), may_alias));

#if VECTOR_BYTES == 64
static const wvec counting_words = {0, 1, 2, 3, 4, 5, 6, 7};
#elif VECTOR_BYTES == 32
static const wvec counting_words = {0, 1, 2, 3};
#else
static const wvec counting_words = {0, 1};
#endif

INLINE wvec load_words(const void *p) { return *(const wvec_anywhere *)p; }
INLINE void store_words(void *p, wvec v) { *(wvec_anywhere *)p = v; }
INLINE wvec load_halves(const void *p) { return (wvec)__builtin_convertvector(*(const halves_anywhere *)p, wvec); }

// Whether any word is not 0; products of the lower halves.
INLINE int is_any(wvec v);
INLINE wvec products_of_halves(wvec a, wvec b);

#if defined(__AVX512F__)
INLINE int is_any(wvec v) { return _mm512_test_epi64_mask((__m512i)v, (__m512i)v) != 0; }
INLINE wvec products_of_halves(wvec a, wvec b) { return (wvec)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
#elif defined(__AVX2__)
INLINE int is_any(wvec v) { return !_mm256_testz_si256((__m256i)v, (__m256i)v); }
INLINE wvec products_of_halves(wvec a, wvec b) { return (wvec)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
#else
INLINE int is_any(wvec v) { return (v[0] | v[1]) != 0; }
INLINE wvec products_of_halves(wvec a, wvec b) { return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu); }
#endif

// --- lanes of several vectors, or of one, put together

// A list with F(lane, D) for each lane. The numbers of lanes in shuffles are constants for the compiler's first passes.
#define LANES_2(F, D) F(0, D), F(1, D)
#define LANES_4(F, D) LANES_2(F, D), F(2, D), F(3, D)
#define LANES_8(F, D) LANES_4(F, D), F(4, D), F(5, D), F(6, D), F(7, D)
#define LANES_16(F, D) LANES_8(F, D), F(8, D), F(9, D), F(10, D), F(11, D), F(12, D), F(13, D), F(14, D), F(15, D)
#if LANES_TO_COUNT == 16
#define EACH_LANE LANES_16
#elif LANES_TO_COUNT == 8
#define EACH_LANE LANES_8
#elif LANES_TO_COUNT == 4
#define EACH_LANE LANES_4
#else
#define EACH_LANE LANES_2
#endif

// Does something for each power of two below the number of lanes, the largest first.
#if LANES_TO_COUNT == 16
#define EACH_DISTANCE(DO) DO(8) DO(4) DO(2) DO(1)
#elif LANES_TO_COUNT == 8
#define EACH_DISTANCE(DO) DO(4) DO(2) DO(1)
#elif LANES_TO_COUNT == 4
#define EACH_DISTANCE(DO) DO(2) DO(1)
#else
#define EACH_DISTANCE(DO) DO(1)
#endif

// Of each block of lanes of two vectors every other unit, the first vector's before the second's; the first or the second of each
// two. A processor exchanges lanes that are within 16 bytes at less cost than others.
#define ONE_OF_TWO(I, BLOCK, UNIT, WHICH)                                                                              \
    ((I) % (BLOCK) < (BLOCK) / 2 ? 0 : LANES_TO_COUNT) + (I) / (BLOCK) * (BLOCK) + (I) % ((BLOCK) / 2) / (UNIT) * 2 * (UNIT) + \
        (I) % (UNIT) + (WHICH) * (UNIT)
#define CLOSE_LANES (16 / (VECTOR_BYTES / LANES_TO_COUNT))
#define CLOSE_LANE(I, WHICH) ONE_OF_TWO(I, CLOSE_LANES, 1, WHICH)
#define FAR_LANE(I, WHICH) ONE_OF_TWO(I, LANES_TO_COUNT, CLOSE_LANES, WHICH)

// The sum of all lanes of each of LANES vectors: of two vectors, the sums of two lanes each make one.
INLINE vec lane_sums(vec *v) {
    int count = LANES_TO_COUNT;
#define SUMS(LANE)                                                                                                     \
    count /= 2;                                                                                                        \
    UNROLLED                                                                                                           \
    for (int i = 0; i < count; i++)                                                                                    \
        v[i] = __builtin_shuffle(v[2 * i], v[2 * i + 1], (ivec){EACH_LANE(LANE, 0)}) +                                 \
               __builtin_shuffle(v[2 * i], v[2 * i + 1], (ivec){EACH_LANE(LANE, 1)});
    SUMS(CLOSE_LANE)
#ifndef WYRM_DOUBLE
    SUMS(CLOSE_LANE)
#endif
#if VECTOR_BYTES >= 32
    SUMS(FAR_LANE)
#endif
#if VECTOR_BYTES >= 64
    SUMS(FAR_LANE)
#endif
#undef SUMS
    return v[0];
}

#define LANE_APART(I, D) ((I) ^ (D))

// All lanes put together by a function of two vectors, in every lane.
INLINE vec lanes_folded(vec v, vec (*f)(vec, vec)) {
#define FOLD(D) v = f(v, __builtin_shuffle(v, (ivec){EACH_LANE(LANE_APART, D)}));
    EACH_DISTANCE(FOLD)
#undef FOLD
    return v;
}

#endif
