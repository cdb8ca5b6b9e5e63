"""W6: skip-gram with negative sampling, one pair a step. As in ``c/skip_gram.c``."""

import math

import numpy as np
from numba import njit

RATE = np.float32(0.025)
ONE = np.float32(1)


@njit(fastmath=True, cache=True)
def train(words, contexts, center, context, negatives, start, stop):
    count, dimension = negatives.shape[1] + 1, words.shape[1]
    rows, moves = np.empty(count, np.int64), np.empty(count, np.float32)
    word_move = np.empty(dimension, np.float32)
    total = 0.0
    for n in range(start, stop):
        word = words[center[n]]
        word_move[:] = 0
        for k in range(count):
            rows[k] = context[n] if k == 0 else negatives[n, k - 1]
            row = contexts[rows[k]]
            score = np.float32(0)
            for d in range(dimension):
                score += word[d] * row[d]
            signed = -score if k == 0 else score
            total += max(signed, np.float32(0)) + math.log1p(math.exp(-abs(signed)))
            moves[k] = RATE * (ONE / (ONE + math.exp(-score)) - (ONE if k == 0 else np.float32(0)))
            for d in range(dimension):
                word_move[d] += moves[k] * row[d]
        for k in range(count):
            row = contexts[rows[k]]
            for d in range(dimension):
                row[d] -= moves[k] * word[d]
        for d in range(dimension):
            word[d] -= word_move[d]
    return total
