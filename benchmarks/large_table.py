"""A table of gigabytes: what memory training on it takes, beyond the table itself, and what a step costs.

The table has rows of 32 numbers and is adopted, not copied. Memory is measured in processes of their own: the most that a
process had, less what it had before there was the table, after steps on a small table of the same width. As many steps are
made as it takes to touch every page of the table, so that the optimizer's state is there as a whole, too. The cost of a step is
compared with C by hand over the very same table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

import wyrm
from benchmarks import data
from benchmarks.by_fit import Fit
from benchmarks.by_hand import ByHand, factorization
from benchmarks.c_loops import AHEAD, FAST, function
from benchmarks.competitor import Competitor, NotHereError
from benchmarks.fresh import run_fresh
from benchmarks.models import Model
from benchmarks.results import Memory
from benchmarks.workloads import Workload
from wyrm.memory import aligned
from wyrm.optim import SGD, Adagrad, Optimizer, RowwiseAdagrad

__all__ = ["ROWS", "competitors", "measure_memory", "workload"]

Array = npt.NDArray[Any]
#: Where nothing else is asked for.
ROWS = 10_000_000
#: Rows of 32 numbers on a page of memory.
_ON_A_PAGE = 4096 // (4 * data.DIMENSION)
_OPTIMIZERS: dict[str, Callable[[list[wyrm.ParameterNode]], Optimizer]] = {
    "SGD": lambda parameters: SGD(0.01, parameters),
    "Adagrad": lambda parameters: Adagrad(0.01, parameters),
    "row-wise Adagrad": lambda parameters: RowwiseAdagrad(0.01, parameters),
}
_CASES = (("SGD", 1), ("SGD", 2), ("Adagrad", 1), ("row-wise Adagrad", 1))


def workload(rows: int) -> Workload:
    """Ratings by users of whom there are so many, in random order."""
    return Workload("large", f"factorization, tables of {rows:,} and {data.ITEMS:,} rows of 32, SGD", "step", 1_000_000, 1000)


# -- memory


def measure_memory(rows: int, backends: Sequence[str]) -> list[Memory]:
    """For each backend and optimizer, one thread and two."""
    _check_room(rows, 2.5)
    return [
        Memory(backend, optimizer, threads, rows * data.DIMENSION * 4, *run_fresh(__name__, rows, backend, optimizer, threads))
        for backend in backends
        for optimizer, threads in _CASES
    ]


def _growth(rows: int, backend: str, optimizer: str, threads: int) -> int:
    """Bytes that training on a table of so many rows takes."""
    rng = np.random.default_rng(14)
    users = rng.permutation(np.arange(0, rows, _ON_A_PAGE, np.int32))
    ratings = np.full(len(users), 0.5, np.float32)
    _train(np.zeros((1000, data.DIMENSION), np.float32), users % 1000, ratings, backend, optimizer, threads)
    before = _memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the most that there was
    table = aligned((rows, data.DIMENSION), np.float32, 0.01)
    _train(table, users, ratings, backend, optimizer, threads)
    return _memory("VmHWM") - before


def _train(table: Array, users: Array, ratings: Array, backend: str, optimizer: str, threads: int) -> None:
    node, user, rating = wyrm.ParameterNode(table, copy=False), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    loss = (node.index(user).scalar_sum() - rating).square()
    rule = _OPTIMIZERS[optimizer]([node])
    options = {"schedule": "hogwild"} if threads > 1 else {}
    wyrm.fit(loss, {user: users, rating: ratings}, rule, num_threads=threads, backend=backend, progress=False, **options)


def _memory(key: str) -> int:
    """Bytes, by a key of Linux's description of the process."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))
    except OSError:
        raise NotHereError("memory is measured on Linux alone") from None


def _check_room(rows: int, tables: float) -> None:
    needed = tables * rows * data.DIMENSION * 4
    try:
        with open("/proc/meminfo") as file:
            free = next(1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    except OSError:
        raise NotHereError("memory is measured on Linux alone") from None
    if free < needed:
        raise NotHereError(f"a table of {rows:,} rows takes {needed / 1e9:.1f} GB of free memory; there are {free / 1e9:.1f}")


# -- the cost of a step


class _OnTheTable(ByHand):
    """By hand, over the table as it stands, which is not copied."""

    def _copies(self) -> list[Array]:
        parameters, constant = self._make()
        return [*parameters, *constant]


def competitors(rows: int, backends: Sequence[str]) -> list[Callable[[], Competitor]]:
    """C by hand, which prefetches as the C backend does, and by ``fit``; all train one table."""
    _check_room(rows, 1.5)
    large = workload(rows)

    @cache
    def values() -> data.Factorization:
        rng = np.random.default_rng(13)
        count, table = large.epoch, aligned((rows, data.DIMENSION), np.float32, None)
        rng.random(out=table, dtype=np.float32)
        items = rng.random((data.ITEMS, data.DIMENSION), np.float32)
        users = rng.integers(0, rows, count).astype(np.int32)
        return data.Factorization(
            users, rng.integers(0, data.ITEMS, count).astype(np.int32), np.full(count, 8, np.float32), table, items
        )

    @cache
    def first_rows() -> tuple[Array, Array]:
        users = values().users[: large.checked]
        return values().user_table[users], values().item_table.copy()

    def fresh() -> data.Factorization:
        """The values, with those rows as they were that the first losses are computed from."""
        users, items = first_rows()
        values().user_table[values().users[: large.checked]] = users
        values().item_table[...] = items
        return values()

    def model() -> Model:
        found = fresh()
        user_table, item_table = (wyrm.ParameterNode(table, copy=False) for table in (found.user_table, found.item_table))
        user, item, rating = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
        loss = (user_table.index(user).vector_dot(item_table.index(item)) - rating).square()
        feed = {user: found.users, item: found.items, rating: found.ratings}
        return Model(loss, SGD(0.01, loss.parameters()), feed)

    def by_hand(ahead: int) -> ByHand:
        name = "C by hand, -ffast-math" + (", prefetching" if ahead else "")
        call = function("hogwild", "hogwild", FAST, 1, ahead)
        return _OnTheTable(large, name, call, make=lambda: factorization(fresh()))

    return [
        lambda: by_hand(AHEAD),
        lambda: by_hand(0),
        *(lambda b=b: Fit(large, b, model) for b in backends),
    ]


if __name__ == "__main__":
    print(json.dumps(_growth(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))))
