// W3 and W4: an embedding of ten tokens, an LSTM from zeros, a linear layer and cross-entropy; one sequence a step of
// stochastic gradient descent.
//
// Gates in the columns of `weights`: forget, input, output, candidate. In its rows: the hidden state, then the input.
// The gradients of the weights are products over time, taken and applied when all of them are known.

#include <float.h>
#include <math.h>
#include <string.h>

enum { TOKENS = 10, EMBEDDED = 16, HIDDEN = 32, GATES = 4 * HIDDEN, ROWS = HIDDEN + EMBEDDED, LONGEST = 20 };
static const float RATE = 0.05f;

typedef struct {
    float (*embedding)[EMBEDDED], (*weights)[GATES], *biases, (*output_weights)[TOKENS], *output_biases;
} Model;

// What one time step leaves for the way back.
typedef struct {
    float input[ROWS], gates[GATES], cell[HIDDEN], bounded[HIDDEN], gradient[GATES];
} Step;

#define INLINE static inline __attribute__((always_inline))

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

INLINE void forward(const Model *m, const int *tokens, int length, Step *restrict steps, float *restrict hidden) {
    float (*restrict weights)[GATES] = m->weights;
    float cell[HIDDEN] = {0};
    memset(hidden, 0, HIDDEN * sizeof(float));
    for (int t = 0; t < length; t++) {
        Step *s = steps + t;
        memcpy(s->input, hidden, HIDDEN * sizeof(float));
        memcpy(s->input + HIDDEN, m->embedding[tokens[t]], EMBEDDED * sizeof(float));
        float sums[GATES];
        memcpy(sums, m->biases, sizeof sums);
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < GATES; j++) sums[j] += s->input[r] * weights[r][j];
        for (int j = 0; j < 3 * HIDDEN; j++) s->gates[j] = sigmoid(sums[j]);
        for (int j = 3 * HIDDEN; j < GATES; j++) s->gates[j] = tanhf(sums[j]);
        const float *f = s->gates, *i = f + HIDDEN, *o = i + HIDDEN, *g = o + HIDDEN;
        for (int j = 0; j < HIDDEN; j++) {
            cell[j] = f[j] * cell[j] + i[j] * g[j];
            s->cell[j] = cell[j];
            s->bounded[j] = tanhf(cell[j]);
            hidden[j] = o[j] * s->bounded[j];
        }
    }
}

// Returns the loss; leaves the gradient of the hidden state in `back`, and updates the output layer.
INLINE float output_layer(const Model *m, const float *restrict hidden, int class, float *restrict back) {
    float (*restrict weights)[TOKENS] = m->output_weights, *restrict biases = m->output_biases;
    float p[TOKENS], largest = -FLT_MAX, sum = 0;
    memcpy(p, biases, sizeof p);
    for (int k = 0; k < HIDDEN; k++)
        for (int j = 0; j < TOKENS; j++) p[j] += hidden[k] * weights[k][j];
    for (int j = 0; j < TOKENS; j++) largest = p[j] > largest ? p[j] : largest;
    for (int j = 0; j < TOKENS; j++) {
        p[j] = expf(p[j] - largest);
        sum += p[j];
    }
    for (int j = 0; j < TOKENS; j++) p[j] /= sum;
    float loss = -logf(p[class]);
    p[class] -= 1;
    for (int k = 0; k < HIDDEN; k++) {
        float d = 0;
        for (int j = 0; j < TOKENS; j++) {
            d += p[j] * weights[k][j];
            weights[k][j] -= RATE * p[j] * hidden[k];
        }
        back[k] = d;
    }
    for (int j = 0; j < TOKENS; j++) biases[j] -= RATE * p[j];
    return loss;
}

INLINE void backward(const Model *m, int length, Step *restrict steps, float *restrict back, float (*restrict inputs)[EMBEDDED]) {
    float (*restrict weights)[GATES] = m->weights;
    float cell_back[HIDDEN] = {0};
    for (int t = length - 1; t >= 0; t--) {
        Step *s = steps + t;
        const float *f = s->gates, *i = f + HIDDEN, *o = i + HIDDEN, *g = o + HIDDEN;
        float *d = s->gradient;
        for (int j = 0; j < HIDDEN; j++) {
            float before = t ? s[-1].cell[j] : 0;
            float c = cell_back[j] + back[j] * o[j] * (1 - s->bounded[j] * s->bounded[j]);
            d[j] = c * before * f[j] * (1 - f[j]);
            d[HIDDEN + j] = c * g[j] * i[j] * (1 - i[j]);
            d[2 * HIDDEN + j] = back[j] * s->bounded[j] * o[j] * (1 - o[j]);
            d[3 * HIDDEN + j] = c * i[j] * (1 - g[j] * g[j]);
            cell_back[j] = c * f[j];
        }
        for (int r = 0; r < ROWS; r++) {
            float sum = 0;
            for (int j = 0; j < GATES; j++) sum += d[j] * weights[r][j];
            if (r < HIDDEN) back[r] = sum;
            else inputs[t][r - HIDDEN] = sum;
        }
    }
}

INLINE void update(const Model *m, const int *tokens, int length, const Step *restrict steps, float (*restrict inputs)[EMBEDDED]) {
    float (*restrict weights)[GATES] = m->weights, *restrict biases = m->biases, (*restrict embedding)[EMBEDDED] = m->embedding;
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < length; t++) {
            float move = RATE * steps[t].input[r];
            for (int j = 0; j < GATES; j++) weights[r][j] -= move * steps[t].gradient[j];
        }
    for (int t = 0; t < length; t++) {
        for (int j = 0; j < GATES; j++) biases[j] -= RATE * steps[t].gradient[j];
        for (int j = 0; j < EMBEDDED; j++) embedding[tokens[t]][j] -= RATE * inputs[t][j];
    }
}

INLINE float step(const Model *m, const int *tokens, int length) {
    _Alignas(64) Step steps[LONGEST];
    float hidden[HIDDEN], back[HIDDEN], inputs[LONGEST][EMBEDDED];
    forward(m, tokens, length, steps, hidden);
    float loss = output_layer(m, hidden, tokens[length], back);
    backward(m, length, steps, back, inputs);
    update(m, tokens, length, steps, inputs);
    return loss;
}

// W3: all sequences have four tokens, so that the compiler can unroll the loops over time.
double lstm_of_four(float (*embedding)[EMBEDDED], float (*weights)[GATES], float *biases, float (*output_weights)[TOKENS],
                    float *output_biases, const int *sequences, long start, long stop) {
    const Model m = {embedding, weights, biases, output_weights, output_biases};
    double sum = 0;
    for (long n = start; n < stop; n++) sum += step(&m, sequences + n * (LONGEST + 1), 4);
    return sum;
}

// W4
double lstm(float (*embedding)[EMBEDDED], float (*weights)[GATES], float *biases, float (*output_weights)[TOKENS],
            float *output_biases, const int *sequences, const int *lengths, long start, long stop) {
    const Model m = {embedding, weights, biases, output_weights, output_biases};
    double sum = 0;
    for (long n = start; n < stop; n++) sum += step(&m, sequences + n * (LONGEST + 1), lengths[n]);
    return sum;
}
