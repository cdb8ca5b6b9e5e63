"""W3 and W4: an embedding, an LSTM from zeros, a linear layer and cross-entropy; one sequence a step. As in ``c/lstm.c``."""

import math

import numpy as np
from numba import njit

RATE = np.float32(0.05)
ONE = np.float32(1)
TOKENS, EMBEDDED, HIDDEN, LONGEST = 10, 16, 32, 20
GATES, ROWS = 4 * HIDDEN, HIDDEN + EMBEDDED


@njit(fastmath=True, inline="always")
def sigmoid(x):
    return ONE / (ONE + math.exp(-x))


@njit(fastmath=True, cache=True)
def forward(embedding, weights, biases, tokens, length, inputs, gates, cells, bounded, hidden):
    hidden[:] = 0
    for t in range(length):
        inputs[t, :HIDDEN] = hidden
        inputs[t, HIDDEN:] = embedding[tokens[t]]
        g = gates[t]
        g[:] = biases[0]
        for r in range(ROWS):
            x = inputs[t, r]
            for j in range(GATES):
                g[j] += x * weights[r, j]
        for j in range(3 * HIDDEN):
            g[j] = sigmoid(g[j])
        for j in range(3 * HIDDEN, GATES):
            g[j] = math.tanh(g[j])
        for j in range(HIDDEN):
            before = cells[t - 1, j] if t > 0 else np.float32(0)
            cells[t, j] = g[j] * before + g[HIDDEN + j] * g[3 * HIDDEN + j]
            bounded[t, j] = math.tanh(cells[t, j])
            hidden[j] = g[2 * HIDDEN + j] * bounded[t, j]


@njit(fastmath=True, cache=True)
def output_layer(weights, biases, hidden, following, p, back):
    p[:] = biases[0]
    for k in range(HIDDEN):
        for j in range(TOKENS):
            p[j] += hidden[k] * weights[k, j]
    largest = p.max()
    total = np.float32(0)
    for j in range(TOKENS):
        p[j] = math.exp(p[j] - largest)
        total += p[j]
    for j in range(TOKENS):
        p[j] /= total
    loss = -math.log(p[following])
    p[following] -= ONE
    for k in range(HIDDEN):
        d = np.float32(0)
        for j in range(TOKENS):
            d += p[j] * weights[k, j]
            weights[k, j] -= RATE * p[j] * hidden[k]
        back[k] = d
    for j in range(TOKENS):
        biases[0, j] -= RATE * p[j]
    return loss


@njit(fastmath=True, cache=True)
def backward(weights, length, gates, cells, bounded, gradients, back, input_gradients):
    cell_back = np.zeros(HIDDEN, np.float32)
    for t in range(length - 1, -1, -1):
        g, d = gates[t], gradients[t]
        for j in range(HIDDEN):
            f, i, o, c = g[j], g[HIDDEN + j], g[2 * HIDDEN + j], g[3 * HIDDEN + j]
            before = cells[t - 1, j] if t > 0 else np.float32(0)
            through = cell_back[j] + back[j] * o * (ONE - bounded[t, j] * bounded[t, j])
            d[j] = through * before * f * (ONE - f)
            d[HIDDEN + j] = through * c * i * (ONE - i)
            d[2 * HIDDEN + j] = back[j] * bounded[t, j] * o * (ONE - o)
            d[3 * HIDDEN + j] = through * i * (ONE - c * c)
            cell_back[j] = through * f
        for r in range(ROWS):
            total = np.float32(0)
            for j in range(GATES):
                total += d[j] * weights[r, j]
            if r < HIDDEN:
                back[r] = total
            else:
                input_gradients[t, r - HIDDEN] = total


@njit(fastmath=True, cache=True)
def update(embedding, weights, biases, tokens, length, inputs, gradients, input_gradients):
    for r in range(ROWS):
        for t in range(length):
            move = RATE * inputs[t, r]
            for j in range(GATES):
                weights[r, j] -= move * gradients[t, j]
    for t in range(length):
        for j in range(GATES):
            biases[0, j] -= RATE * gradients[t, j]
        for j in range(EMBEDDED):
            embedding[tokens[t], j] -= RATE * input_gradients[t, j]


@njit(fastmath=True, cache=True)
def train(embedding, weights, biases, output_weights, output_biases, sequences, lengths, start, stop):
    inputs = np.empty((LONGEST, ROWS), np.float32)
    gates, gradients = np.empty((LONGEST, GATES), np.float32), np.empty((LONGEST, GATES), np.float32)
    cells, bounded = np.empty((LONGEST, HIDDEN), np.float32), np.empty((LONGEST, HIDDEN), np.float32)
    input_gradients = np.empty((LONGEST, EMBEDDED), np.float32)
    hidden, back, p = np.empty(HIDDEN, np.float32), np.empty(HIDDEN, np.float32), np.empty(TOKENS, np.float32)
    total = 0.0
    for n in range(start, stop):
        tokens = sequences[n]
        length = lengths[n % len(lengths)]
        forward(embedding, weights, biases, tokens, length, inputs, gates, cells, bounded, hidden)
        total += output_layer(output_weights, output_biases, hidden, tokens[length], p, back)
        backward(weights, length, gates, cells, bounded, gradients, back, input_gradients)
        update(embedding, weights, biases, tokens, length, inputs, gradients, input_gradients)
    return total


def train_fours(embedding, weights, biases, output_weights, output_biases, sequences, start, stop):
    four = np.full(1, 4, np.int32)
    return train(embedding, weights, biases, output_weights, output_biases, sequences, four, start, stop)
