"""W2 and W5 by LightFM: pairs of user and item with logistic loss and Adagrad, and biases: near, but not the same."""

from __future__ import annotations

import sys

import numpy as np
from lightfm import LightFM
from scipy.sparse import coo_matrix

from benchmarks import data
from benchmarks.peers.protocol import Model, serve


class Pairs(Model):
    """Ratings above 3 are 1, others -1."""

    def __init__(self) -> None:
        self.ratings = data.first().factorization
        self.signs = np.where(self.ratings.ratings > 3, 1, -1).astype(np.float32)
        self.threads = int(sys.argv[2])
        self.model = LightFM(no_components=data.DIMENSION, loss="logistic", learning_rate=0.01, random_state=1)

    def run(self, start: int, stop: int) -> None:
        part = slice(start, stop)
        pairs = self.ratings.users[part], self.ratings.items[part]
        matrix = coo_matrix((self.signs[part], pairs), shape=(data.USERS, data.ITEMS))
        self.model.fit_partial(matrix, epochs=1, num_threads=self.threads)


if __name__ == "__main__":
    serve(Pairs)
