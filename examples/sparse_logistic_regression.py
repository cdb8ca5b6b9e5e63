"""Clicks as they come: logistic regression over sparse features by FTRL-Proximal, or a factorization machine.

An example has one value in each of several fields (site, device, advertisement, ...), each a row of one table. They come as a
stream of chunks, of which only one is in memory, and each is seen once. The mean loss of an epoch, each example's before its
own update, is the progressive validation loss: it needs no held-out data.

    python sparse_logistic_regression.py [--model fm] [--data clicks.csv]

The file has a column for each field, with any text in it, and the column clicked, 0 or 1; texts are hashed to rows. Without a
file, examples are generated whose true probabilities are known, and with them the least possible loss.
"""

import argparse
import csv
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import wyrm
from wyrm.nn import losses

Chunk = tuple[np.ndarray, np.ndarray]  # rows of the table, (N, fields); clicked, (N,)


class Generated:
    """Examples whose log-odds are a sum over their values and, where ``pairs``, over pairs of them; values by Zipf's law."""

    fields = 6

    def __init__(self, values: int = 50, pairs: bool = False, chunks: int = 20, size: int = 5000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.rows, self.chunks, self.size, self.seed = self.fields * values, chunks, size, seed
        self.weights = rng.normal(0, 0.7, self.rows)
        self.factors = rng.normal(0, 0.45, (self.rows, 4)) if pairs else np.zeros((self.rows, 1))
        frequencies = 1 / np.arange(1, values + 1)
        self.frequencies = frequencies / frequencies.sum()
        self.least: list[float] = []  # of each chunk that was drawn, the entropy of its true probabilities

    def __iter__(self) -> Iterator[Chunk]:
        rng = np.random.default_rng([self.seed, 1])
        values = len(self.frequencies)
        for _ in range(self.chunks):
            drawn = rng.choice(values, (self.size, self.fields), p=self.frequencies) + values * np.arange(self.fields)
            factors = self.factors[drawn]
            pairs = (factors.sum(axis=1) ** 2 - (factors**2).sum(axis=1)).sum(axis=1) / 2
            log_odds = self.weights[drawn].sum(axis=1) + pairs - 1
            probability = 1 / (1 + np.exp(-log_odds))
            self.least.append(float(np.mean(np.logaddexp(0, log_odds) - probability * log_odds)))
            yield drawn, (rng.random(self.size) < probability).astype(np.float32)


class FromFile:
    """A CSV file, read as it is trained with."""

    def __init__(self, path: Path, rows: int = 2**18, size: int = 10_000) -> None:
        self.path, self.rows, self.size = path, rows, size
        with open(path, newline="") as file:
            self.names = [name for name in next(csv.reader(file)) if name != "clicked"]
        self.fields = len(self.names)

    def __iter__(self) -> Iterator[Chunk]:
        with open(self.path, newline="") as file:
            lines = csv.DictReader(file)
            while chunk := list(itertools.islice(lines, self.size)):
                hashed = [[zlib.crc32(f"{name}={line[name]}".encode()) % self.rows for name in self.names] for line in chunk]
                yield np.array(hashed), np.array([line["clicked"] for line in chunk], np.float32)


class Clicks:
    """Logistic regression and, with ``dimensions``, a factorization machine of order two (Rendle, ICDM 2010)."""

    def __init__(self, rows: int, fields: int, dimensions: int = 0, rate: float = 0.2, l1: float = 0.0, seed: int = 0) -> None:
        self.features, self.clicked = wyrm.IndexInputNode(fields, name="features"), wyrm.InputNode((1, 1), name="clicked")
        self.weights = wyrm.ParameterNode(np.zeros((rows, 1)), name="weights")
        bias = wyrm.ParameterNode(np.zeros((1, 1)), name="bias")
        self.logit = self.weights.index(self.features).scalar_sum() + bias
        self.optimizers: list[wyrm.optim.Optimizer] = [wyrm.optim.FTRL(rate, [self.weights, bias], l1=l1)]
        if dimensions:
            # FTRL would begin with zeros, where all gradients of products are zero.
            factors = wyrm.ParameterNode(np.random.default_rng(seed).normal(0, 0.1, (rows, dimensions)), name="factors")
            found = factors.index(self.features)
            # The products of all pairs, in time that is linear in the number of fields.
            self.logit = self.logit + (found.sum(axis=0).square() - found.square().sum(axis=0)).scalar_sum() * 0.5
            self.optimizers.append(wyrm.optim.Adagrad(rate, [factors]))
        self.loss = losses.binary_cross_entropy(self.logit, self.clicked)

    def fit(self, chunks, **options) -> float:
        """Go through the stream once; returns the progressive validation loss."""
        stream = ({self.features: features, self.clicked: clicked} for features, clicked in chunks)
        return wyrm.fit(self.loss, stream, self.optimizers, **options).losses[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Logistic regression, or a factorization machine, over a stream of clicks.")
    parser.add_argument("--data", type=Path, help="a CSV file with the column clicked and one for each field")
    parser.add_argument("--model", choices=["linear", "fm"], default="linear")
    parser.add_argument("--dimensions", type=int, default=8, help="of the factorization machine")
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--l1", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    data = FromFile(given.data) if given.data else Generated(pairs=given.model == "fm", seed=given.seed)
    model = Clicks(data.rows, data.fields, given.dimensions if given.model == "fm" else 0, given.rate, given.l1, given.seed)
    print(f"progressive validation loss {model.fit(data):.4f}")
    if isinstance(data, Generated):
        print(f"the least possible          {np.mean(data.least):.4f}")
    if given.l1:
        print(f"{np.mean(model.weights.value != 0):.1%} of the weights are not 0")
