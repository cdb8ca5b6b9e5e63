"""Data of varying structure, and several examples in one run: the same as single examples through graphs of their own."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any

import numpy as np

import wyrm
from wyrm_conformance.check import Context, check


class Sequences:
    """A model of varying structure: a recurrent layer over rows of a table, a bag, real numbers and a class."""

    def __init__(self, seed: int, dtype: str) -> None:
        rng = np.random.default_rng(seed)
        self.table = wyrm.ParameterNode(rng.uniform(-1, 1, (7, 5)), dtype=dtype)
        self.tags = wyrm.ParameterNode(rng.uniform(-1, 1, (4, 6)), dtype=dtype)
        self.lstm = wyrm.nn.lstm.Parameters(5, 3, rng=rng, dtype=dtype)
        self.linear = wyrm.nn.Linear(3, 6, rng=rng, dtype=dtype)
        self.layer = self.lstm.build()
        self.parameters = [self.table, self.tags, *self.lstm.parameters(), *self.linear.parameters()]

    def loss(
        self, words: list[wyrm.IndexInputNode], tags: wyrm.BagInputNode, shift: wyrm.Node, answer: wyrm.IndexInputNode
    ) -> wyrm.Node:
        """A row for each example."""
        logits = self.linear.forward(self.layer.forward([self.table.index(word) for word in words])[-1])
        logits = logits + self.tags.index_mean(tags) + shift
        return wyrm.nn.losses.sparse_categorical_crossentropy(logits, answer, reduction="none")

    def example(self, data: dict[str, Any], e: int, dtype: str) -> wyrm.Node:
        """The loss of an example, as a graph of its own."""
        words = [wyrm.IndexInputNode(1, word) for word in data["words"].to_lists()[e]]
        tags = wyrm.BagInputNode(1, [data["tags"].to_lists()[e]])
        shift = wyrm.InputNode((1, 6), data["shift"][e : e + 1], dtype=dtype)
        return self.loss(words, tags, shift, wyrm.IndexInputNode(1, int(data["answer"][e])))


def _sequences(rng: np.random.Generator, count: int) -> dict[str, Any]:
    return {
        "words": wyrm.Ragged.of([rng.integers(0, 7, rng.integers(1, 5)) for _ in range(count)]),
        "tags": wyrm.Bags.from_lists([rng.integers(0, 4, rng.integers(0, 4)) for _ in range(count)]),
        "shift": rng.uniform(-1, 1, (count, 6)),
        "answer": rng.integers(0, 6, count),
    }


def _check_runs(context: Context, rows: int, batch_size: int) -> None:
    """Train by fit, and by graphs rebuilt for each example, by whose mean gradient steps are made."""
    for dtype in context.dtypes:
        seed, data = int(context.rng.integers(2**31)), _sequences(context.rng, 25)
        fitted, stepped = Sequences(seed, dtype), Sequences(seed, dtype)
        optimizers = [wyrm.optim.SGD(0.05, model.parameters) for model in (fitted, stepped)]
        options: dict[str, Any] = {"rows": rows, "batch_size": batch_size, "shuffle": False, "num_threads": 1}
        history = wyrm.fit(fitted.loss, data, optimizers[0], **options, backend=context.backend)
        runs = []
        for length in np.unique(data["words"].lengths):
            examples = np.flatnonzero(data["words"].lengths == length).tolist()
            runs += [examples[n : n + rows] for n in range(0, len(examples), rows)]
        runs.sort()
        losses = []
        for start in range(0, len(runs), batch_size):
            batch = list(chain.from_iterable(runs[start : start + batch_size]))
            for e in batch:
                loss = stepped.example(data, e, dtype)
                loss.forward(backend=context.backend)
                losses.append(float(loss.value[0, 0]))
                loss.backward(1 / len(batch))
            optimizers[1].step()
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        context.compare(f"mean loss in {dtype}", np.array(history.losses), np.array([np.mean(losses)]), tolerance)
        for a, b in zip(fitted.parameters, stepped.parameters, strict=True):
            context.compare(f"parameter in {dtype}", a.value, b.value, tolerance)


@check("training/structures", "training", "each example goes through the program of its structure; all share the parameters")
def check_structures(context: Context) -> None:
    """Steps of one example, and of several runs."""
    _check_runs(context, rows=1, batch_size=1)
    _check_runs(context, rows=1, batch_size=3)


@check("training/rows", "training", "several examples in one run are as many single ones, also in shorter last runs")
def check_rows(context: Context) -> None:
    """One run a step, and two."""
    _check_runs(context, rows=3, batch_size=1)
    _check_runs(context, rows=2, batch_size=2)


@check("training/ragged", "training", "positions of sequences are read from where they stand, whatever their dtype and shape")
def check_ragged(context: Context) -> None:
    """Evaluated one by one and by rows, against NumPy."""
    for dtype in context.dtypes:
        lengths = context.rng.integers(0, 4, 20)
        offsets = np.concatenate([[0], np.cumsum(lengths)]) + 3  # the first entries belong to nobody
        total = int(offsets[-1]) + 2
        table = wyrm.ParameterNode(context.rng.uniform(-1, 1, (6, 4)), dtype=dtype)
        pairs = context.rng.integers(0, 6, (total, 2))
        reals = context.rng.uniform(-1, 1, (total, 4)).astype(dtype)
        counts = context.rng.integers(0, 9, total).astype(np.int32)
        feed: dict[str, Any] = {
            "bias": context.rng.uniform(-1, 1, (20, 4)),
            "pairs": wyrm.Ragged(pairs.astype(np.int32), offsets),
            "reals": wyrm.Ragged(reals, offsets),
            "counts": wyrm.Ragged(wyrm.Dense(counts), offsets),
        }

        def score(bias: Any, pairs: Any, reals: Any, counts: Any, table: wyrm.ParameterNode = table) -> Any:
            half = bias.shape[0]
            for pair, real, count in zip(pairs, reals, counts, strict=True):
                rows = table.index(pair).reshape(half, 8)
                bias = bias + rows[:, :4] * real + rows[:, 4:] * count
            return bias

        rows = table.value[pairs]
        each = rows[:, 0] * reals + rows[:, 1] * counts[:, None]
        sums = [each[a:b].sum(0) for a, b in pairwise(offsets)]
        for size in (1, 3):
            found = wyrm.evaluate(score, feed, rows=size, dtype=dtype, backend=context.backend)
            context.compare(
                f"sums in {dtype}, {size} a run", found[:, 0], feed["bias"] + sums, 1e-12 if dtype == "float64" else 1e-5
            )


@check(
    "training/sequence_rows",
    "training",
    "a whole sequence is read as the rows of one input, and so are parts of its row numbers",
)
def check_sequence_rows(context: Context) -> None:
    """A step of a recurrent net over whole sequences, and values of several a run, against NumPy."""
    for dtype in context.dtypes:
        rng, tolerance = context.rng, 1e-12 if dtype == "float64" else 1e-5
        lengths = rng.integers(2, 6, 12)
        offsets = np.concatenate([[0], np.cumsum(lengths)]) + 2  # the first entries belong to nobody
        total = int(offsets[-1]) + 1
        items, reals = rng.integers(0, 6, total).astype(np.int32), rng.uniform(-1, 1, (total, 3))
        table = wyrm.ParameterNode(rng.uniform(-1, 1, (6, 3)), dtype=dtype)

        def loss(items: Any, reals: Any, table: wyrm.ParameterNode = table) -> Any:
            def step(state: wyrm.Node, row: wyrm.Node, real: wyrm.Node) -> Any:
                state = 0.5 * state + row * real
                return state, state

            _, states = wyrm.scan(step, np.zeros((1, 3)), (table.index(items[:-1]), reals[1:]))
            return states.vector_dot(table.index(items[1:])).scalar_sum()

        values = np.array(table.value, float)
        expected, gradient = [], np.zeros((6, 3))
        for a, b in pairwise(offsets):
            state, slopes, result = np.zeros(3), np.zeros((6, 3)), 0.0  # slopes: what each row counts for in the state
            for t in range(a, b - 1):
                state, slopes = 0.5 * state + values[items[t]] * reals[t + 1], 0.5 * slopes
                slopes[items[t]] += reals[t + 1]
                result += state @ values[items[t + 1]]
                gradient += slopes * values[items[t + 1]]
                gradient[items[t + 1]] += state
            expected.append(result)
        feed = {"items": wyrm.Ragged(items, offsets, rows=True), "reals": wyrm.Ragged(reals, offsets, rows=True)}
        for size in (1, 3):
            found = wyrm.evaluate(loss, feed, rows=size, dtype=dtype, backend=context.backend)
            context.compare(f"values in {dtype}, {size} a run", found[:, 0, 0], np.array(expected), tolerance)
        optimizer = wyrm.optim.SGD(0.1, [table])
        wyrm.fit(loss, feed, optimizer, batch_size=12, reduction="sum", num_threads=1, backend=context.backend)
        context.compare(f"table in {dtype}", table.value, values - 0.1 * gradient, tolerance)
