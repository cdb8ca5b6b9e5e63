"""A recommender from what users have chosen: factorization with side features, trained by BPR or WARP.

The hybrid model of Kula (2015): a user is the sum of the embeddings of their features, an item likewise, and each has one
feature that is its own; the score of a pair is the product of the two, plus the item's bias. (A user's bias would be in both
scores of every comparison, and change nothing.) Users come as bags. Items are looked up by number, so that negatives can be
drawn in native code; their further features are rows of a fixed table, which few features, such as genres, are short enough
for.

    python factorization_recommender.py [--loss warp|bpr] [--data ratings.csv] [--at-least 4]

The file has the columns user_id, item_id and rating; without one, data are generated whose best possible ranking is known.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import wyrm
from wyrm import nn


@dataclass
class Choices:
    """Pairs of users and items to train with, and others to test with; features by item; the scores that data were drawn by."""

    train: np.ndarray  # (pairs, 2)
    test: np.ndarray
    shape: tuple[int, int]
    tags: np.ndarray | None = None  # (items, features)
    truth: np.ndarray | None = None  # (users, items)


def generated(users: int = 400, items: int = 300, each: int = 30, seed: int = 0) -> Choices:
    """Items of eight genres; each user chooses ``each`` of them, with probabilities that are a softmax of true scores."""
    rng = np.random.default_rng(seed)
    genre = rng.integers(0, 8, items)
    taste = rng.standard_normal((users, 6))
    truth = taste @ (rng.standard_normal((8, 6))[genre] + 0.5 * rng.standard_normal((items, 6))).T
    truth += rng.standard_normal(items)  # some are popular with all
    chosen = np.argsort(-(truth + rng.gumbel(size=truth.shape)), axis=1)[:, :each]
    pairs = np.stack([np.repeat(np.arange(users), each), chosen.reshape(-1)], axis=1)
    return Choices(*split(pairs, rng), (users, items), np.eye(8)[genre], truth)


def from_file(path: Path, at_least: float, seed: int) -> Choices:
    with open(path, newline="") as file:
        rows = [(r["user_id"], r["item_id"]) for r in csv.DictReader(file) if float(r["rating"]) >= at_least]
    codes = [np.unique(column, return_inverse=True)[1] for column in zip(*rows, strict=True)]
    pairs = np.unique(np.stack(codes, axis=1), axis=0)
    return Choices(*split(pairs, np.random.default_rng(seed)), (int(pairs[:, 0].max()) + 1, int(pairs[:, 1].max()) + 1))


def split(pairs: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random fifth is for testing."""
    order = rng.permutation(len(pairs))
    return pairs[order[len(pairs) // 5 :]], pairs[order[: len(pairs) // 5]]


class Recommender:
    """The model, and what it takes to train it."""

    def __init__(
        self, choices: Choices, loss: str = "warp", dimensions: int = 16, rate: float = 0.05, l2: float = 0.0, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        num_users, num_items = choices.shape
        self.choices = choices

        def embedding(rows: int, name: str) -> wyrm.ParameterNode:
            return wyrm.ParameterNode(nn.uniform(rows, dimensions, -0.5 / dimensions, 0.5 / dimensions, rng), name=name)

        self.users, self.items = embedding(num_users, "users"), embedding(num_items, "items")
        self.biases = wyrm.ParameterNode(np.zeros((num_items, 1)), name="biases")
        self.has = self.tags = None
        if choices.tags is not None:
            self.has = wyrm.ParameterNode(choices.tags, name="features by item", trainable=False)
            self.tags = embedding(choices.tags.shape[1], "tags")

        self.user, self.item = wyrm.BagInputNode(name="user's features"), wyrm.IndexInputNode(name="item")
        self.seen = wyrm.BagInputNode(name="what the user has chosen")
        negative = wyrm.SampledIndexNode(num_items, exclude=self.seen)
        self.user_row = self.users.index_sum(self.user)
        self.item_row, self.bias = self.item_of(self.item)
        other_row, other_bias = self.item_of(negative)
        scores = self.user_row.vector_dot(self.item_row) + self.bias, self.user_row.vector_dot(other_row) + other_bias
        if loss == "warp":
            self.loss = nn.losses.warp(*scores, negative, tries=10)
        else:
            self.loss = nn.losses.bpr(*scores)
        self.optimizer = wyrm.optim.Adagrad(rate, self.loss.parameters(), initial_accumulator_value=1.0, l2=l2)

    def item_of(self, index):
        """The representation and the bias of an item."""
        row = self.items.index(index)
        if self.tags is not None:
            row = row + self.has.index(index).dot(self.tags)
        return row, self.biases.index(index)

    def features(self, users: np.ndarray) -> wyrm.Bags:
        """The bags of users: here only the feature that is their own. Further ones are further rows of the table."""
        numbers = np.arange(self.choices.shape[0] + 1)
        return wyrm.Bags(numbers[:-1], numbers).take(users)

    def fit(self, num_epochs: int, **options) -> wyrm.History:
        """Train; the options are those of :func:`wyrm.fit`."""
        users, items = self.choices.train.T
        chosen = items[np.argsort(users, kind="stable")].astype(np.int32)
        seen = wyrm.Bags(chosen, np.cumsum([0, *np.bincount(users, minlength=self.choices.shape[0])]))
        feed = {self.user: self.features(users), self.item: items, self.seen: seen.take(users)}
        return wyrm.fit(self.loss, feed, self.optimizer, num_epochs=num_epochs, **options)

    def scores(self, backend: str | None = None) -> np.ndarray:
        """Of every user for every item."""
        users, items = (np.arange(number) for number in self.choices.shape)
        rows = wyrm.evaluate(self.user_row, {self.user: self.features(users)}, backend=backend)[:, 0]
        others, biases = wyrm.evaluate([self.item_row, self.bias], {self.item: items}, backend=backend)
        return rows @ others[:, 0].T + biases[:, 0, 0]


def ranked(scores: np.ndarray, choices: Choices, k: int = 10) -> tuple[float, float]:
    """Precision at ``k`` and AUC, means over the users with something to test; what they were trained with is not ranked."""
    relevant, known = (np.zeros(choices.shape, bool) for _ in range(2))
    relevant[tuple(choices.test.T)] = known[tuple(choices.train.T)] = True
    scores = np.where(known, -np.inf, scores)
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    precision = np.take_along_axis(relevant, best, axis=1).mean(axis=1)
    ranks = scores.argsort(axis=1).argsort(axis=1) - known.sum(axis=1, keepdims=True)  # 0 for the worst that is not known
    positives, others = relevant.sum(axis=1), (~relevant & ~known).sum(axis=1)
    tested = (positives > 0) & (others > 0)
    above = (ranks * relevant).sum(axis=1) - positives * (positives - 1) / 2
    return float(precision[tested].mean()), float((above[tested] / (positives * others)[tested]).mean())


def popular(choices: Choices) -> np.ndarray:
    """What anybody can do: the same items for all, those that most have chosen."""
    counts = np.bincount(choices.train[:, 1], minlength=choices.shape[1])
    return np.broadcast_to(counts.astype(float), choices.shape)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Factorization for implicit feedback, by BPR or WARP.")
    parser.add_argument("--data", type=Path, help="a CSV file with the columns user_id, item_id and rating")
    parser.add_argument("--at-least", type=float, default=4.0, help="the rating from which an item counts as chosen")
    parser.add_argument("--loss", choices=["warp", "bpr"], default="warp")
    parser.add_argument("--dimensions", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--l2", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    data = from_file(given.data, given.at_least, given.seed) if given.data else generated(seed=given.seed)
    model = Recommender(data, given.loss, given.dimensions, given.rate, given.l2, given.seed)
    history = model.fit(given.epochs)
    print(f"{history[-1].examples_per_second:,.0f} examples a second")
    for name, table in {given.loss: model.scores(), "popularity": popular(data), "the best possible": data.truth}.items():
        if table is not None:
            print("{}: precision@10 {:.3f}, AUC {:.3f}".format(name, *ranked(table, data)))
