"""W7: logistic regression over bags of features by FTRL-Proximal. As in ``c/logistic.c``."""

import math

import numpy as np
from numba import njit

ALPHA, BETA, L1, L2 = np.float32(0.1), np.float32(1), np.float32(0.1), np.float32(0.1)
ZERO, ONE = np.float32(0), np.float32(1)


@njit(fastmath=True, cache=True)
def train(weights, z, n, features, offsets, clicked, start, stop):
    total = 0.0
    for e in range(start, stop):
        score = ZERO
        for k in range(offsets[e], offsets[e + 1]):
            score += weights[features[k]]
        total += max(score, ZERO) + math.log1p(math.exp(-abs(score))) - score * clicked[e]
        gradient = ONE / (ONE + math.exp(-score)) - clicked[e]
        for k in range(offsets[e], offsets[e + 1]):
            f = features[k]
            squares = n[f] + gradient * gradient
            z[f] += gradient - (math.sqrt(squares) - math.sqrt(n[f])) / ALPHA * weights[f]
            n[f] = squares
            beyond = abs(z[f]) - L1
            weights[f] = -math.copysign(beyond, z[f]) / ((BETA + math.sqrt(squares)) / ALPHA + L2) if beyond > 0 else ZERO
    return total
