// W6: skip-gram with negative sampling (Mikolov, Sutskever, Chen, Corrado and Dean, 2013), one pair a step.
// All scores are taken before anything moves.

#include <math.h>

enum { DIMENSION = 64, NEGATIVES = 5 };
static const float RATE = 0.025f;

static float softplus(float x) { return fmaxf(x, 0) + log1pf(expf(-fabsf(x))); }
static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static float dot(const float *restrict a, const float *restrict b) {
    float sum = 0;
    for (int d = 0; d < DIMENSION; d++) sum += a[d] * b[d];
    return sum;
}

static float step(float *restrict word, float *restrict contexts, int context, const int *negatives) {
    float loss = 0, moves[1 + NEGATIVES], word_move[DIMENSION] = {0};
    float *rows[1 + NEGATIVES];
    for (int k = 0; k <= NEGATIVES; k++) {
        rows[k] = contexts + (long)(k ? negatives[k - 1] : context) * DIMENSION;
        float score = dot(word, rows[k]);
        loss += softplus(k ? score : -score);
        moves[k] = RATE * (k ? sigmoid(score) : sigmoid(score) - 1);
    }
    for (int k = 0; k <= NEGATIVES; k++)
        for (int d = 0; d < DIMENSION; d++) word_move[d] += moves[k] * rows[k][d];
    for (int k = 0; k <= NEGATIVES; k++)
        for (int d = 0; d < DIMENSION; d++) rows[k][d] -= moves[k] * word[d];
    for (int d = 0; d < DIMENSION; d++) word[d] -= word_move[d];
    return loss;
}

double skip_gram(float *words, float *contexts, const int *center, const int *context, const int *negatives, long start,
                 long stop) {
    double sum = 0;
    for (long n = start; n < stop; n++)
        sum += step(words + (long)center[n] * DIMENSION, contexts, context[n], negatives + n * NEGATIVES);
    return sum;
}
