"""W1: linear regression by stochastic gradient descent."""

import numpy as np
from numba import njit

RATE = np.float32(0.1)


@njit(fastmath=True, cache=True)
def train(parameters, x, y, start, stop):
    slope, intercept = parameters[0], parameters[1]
    total = 0.0
    for n in range(start, stop):
        error = slope * x[n] + intercept - y[n]
        move = RATE * np.float32(2)
        slope -= move * x[n] * error
        intercept -= move * error
        total += error * error
    parameters[0], parameters[1] = slope, intercept
    return total
