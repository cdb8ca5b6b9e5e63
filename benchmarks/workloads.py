"""The workloads: what is trained, what one unit of work is, and how to tell that two programs do the same."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import data

__all__ = ["WORKLOADS", "Workload"]


@dataclass(frozen=True)
class Workload:
    """One thing to train.

    Attributes
    ----------
    key
        By which it is chosen.
    title
        What it is, in a line.
    unit
        What throughput counts.
    epoch
        How many examples there are: a step is made for each.
    checked
        How many of the first losses are summed for comparison.
    checksum
        That sum; ``None``: whatever the first competitor computes.
    threads
        Whether it is run on several threads, too.
    longer
        How many times as long as others' its turns are.
    rounds
        How many at most, where a turn takes long.
    examples
        How many a step has, where the unit is the example.
    """

    key: str
    title: str
    unit: str
    epoch: int
    checked: int
    checksum: float | None = None
    threads: bool = False
    longer: int = 1
    rounds: int = 1000
    examples: int = 1

    def units(self, start: int, stop: int) -> int:
        """The units of work in the examples from ``start`` to ``stop``."""
        return int(data.first().lengths[start:stop].sum()) if self.unit == "token" else (stop - start) * self.examples


#: By key, in the order of the report.
WORKLOADS = {
    workload.key: workload
    for workload in (
        Workload("w1", "linear regression, SGD", "step", 1_000_000, 1000, 109.023),
        Workload("w2", "factorization, tables 943 × 32 and 1,682 × 32, row-sparse SGD", "step", 1_000_000, 1000, 11_991.2),
        Workload("w3", "LSTM over four tokens, cross-entropy, SGD", "step", 200_000, 200, 444.386),
        Workload("w4", "the same, 2 to 20 tokens", "token", 200_000, 200, 454.145),
        Workload("w5", "Hogwild factorization, tables as in W2", "step", 1_000_000, 1000, 11_991.2, threads=True, longer=5),
        Workload(
            "w5-large",
            "Hogwild factorization, 500,000 and 100,000 rows of 32",
            "step",
            1_000_000,
            1000,
            threads=True,
            longer=5,
            rounds=5,
        ),
        Workload("w6", "skip-gram, 100,000 words × 64, five negatives, SGD", "pair", 200_000, 1000),
        Workload("w7", "logistic regression over bags of a million features, FTRL", "step", 40_000, 500),
        Workload("w8", "perceptron 64 → 64 → 1, batches of 256 rows, SGD", "batch", 100, 50),
        Workload(
            "lstm-hinge", "recommender of sequences of up to 128 items, LSTM, hinge loss, Adagrad", "epoch", 10, 1, rounds=3
        ),
        Workload("lstm-warp", "the same of up to 32 items, WARP", "epoch", 10, 1, rounds=3),
        Workload("ewma-hinge", "the same of up to 128 items, moving average, hinge loss", "epoch", 10, 1, rounds=3),
        Workload("ewma-warp", "the same, WARP", "epoch", 10, 1, rounds=3),
    )
}
