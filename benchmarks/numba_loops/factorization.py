"""W2 and W5: matrix factorization by stochastic gradient descent."""

import numpy as np
from numba import njit

RATE = np.float32(0.01)
DIMENSION = 32


@njit(fastmath=True, cache=True, nogil=True)
def train(users, items, user, item, ratings, start, stop):
    total = 0.0
    for n in range(start, stop):
        u, i = users[user[n]], items[item[n]]
        score = np.float32(0)
        for d in range(DIMENSION):
            score += u[d] * i[d]
        error = score - ratings[n]
        move = RATE * np.float32(2) * error
        for d in range(DIMENSION):
            old = u[d]
            u[d] -= move * i[d]
            i[d] -= move * old
        total += error * error
    return total
