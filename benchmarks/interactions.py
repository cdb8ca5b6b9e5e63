"""What the recommenders of sequences are trained on: who chose which items, in the order of time.

The file of ``$RATINGS``, if there is one: CSV with the columns ``user_id``, ``item_id`` and ``timestamp``. Else as many users,
items and interactions as MovieLens 100K has, generated; what is timed hardly depends on which items they are.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["VARIABLE", "Interactions", "interactions"]

#: The environment variable that names a file of ratings; processes that are started see it, too.
VARIABLE = "RATINGS"


@dataclass(frozen=True)
class Interactions:
    """Users and items by number, one entry for each interaction."""

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return int(self.items.max()) + 1

    def sequences(self) -> list[list[int]]:
        """The items of each user."""
        order = np.argsort(self.users, kind="stable")
        ends = np.cumsum(np.bincount(self.users))[:-1]
        return [part.tolist() for part in np.split(self.items[order], ends)]


@cache
def interactions() -> Interactions:
    """From the file, or generated."""
    path = os.environ.get(VARIABLE)
    return _read(path) if path else _generated()


def _read(path: str) -> Interactions:
    with open(path, newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["timestamp"]))
    return Interactions(_numbers([row["user_id"] for row in rows]), _numbers([row["item_id"] for row in rows]))


def _numbers(names: list[str]) -> npt.NDArray[Any]:
    return np.unique(names, return_inverse=True)[1].astype(np.int32)


def _generated() -> Interactions:
    rng = np.random.default_rng(12)
    users, items, most = 943, 1682, 737
    lengths = np.clip(np.exp(rng.normal(4.2, 0.95, users)), 20, most).astype(int)
    popularity = np.cumsum(1 / (np.arange(items) + 20))
    chosen = np.searchsorted(popularity, rng.random(lengths.sum()) * popularity[-1])
    chosen[0] = items - 1  # so that all items are counted
    return Interactions(np.repeat(np.arange(users), lengths).astype(np.int32), chosen.astype(np.int32))
