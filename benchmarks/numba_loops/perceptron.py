"""W8: a perceptron with one hidden layer of rectified units, one batch a step. As in ``c/perceptron.c``."""

import numpy as np
from numba import njit

RATE = np.float32(0.05)
ZERO = np.float32(0)


@njit(fastmath=True, cache=True)
def train(weights, biases, output_weights, output_bias, x, y, start, stop):
    rows, width = x.shape[1], x.shape[2]
    scale = RATE * np.float32(2) / np.float32(rows)
    moves = np.empty((width, width), np.float32)
    bias_moves, output_moves = np.empty(width, np.float32), np.empty(width, np.float32)
    hidden, back = np.empty(width, np.float32), np.empty(width, np.float32)
    total = 0.0
    for n in range(start, stop):
        moves[:], bias_moves[:], output_moves[:] = 0, 0, 0
        output_bias_move, loss = ZERO, ZERO
        for r in range(rows):
            hidden[:] = biases[0]
            for k in range(width):
                for j in range(width):
                    hidden[j] += x[n, r, k] * weights[k, j]
            score = output_bias[0, 0]
            for j in range(width):
                hidden[j] = max(hidden[j], ZERO)
                score += hidden[j] * output_weights[j, 0]
            error = score - y[n, r, 0]
            move = scale * error
            loss += error * error
            output_bias_move += move
            for j in range(width):
                output_moves[j] += move * hidden[j]
                back[j] = move * output_weights[j, 0] if hidden[j] > 0 else ZERO
                bias_moves[j] += back[j]
            for k in range(width):
                for j in range(width):
                    moves[k, j] += x[n, r, k] * back[j]
        weights -= moves
        biases[0] -= bias_moves
        output_weights[:, 0] -= output_moves
        output_bias -= output_bias_move
        total += loss / rows
    return total
