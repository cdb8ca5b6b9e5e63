"""Loops written by hand, in any language: a function of arrays, the same for all of them.

Such a function takes the parameters, which it updates in place, then the data, and the first and the last example (exclusive),
and returns the sum of the losses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import data
from benchmarks.competitor import Competitor
from benchmarks.workloads import Workload
from wyrm.memory import aligned

__all__ = ["ARGUMENTS", "ByHand", "Function", "factorization", "sequences"]

Array = npt.NDArray[Any]
Function = Callable[..., float]
#: Parameters, which are copied, and data, which are not.
Arguments = tuple[list[Array], list[Array]]


class ByHand(Competitor):
    """A function over arrays: those of its workload, unless ``make`` makes others (parameters and data)."""

    def __init__(
        self, workload: Workload, name: str, function: Function, threads: int = 1, make: Callable[[], Arguments] | None = None
    ) -> None:
        super().__init__(workload, name, threads)
        self._function = function
        self._make = make or ARGUMENTS[workload.key]
        self._arrays = self._copies()

    def first_losses(self) -> float:
        return float(self._function(*self._copies(), 0, self.workload.checked))

    def run(self, start: int, stop: int) -> None:
        self._function(*self._arrays, start, stop)

    def _copies(self) -> list[Array]:
        """The arrays, with copies of the parameters."""
        parameters, constant = self._make()
        copies = []
        for parameter in parameters:
            copy = aligned(parameter.shape, parameter.dtype)
            copy[...] = parameter
            copies.append(copy)
        return [*copies, *constant]


def _regression() -> Arguments:
    first = data.first()
    return [np.zeros(2, np.float32)], [first.x, first.y]


def factorization(values: data.Factorization) -> Arguments:
    return [values.user_table, values.item_table], [values.users, values.items, values.ratings]


def sequences(*lengths: Array) -> Arguments:
    first = data.first()
    lstm = first.lstm
    parameters = [lstm.embedding, lstm.weights, lstm.biases, lstm.output_weights, lstm.output_biases]
    return parameters, [first.sequences, *lengths]


def _skip_gram() -> Arguments:
    values = data.skip_gram()
    return [values.word_table, values.context_table], [values.centers, values.contexts, values.negatives]


def _clicks() -> Arguments:
    values = data.bags()
    zeros = [np.zeros(values.features, np.float32)] * 3  # the weights, and FTRL's z and n
    return zeros, [values.values, values.offsets, values.clicked]


def _batches() -> Arguments:
    values = data.batches()
    parameters = [values.hidden_weights, values.hidden_biases, values.output_weights, values.output_biases]
    return parameters, [values.x, values.y]


#: By workload.
ARGUMENTS: dict[str, Callable[[], Arguments]] = {
    "w1": _regression,
    "w2": lambda: factorization(data.first().factorization),
    "w3": sequences,
    "w4": lambda: sequences(data.first().lengths),
    "w5": lambda: factorization(data.first().factorization),
    "w5-large": lambda: factorization(data.large_factorization()),
    "w6": _skip_gram,
    "w7": _clicks,
    "w8": _batches,
}
