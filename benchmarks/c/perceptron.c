// W8: a perceptron with one hidden layer of rectified units, mean squared error over a batch of rows, one batch a step.

#include <string.h>

enum { ROWS = 256, WIDTH = 64 };
static const float RATE = 0.05f;

static float step(float (*restrict weights)[WIDTH], float *restrict biases, float *restrict output_weights,
                  float *restrict output_bias, const float (*restrict x)[WIDTH], const float *restrict y) {
    static _Thread_local float moves[WIDTH][WIDTH];
    float bias_moves[WIDTH] = {0}, output_moves[WIDTH] = {0}, output_bias_move = 0, loss = 0;
    memset(moves, 0, sizeof moves);
    for (int r = 0; r < ROWS; r++) {
        float hidden[WIDTH], back[WIDTH];
        memcpy(hidden, biases, sizeof hidden);
        for (int k = 0; k < WIDTH; k++)
            for (int j = 0; j < WIDTH; j++) hidden[j] += x[r][k] * weights[k][j];
        float score = *output_bias;
        for (int j = 0; j < WIDTH; j++) {
            hidden[j] = hidden[j] > 0 ? hidden[j] : 0;
            score += hidden[j] * output_weights[j];
        }
        float error = score - y[r];
        float move = RATE * 2 * error / ROWS;
        loss += error * error;
        output_bias_move += move;
        for (int j = 0; j < WIDTH; j++) {
            output_moves[j] += move * hidden[j];
            back[j] = hidden[j] > 0 ? move * output_weights[j] : 0;
            bias_moves[j] += back[j];
        }
        for (int k = 0; k < WIDTH; k++)
            for (int j = 0; j < WIDTH; j++) moves[k][j] += x[r][k] * back[j];
    }
    for (int k = 0; k < WIDTH; k++)
        for (int j = 0; j < WIDTH; j++) weights[k][j] -= moves[k][j];
    for (int j = 0; j < WIDTH; j++) {
        biases[j] -= bias_moves[j];
        output_weights[j] -= output_moves[j];
    }
    *output_bias -= output_bias_move;
    return loss / ROWS;
}

double perceptron(float (*weights)[WIDTH], float *biases, float *output_weights, float *output_bias, const float (*x)[WIDTH],
                  const float *y, long start, long stop) {
    double sum = 0;
    for (long n = start; n < stop; n++) sum += step(weights, biases, output_weights, output_bias, x + n * ROWS, y + n * ROWS);
    return sum;
}
