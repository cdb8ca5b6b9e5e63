// W3 and W4: an embedding of ten tokens, an LSTM from zeros, a linear layer and cross-entropy; one sequence a step of
// stochastic gradient descent.
//
// Gates in the columns of `weights`: forget, input, output, candidate. In its rows: the hidden state, then the input.
// The gradients of the weights are products over time, taken and applied when all of them are known.

#include <math.h>
#include <string.h>

enum { TOKENS = 10, EMBEDDED = 16, HIDDEN = 32, GATES = 4 * HIDDEN, ROWS = HIDDEN + EMBEDDED, LONGEST = 20 };
static const float RATE = 0.05f;

typedef struct {
    float *restrict embedding, *restrict weights, *restrict biases, *restrict output_weights, *restrict output_biases;
} Model;

// What one time step leaves for the way back.
typedef struct {
    float input[ROWS], gates[GATES], cell[HIDDEN], bounded[HIDDEN], gradient[GATES];
} Step;

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static void forward(const Model *m, const int *tokens, int length, Step *steps, float *hidden) {
    float cell[HIDDEN] = {0};
    memset(hidden, 0, HIDDEN * sizeof(float));
    for (int t = 0; t < length; t++) {
        Step *s = steps + t;
        memcpy(s->input, hidden, HIDDEN * sizeof(float));
        memcpy(s->input + HIDDEN, m->embedding + tokens[t] * EMBEDDED, EMBEDDED * sizeof(float));
        float sums[GATES];
        memcpy(sums, m->biases, sizeof sums);
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < GATES; j++) sums[j] += s->input[r] * m->weights[r * GATES + j];
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
static float output_layer(const Model *m, const float *hidden, int class, float *back) {
    float p[TOKENS], largest = -INFINITY, sum = 0;
    memcpy(p, m->output_biases, sizeof p);
    for (int k = 0; k < HIDDEN; k++)
        for (int j = 0; j < TOKENS; j++) p[j] += hidden[k] * m->output_weights[k * TOKENS + j];
    for (int j = 0; j < TOKENS; j++) largest = p[j] > largest ? p[j] : largest;
    for (int j = 0; j < TOKENS; j++) sum += p[j] = expf(p[j] - largest);
    for (int j = 0; j < TOKENS; j++) p[j] /= sum;
    float loss = -logf(p[class]);
    p[class] -= 1;
    for (int k = 0; k < HIDDEN; k++) {
        float d = 0;
        for (int j = 0; j < TOKENS; j++) {
            d += p[j] * m->output_weights[k * TOKENS + j];
            m->output_weights[k * TOKENS + j] -= RATE * p[j] * hidden[k];
        }
        back[k] = d;
    }
    for (int j = 0; j < TOKENS; j++) m->output_biases[j] -= RATE * p[j];
    return loss;
}

static void backward(const Model *m, int length, Step *steps, float *back, float (*inputs)[EMBEDDED]) {
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
            for (int j = 0; j < GATES; j++) sum += d[j] * m->weights[r * GATES + j];
            if (r < HIDDEN) back[r] = sum;
            else inputs[t][r - HIDDEN] = sum;
        }
    }
}

static void update(const Model *m, const int *tokens, int length, const Step *steps, float (*inputs)[EMBEDDED]) {
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < length; t++) {
            float move = RATE * steps[t].input[r];
            for (int j = 0; j < GATES; j++) m->weights[r * GATES + j] -= move * steps[t].gradient[j];
        }
    for (int t = 0; t < length; t++) {
        for (int j = 0; j < GATES; j++) m->biases[j] -= RATE * steps[t].gradient[j];
        for (int j = 0; j < EMBEDDED; j++) m->embedding[tokens[t] * EMBEDDED + j] -= RATE * inputs[t][j];
    }
}

double lstm(float *embedding, float *weights, float *biases, float *output_weights, float *output_biases,
            const int *sequences, const int *lengths, long start, long stop) {
    const Model m = {embedding, weights, biases, output_weights, output_biases};
    _Alignas(64) Step steps[LONGEST];
    float hidden[HIDDEN], back[HIDDEN], inputs[LONGEST][EMBEDDED];
    double sum = 0;
    for (long n = start; n < stop; n++) {
        const int *tokens = sequences + n * (LONGEST + 1), length = lengths[n];
        forward(&m, tokens, length, steps, hidden);
        sum += output_layer(&m, hidden, tokens[length], back);
        backward(&m, length, steps, back, inputs);
        update(&m, tokens, length, steps, inputs);
    }
    return sum;
}
