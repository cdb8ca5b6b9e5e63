"""Sequences of items for :mod:`sequence_recommender`: from files, or generated so that the best possible ranking is known."""

import csv

import numpy as np


def generated(num_users: int, num_items: int = 100, length: int = 15, certain: float = 0.8, seed: int = 0):
    """A walk over the items for each user, and the mean reciprocal rank that the last items allow at best.

    Items stand in a circle of random order. With the probability ``certain`` a walk goes on to the next one in the circle,
    unless it has been there; else to any item where it has not been. Nobody can do better than to rank the next one first.
    """
    rng = np.random.default_rng(seed)
    circle = rng.permutation(num_items)
    following = np.empty(num_items, int)
    following[circle] = np.roll(circle, -1)
    walks, best = [], []
    for _ in range(num_users):
        walk = [int(rng.integers(num_items))]
        while len(walk) < length:
            expected = int(following[walk[-1]])
            new = np.setdiff1d(np.arange(num_items), walk)
            known = certain if expected not in walk else 0.0
            walk.append(expected if rng.random() < known else int(rng.choice(new)))
        walks.append(walk)
        best.append(known + (1 - known) * (1 / np.arange(1, len(new) + 1)).mean())
    return walks, float(np.mean(best))


def read(paths):
    """The sequence of each user in each of several CSV files with the columns user_id, item_id and timestamp, and the item ids.

    Sequences are in the order of time, where that is equal in the file's; they hold places in the list of item ids.
    """
    files = []
    for path in paths:
        with open(path, newline="") as file:
            files.append([(row["user_id"], row["item_id"], float(row["timestamp"])) for row in csv.DictReader(file)])
    item_ids = sorted({item for rows in files for _, item, _ in rows})
    number = {item: n for n, item in enumerate(item_ids)}
    sequences = []
    for rows in files:
        users: dict[str, list[int]] = {}
        for user, item, _ in sorted(rows, key=lambda row: row[2]):
            users.setdefault(user, []).append(number[item])
        sequences.append(list(users.values()))
    return sequences, item_ids


def split(sequences, share: float, seed: int):
    """The sequences of some users, and those of the others, who are ``share`` of all."""
    order = np.random.default_rng(seed).permutation(len(sequences))
    held_out = round(share * len(sequences))
    return [sequences[n] for n in order[held_out:]], [sequences[n] for n in order[:held_out]]
