"""Ratings: read from a CSV file, or generated so that the best possible error is known."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: The columns that a file must have; others, such as ``timestamp``, are not used.
COLUMNS = ("user_id", "item_id", "rating")
#: The part of the ratings that is held out.
HELD_OUT = 0.1


class RatingsError(Exception):
    """A file that cannot be used, with what is wrong and where."""


@dataclass(frozen=True)
class Ratings:
    """Who rated what, and how.

    Attributes
    ----------
    users, items
        Row numbers, from 0.
    values
        The ratings.
    num_users, num_items
        How many of each there are.
    expected
        Where the ratings were generated, what they would be without noise: the best possible predictions.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    num_users: int
    num_items: int
    expected: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def split(self, seed: int) -> tuple[Ratings, Ratings]:
        """A random part for training, and the rest, held out."""
        order = np.random.default_rng(seed).permutation(len(self))
        cut = max(1, round(len(self) * HELD_OUT))
        return self._part(order[cut:]), self._part(order[:cut])

    def _part(self, rows: np.ndarray) -> Ratings:
        expected = None if self.expected is None else self.expected[rows]
        return Ratings(self.users[rows], self.items[rows], self.values[rows], self.num_users, self.num_items, expected)

    def rmse(self, predictions: np.ndarray) -> float:
        """The root of the mean squared error of predictions."""
        return math.sqrt(float(np.mean(np.square(predictions - self.values, dtype=np.float64))))

    @property
    def best_rmse(self) -> float | None:
        """The error of the best possible predictions, where these are known."""
        return None if self.expected is None else self.rmse(self.expected)


def generate_ratings(count: int = 60_000, num_users: int = 600, num_items: int = 900, seed: int = 0) -> Ratings:
    """Ratings by users and items with biases and four hidden traits, plus noise of standard deviation 0.5."""
    rng = np.random.default_rng(seed)
    user_traits, item_traits = rng.normal(0, 0.6, (num_users, 4)), rng.normal(0, 0.6, (num_items, 4))
    user_bias, item_bias = rng.normal(0, 0.4, num_users), rng.normal(0, 0.4, num_items)
    pairs = rng.choice(num_users * num_items, count, replace=False)  # nobody rates anything twice
    users, items = np.divmod(pairs, num_items)
    expected = 3.5 + user_bias[users] + item_bias[items] + np.sum(user_traits[users] * item_traits[items], axis=1)
    values = expected + rng.normal(0, 0.5, count)
    return Ratings(users, items, values, num_users, num_items, expected)


def read_ratings(path: str | Path) -> Ratings:
    """Ratings from a CSV file with a header that names ``user_id``, ``item_id`` and ``rating``; ids may be anything.

    Raises
    ------
    RatingsError
        Naming the line, the column and what stands there.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    rows: list[tuple[int, int, float]] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for user, item, value in _lines(path, csv.reader(file, strict=True)):
                rows.append((users.setdefault(user, len(users)), items.setdefault(item, len(items)), value))
    except OSError as error:
        raise RatingsError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RatingsError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from None
    if len(rows) < 2:
        raise RatingsError(f"{path}: there must be at least two ratings, one to train on and one to hold out; got {len(rows)}")
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Ratings(columns[0], columns[1], columns[2], len(users), len(items))


def _lines(path: str | Path, reader: Iterator[list[str]]) -> Iterator[tuple[str, str, float]]:
    """User, item and rating of each line."""
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise RatingsError(f"{path}: the file is empty; expected a header with {', '.join(COLUMNS)}")
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise RatingsError(f"{path}, line 1: the header lacks {', '.join(missing)}; it is {','.join(header)!r}")
        places = [header.index(name) for name in COLUMNS]
        for fields in reader:
            if fields:
                yield _fields(f"{path}, line {reader.line_num}", header, fields, places)  # type: ignore[attr-defined]
    except csv.Error as error:
        raise RatingsError(f"{path}, line {reader.line_num}: {error}") from None  # type: ignore[attr-defined]


def _fields(where: str, header: list[str], fields: list[str], places: list[int]) -> tuple[str, str, float]:
    if len(fields) != len(header):
        text = ",".join(fields)
        raise RatingsError(f"{where}: expected {len(header)} columns ({', '.join(header)}), got {len(fields)}: {text!r}")
    user, item, rating = (fields[place].strip() for place in places)
    for name, value in (("user_id", user), ("item_id", item)):
        if not value:
            raise RatingsError(f"{where}, column {name}: expected an id, got nothing")
    try:
        value = float(rating)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RatingsError(f"{where}, column rating: expected a number, got {rating!r}")
    return user, item, value
