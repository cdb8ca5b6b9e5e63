"""Sweeps: what a step costs by the size of a table, the length of a sequence, the size of a graph and the examples in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import by_hand, data, models
from benchmarks.by_fit import Fit
from benchmarks.by_hand import ByHand
from benchmarks.c_loops import FAST, function
from benchmarks.competitor import Competitor
from benchmarks.from_python import Driven
from benchmarks.measuring import Settings, measure
from benchmarks.results import Point
from benchmarks.workloads import Workload

__all__ = ["SWEEPS", "Sweep", "run_sweep"]

Makers = list[Callable[[], Competitor]]


@dataclass(frozen=True)
class Sweep:
    """One quantity, at several values.

    Attributes
    ----------
    entrants
        For a value and backends: what is trained, and makers of who takes part.
    """

    key: str
    title: str
    axis: str
    unit: str
    values: tuple[int, ...]
    entrants: Callable[[int, Sequence[str]], tuple[Workload, Makers]]


def _tables(rows: int, backends: Sequence[str]) -> tuple[Workload, Makers]:
    workload = Workload("table", f"factorization, {rows:,} rows", "step", 1_000_000, 100)
    values = data.tables_of(rows, 1000)
    return workload, [
        lambda: ByHand(
            workload,
            "C by hand, -ffast-math",
            function("factorization", "factorization", FAST),
            make=lambda: by_hand.factorization(values),
        ),
        *(lambda b=b: Fit(workload, b, lambda: models.factorization(values)) for b in backends),
        *(lambda b=b: Driven(workload, b, lambda: models.factorization(values)) for b in backends),
    ]


def _lengths(length: int, backends: Sequence[str]) -> tuple[Workload, Makers]:
    workload = Workload("length", f"LSTM, {length} tokens", "step", 200_000, 50)
    lengths = np.full(len(data.first().lengths), length, np.int32)
    return workload, [
        lambda: ByHand(
            workload, "C by hand, -ffast-math", function("lstm", "lstm", FAST), make=lambda: by_hand.sequences(lengths)
        ),
        *(lambda b=b: Fit(workload, b, lambda: models.lstm(length)) for b in backends),
        *(lambda b=b: Driven(workload, b, lambda: models.lstm(length)) for b in backends),
    ]


def _graphs(nodes: int, backends: Sequence[str]) -> tuple[Workload, Makers]:
    workload = Workload("graph", f"{nodes} nodes", "step", 100_000, 50)
    return workload, [
        *(lambda b=b: Fit(workload, b, lambda: models.chain(nodes)) for b in backends),
        *(lambda b=b: Driven(workload, b, lambda: models.chain(nodes)) for b in backends),
    ]


def _rows(rows: int, backends: Sequence[str]) -> tuple[Workload, Makers]:
    total = data.batches().y.size
    workload = Workload("rows", f"perceptron, {rows} examples a step", "example", total // rows, 20, examples=rows)
    return workload, [
        *(lambda b=b: Fit(workload, b, lambda: models.perceptron(rows)) for b in backends),
        *(lambda b=b: Driven(workload, b, lambda: models.perceptron(rows)) for b in backends),
    ]


#: In the order of the report.
SWEEPS = (
    Sweep("table", "Size of a table: factorization, rows of 32", "rows", "step", (10**3, 10**4, 10**5, 10**6), _tables),
    Sweep("length", "Length of the sequences: LSTM", "tokens", "step", (2, 5, 10, 20), _lengths),
    Sweep("graph", "Size of the graph: additions and products of numbers", "nodes", "step", (1, 10, 100, 1000), _graphs),
    Sweep("rows", "Examples in a step: perceptron 64 → 64 → 1", "examples in a step", "example", (1, 4, 16, 64, 256), _rows),
)


def run_sweep(sweep: Sweep, backends: Sequence[str], settings: Settings, say: Callable[[str], object]) -> list[Point]:
    """Measure at each value."""
    points = []
    for value in sweep.values:
        entries = measure(*sweep.entrants(value, backends), settings, say)
        points += [Point(sweep.key, value, entry) for entry in entries]
    return points
