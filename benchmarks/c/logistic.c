// W7: logistic regression over bags of features by FTRL-Proximal (McMahan et al., KDD 2013, algorithm 1). No feature occurs
// twice in a bag.

#include <math.h>

static const float ALPHA = 0.1f, BETA = 1, L1 = 0.1f, L2 = 0.1f;

double logistic(float *weights, float *z, float *n, const int *features, const long *offsets, const float *clicked, long start,
                long stop) {
    double sum = 0;
    for (long e = start; e < stop; e++) {
        float score = 0;
        for (long k = offsets[e]; k < offsets[e + 1]; k++) score += weights[features[k]];
        sum += fmaxf(score, 0) + log1pf(expf(-fabsf(score))) - score * clicked[e];
        float gradient = 1 / (1 + expf(-score)) - clicked[e];
        for (long k = offsets[e]; k < offsets[e + 1]; k++) {
            long f = features[k];
            float squares = n[f] + gradient * gradient;
            z[f] += gradient - (sqrtf(squares) - sqrtf(n[f])) / ALPHA * weights[f];
            n[f] = squares;
            float beyond = fabsf(z[f]) - L1;
            weights[f] = beyond > 0 ? -copysignf(beyond, z[f]) / ((BETA + sqrtf(squares)) / ALPHA + L2) : 0;
        }
    }
    return sum;
}
