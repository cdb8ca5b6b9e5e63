"""The data of the workloads, as docs/design.md defines them: drawn anew in each process, the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "CLASSES",
    "DIMENSION",
    "HIDDEN",
    "ITEMS",
    "LONGEST",
    "USERS",
    "Factorization",
    "First",
    "LSTMValues",
    "bags",
    "batches",
    "first",
    "large_factorization",
    "skip_gram",
    "tables_of",
    "word_frequencies",
]

Array = npt.NDArray[Any]

USERS, ITEMS, DIMENSION = 943, 1682, 32
CLASSES, EMBEDDED, HIDDEN, LONGEST = 10, 16, 32, 20


@dataclass(frozen=True)
class Factorization:
    """Who rated what, and the tables that training begins with."""

    users: Array
    items: Array
    ratings: Array
    user_table: Array
    item_table: Array


@dataclass(frozen=True)
class LSTMValues:
    """What training of the LSTM begins with: gates in the columns, f, i, o, g; in the rows the hidden state, then the input."""

    embedding: Array
    weights: Array
    biases: Array
    output_weights: Array
    output_biases: Array


@dataclass(frozen=True)
class First:
    """The data of W1 to W4, which are drawn together."""

    x: Array
    y: Array
    factorization: Factorization
    sequences: Array
    lengths: Array
    lstm: LSTMValues


@cache
def first() -> First:
    """W1 to W4, in the order in which they are drawn."""
    rng = np.random.default_rng(7)
    x = rng.uniform(-1, 1, 1_000_000).astype(np.float32)
    y = (3 * x + 5 + 0.1 * rng.standard_normal(1_000_000)).astype(np.float32)
    factorization = _factorization(rng, 1_000_000, USERS, ITEMS)
    start, step = rng.integers(0, 10, 200_000), rng.integers(1, 5, 200_000)
    sequences = ((start[:, None] + step[:, None] * np.arange(LONGEST + 1)) % 10).astype(np.int32)
    lengths = rng.integers(2, LONGEST + 1, 200_000).astype(np.int32)
    embedding = rng.standard_normal((CLASSES, EMBEDDED)).astype(np.float32)
    bound = 1 / np.sqrt(HIDDEN)

    def within_bound(*shape: int) -> Array:
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    gates = within_bound(4, HIDDEN + EMBEDDED, HIDDEN)
    lstm = LSTMValues(
        embedding,
        np.ascontiguousarray(gates.transpose(1, 0, 2).reshape(HIDDEN + EMBEDDED, 4 * HIDDEN)),
        within_bound(1, 4 * HIDDEN),
        within_bound(HIDDEN, CLASSES),
        within_bound(1, CLASSES),
    )
    return First(x, y, factorization, sequences, lengths, lstm)


def _factorization(rng: np.random.Generator, count: int, users: int, items: int) -> Factorization:
    return Factorization(
        rng.integers(0, users, count).astype(np.int32),
        rng.integers(0, items, count).astype(np.int32),
        rng.integers(1, 6, count).astype(np.float32),
        (0.3 * rng.standard_normal((users, DIMENSION))).astype(np.float32),
        (0.3 * rng.standard_normal((items, DIMENSION))).astype(np.float32),
    )


@cache
def large_factorization() -> Factorization:
    """W5: tables that no cache holds."""
    return tables_of(500_000, 100_000)


def tables_of(users: int, items: int) -> Factorization:
    """A million ratings for tables of these sizes."""
    return _factorization(np.random.default_rng(8), 1_000_000, users, items)


@dataclass(frozen=True)
class SkipGram:
    """Pairs of words that met, words that did not, and the tables that training begins with."""

    centers: Array
    contexts: Array
    negatives: Array
    word_table: Array
    context_table: Array


def word_frequencies() -> Array:
    """How often each of 100,000 words occurs, in proportion: Zipf's law."""
    words: Array = 1 / (np.arange(100_000) + 2.7)
    return words


@cache
def skip_gram() -> SkipGram:
    """W6: words by frequency; negatives by the 3/4th power of their frequency, as word2vec draws them."""
    rng = np.random.default_rng(9)
    frequency, dimension, count = word_frequencies(), 64, 200_000
    vocabulary = len(frequency)

    def words(weights: Array, *shape: int) -> Array:
        bounds = np.cumsum(weights)
        return np.searchsorted(bounds, rng.random(shape) * bounds[-1]).astype(np.int32)

    sentences = words(frequency, count // 2, 2)  # of two words, each of which is the other's context
    negatives = words(frequency**0.75, count, 5)
    return SkipGram(
        np.ascontiguousarray(sentences.reshape(-1)),
        np.ascontiguousarray(sentences[:, ::-1].reshape(-1)),
        negatives,
        ((rng.random((vocabulary, dimension)) - 0.5) / dimension).astype(np.float32),
        np.zeros((vocabulary, dimension), np.float32),
    )


@dataclass(frozen=True)
class Clicks:
    """Features of events, as bags, and whether each was clicked."""

    features: int
    values: Array
    offsets: Array
    clicked: Array


@cache
def bags() -> Clicks:
    """W7: 5 to 50 of a million features an event, few of them common; a hidden weight of each decides."""
    rng = np.random.default_rng(10)
    features, count = 1_000_000, 40_000
    lengths = rng.integers(5, 51, count)
    owner = np.repeat(np.arange(count), lengths)
    skewed = (features * rng.random(len(owner)) ** 4).astype(np.int64)
    owner, values = np.divmod(np.unique(owner * features + skewed), features)  # none twice in an event
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
    scores = np.add.reduceat(rng.standard_normal(features)[values], offsets[:-1]) / 3
    clicked = (rng.random(count) < 1 / (1 + np.exp(-scores))).astype(np.float32)
    return Clicks(features, values.astype(np.int32), offsets.astype(np.int64), clicked)


@dataclass(frozen=True)
class Batches:
    """Mini-batches of one regression, and what training of the perceptron begins with."""

    x: Array
    y: Array
    hidden_weights: Array
    hidden_biases: Array
    output_weights: Array
    output_biases: Array


@cache
def batches() -> Batches:
    """W8: 64 numbers decide one, by way of 64 hidden ones."""
    rng = np.random.default_rng(11)
    count, rows, width = 100, 256, 64
    x = rng.standard_normal((count, rows, width), np.float32)
    teacher = rng.standard_normal((width, 1), np.float32) / np.float32(8)
    return Batches(
        x,
        np.abs(x @ teacher),
        rng.uniform(-0.125, 0.125, (width, width)).astype(np.float32),
        rng.uniform(-0.125, 0.125, (1, width)).astype(np.float32),
        rng.uniform(-0.125, 0.125, (width, 1)).astype(np.float32),
        np.zeros((1, 1), np.float32),
    )
