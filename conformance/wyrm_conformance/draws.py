"""Numbers that are drawn: the same on every backend, drawn again as long as they should be, and in runs as in steps."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np

import wyrm
from wyrm.leaves import Leaves
from wyrm.memory import Memory
from wyrm.optim import SGD
from wyrm.philox import draw
from wyrm.program import Buffer, Instruction, Program, Slot
from wyrm_conformance.check import Array, Context, check


def table_of_numbers(rows: int, dtype: str) -> wyrm.ParameterNode:
    """A table in which each row holds its number."""
    return wyrm.ParameterNode(np.arange(rows).reshape(rows, 1), dtype=dtype)


def draws_of(key: tuple[int, int, int], count: int, rows: int | wyrm.Frequencies, excluded: list[list[int]]) -> Array:
    """What should be drawn, by :mod:`wyrm.philox`; there is one list of excluded numbers, or one for each draw."""
    table = rows._node.value if isinstance(rows, wyrm.Frequencies) else None
    number = len(rows) if isinstance(rows, wyrm.Frequencies) else rows
    bags = excluded * count if len(excluded) == 1 else excluded
    return np.array([draw(key, n, number, table, bags[n]) or 0 for n in range(count)])


@check("draws/numbers", "sparse", "numbers drawn follow from seed, stream, step, frequencies and what is excluded alone")
def check_numbers(context: Context) -> None:
    """Uniform and by frequency, one bag of excluded numbers and several, over some steps; every number where few are left."""
    rng = context.rng
    for dtype in context.dtypes:
        for rows in (1, 7, 1000, 2**17 + 1):
            table = table_of_numbers(rows, dtype)
            seed, count = int(rng.integers(2**62)), int(rng.integers(1, 9))
            frequencies = wyrm.Frequencies(rng.integers(0, 4, rows) + (np.arange(rows) == 0))
            bags = [rng.integers(0, rows, rng.integers(0, 40)).tolist() for _ in range(count)]
            drawn_from: list[int | wyrm.Frequencies] = [rows, frequencies]
            excluding: list[list[list[int]]] = [[[]], bags[:1], bags]
            cases = [(n, excluded) for n in drawn_from for excluded in excluding]
            samples = [
                wyrm.SampledIndexNode(n, count, exclude=wyrm.BagInputNode(len(bag), bag) if any(bag) else None, seed=seed)
                for n, bag in cases
            ]
            loss = sum((table.index(sample) * 0.0).scalar_sum() for sample in samples)
            assert isinstance(loss, wyrm.Node)
            optimizer = SGD(0.0, [table])
            for step in range(2):
                loss.forward(backend=context.backend)
                for stream, (sample, (n, excluded)) in enumerate(zip(samples, cases, strict=True)):
                    expected = draws_of((seed, stream, step), count, n, excluded)
                    context.compare(f"draws of step {step} from {n}", sample.value[:, 0], expected, 0)
                loss.backward(1.0)
                optimizer.step()


@check("draws/many rows", "sparse", "numbers below some billions are drawn by all 64 bits, and have a rank", at_least=1000)
def check_many_rows(context: Context) -> None:
    """A program of one instruction, as no memory has room for such a table; and another of few rows, for the rank."""
    for rows in (*context.rng.integers(2**31, 2**32, 4).tolist(), 2**32 - 1, 1, 2, 3, 50):
        key = [int(word) for word in context.rng.integers(0, 2**62, 3)]
        count, drawn = 256, Slot(1, 3, (256, 1), 1)
        options = (("tries", 1), ("rows", rows), ("weighted", False), ("excluding", False))
        instruction = Instruction("draw", drawn, (Slot(1, 0, (3, 1), 1), Slot(0, 0, (1, 2), 2)), options)
        buffers = (Buffer("real"), Buffer("index"))
        program = Program("evaluate", context.dtypes[0], buffers, real_length=2, index_length=3 + count, forward=(instruction,))
        memory = Memory(program, Memory.own(program))
        memory.buffers[1][:3] = key
        context.require("a draw returns 0", context.backend.compile(program).bind(memory).forward(Leaves(1)) == 0)
        context.case(f"draws below {rows}, by wyrm.philox", key=np.array(key))
        expected = np.array([draw(key, n, rows) for n in range(count)])
        context.compare(f"numbers below {rows}", memory.buffers[1][3:], expected, 0)
        eps = float(np.finfo(context.dtypes[0]).eps)
        outcome = np.array([max(1.0, rows - 1.0), 1.0])
        context.compare(f"the outcome of numbers below {rows}", memory.buffers[0][:2], outcome, eps)


@check("draws/what is left", "sparse", "what is excluded is never drawn, however little is left; of nothing, there is no loss")
def check_what_is_left(context: Context) -> None:
    """A few numbers left, one, and none; uniform and by frequency; from a bag in any order, which may name a number twice."""
    for rows in (1, 2, 65, 700):
        for weighted in (False, True):
            for left in (3, 1, 0):
                _check_left(context, rows, weighted, left)
    for tries in (1, 4):
        table, seen = wyrm.ParameterNode(np.ones((2, 1))), wyrm.BagInputNode(1, [[0, 1]])
        sample = wyrm.SampledIndexNode(2, exclude=seen, seed=1)
        redrawn = (table.index(sample) + 0.0).redraw(sample, tries)
        redrawn.forward(backend=context.backend)
        redrawn.backward(1.0)
        context.compare("what nothing ends", redrawn.value, np.zeros((1, 1)), 0)
        context.compare("its gradient", table.gradient.to_dense(), np.zeros((2, 1)), 0)


def _check_left(context: Context, rows: int, weighted: bool, left: int) -> None:
    rng, count = context.rng, 40
    frequencies = wyrm.Frequencies(rng.integers(0, 3, rows) + (np.arange(rows) == rows // 2), power=1.0)
    table, seed = table_of_numbers(rows, context.dtypes[0]), int(rng.integers(2**62))
    excluded = np.setdiff1d(np.arange(rows), rng.choice(rows, min(left, rows), replace=False))
    bag = rng.permutation(np.concatenate([excluded, excluded[::2]])).tolist()
    seen = wyrm.BagInputNode(1, [bag])
    sample = wyrm.SampledIndexNode(frequencies if weighted else rows, count, exclude=seen, seed=seed)
    loss = (table.index(sample) + 1.0).sum()
    loss.forward(backend=context.backend)
    entries = frequencies._node.value if weighted else None
    wanted = [draw((seed, 0, 0), n, rows, entries, bag) for n in range(count)]
    found = [number for number in wanted if number is not None]
    if found:
        context.compare(f"draws from {left} of {rows}", sample.value[:, 0], np.array(found), 0)
    context.compare(f"the loss of {left} of {rows}", loss.value, np.array([[sum(found) + 1.0 * len(found)]]), 1e-5)
    loss.backward(1.0)
    gradient = np.bincount(np.array(found, np.int64), minlength=rows)
    context.compare(f"the gradient of {left} of {rows}", table.gradient.to_dense()[:, 0], gradient, 1e-5)


def violation(
    scores: wyrm.ParameterNode, limit: float, sample: wyrm.SampledIndexNode, tries: int
) -> tuple[wyrm.Node, wyrm.Node, wyrm.Node]:
    """By how much a score drawn is above a limit, drawn again until it is; its rank; and the score, used once more."""
    score = scores.index(sample)
    redrawn = (score.tanh() - np.tanh(limit)).redraw(sample, tries)
    return redrawn, redrawn.rank(), score * 2.0


@check("draws/again", "sparse", "a sample is drawn until its node is positive, and what depends on it sees the last number")
def check_again(context: Context) -> None:
    """Several samples of one graph with limits that few numbers exceed, against the same in NumPy; the gradient of the last.

    Of one, some numbers are excluded; of another, all but one.
    """
    rng = context.rng
    for dtype in context.dtypes:
        for _ in range(20):
            rows, tries, seed = int(rng.integers(2, 40)), int(rng.integers(1, 12)), int(rng.integers(2**62))
            values = rng.permutation(rows) / rows
            scores, limits = wyrm.ParameterNode(values.reshape(rows, 1), dtype=dtype), rng.uniform(0, 1.1, 3) + 0.0101 / rows
            bags = [[], rng.integers(1, rows, 2).tolist(), list(range(1, rows))]
            beside = [wyrm.BagInputNode(1, [bag]) if bag else None for bag in bags]
            samples = [wyrm.SampledIndexNode(rows, exclude=bag, seed=seed) for bag in beside]
            parts = [violation(scores, limit, sample, tries) for limit, sample in zip(limits, samples, strict=True)]
            weights = rng.uniform(0.5, 2, (3, 3))
            terms = [w * node for ws, nodes in zip(weights, parts, strict=True) for w, node in zip(ws, nodes, strict=True)]
            total: wyrm.Node = wyrm.stack(terms).sum()
            total.forward(backend=context.backend)
            total.backward(1.0)
            gradient = np.zeros((rows, 1))
            for stream, (limit, sample, nodes, bag) in enumerate(zip(limits, samples, parts, bags, strict=True)):
                made, number = 0, 0
                for made in range(1, tries + 1):
                    number = draw((seed, stream, 0), made - 1, rows, None, bag if made == tries else ()) or 0
                    if values[number] > limit and number not in bag:
                        break
                tolerance = 1e-12 if dtype == "float64" else 1e-6
                context.compare("the number drawn", sample.value, np.array([[number]]), 0)
                above = np.tanh(values[number]) - np.tanh(limit)
                expected = [above, max(1, (rows - 1) // made), 2 * values[number]]
                for node, wanted in zip(nodes, expected, strict=True):
                    context.compare(f"{node!r} after {made} draws", node.value, np.array([[wanted]]), tolerance)
                gradient[number] += weights[stream, 0] * (1 - np.tanh(values[number]) ** 2) + 2 * weights[stream, 2]
            context.compare("the gradient of the rows drawn", scores.gradient.to_dense(), gradient, 1e-5)


@check("draws/outside", "sparse", "what does not depend on a draw survives its repetition, wherever it was computed")
def check_outside(context: Context) -> None:
    """Values that a draw reads, and that are read again later, beside others that would take their place in memory."""
    rng = context.rng
    for width in (1, 8, 17, 33):
        values = rng.uniform(-1, 1, (30, width))
        table, index, target = wyrm.ParameterNode(values), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
        sample = wyrm.SampledIndexNode(30, seed=int(rng.integers(2**62)))
        dropped = table.index(index).dropout(0.25, seed=3)
        query = dropped.tanh().exp()
        chain = table.index(sample)
        for _ in range(4):
            chain = (chain * query + 0.01).tanh()
        redrawn = (chain.sum() - target).redraw(sample, tries=15)
        loss = redrawn * query.sum() + redrawn.rank().ln()
        indices, targets = rng.integers(0, 30, 12), rng.uniform(0, width / 2, 12)
        results = []
        with context.oracle() as reference:
            backends: list[Any] = [reference, context.backend]
        for backend in backends:
            table.set_value(values)
            optimizer = SGD(0.01, [table])
            with context.oracle() if backend == "reference" else nullcontext():
                history = wyrm.fit(loss, {index: indices, target: targets}, optimizer, seed=1, shuffle=False, backend=backend)
            results.append((np.array(history.losses), table.value.copy()))
        context.compare(f"losses at width {width}", results[1][0], results[0][0], 1e-5)
        context.compare(f"the table at width {width}", results[1][1], results[0][1], 1e-5)
        table.set_value(values)
        for i, target_value in zip(indices[:3], targets[:3], strict=True):
            index.set_value(i)
            target.set_value(target_value)
            loss.forward(backend=context.backend)
            query_value = np.exp(np.tanh(dropped.value.astype(np.float64)))
            context.compare("a value from before", query.value, query_value, 1e-5)
            chain_value = values[sample.value[0, 0]]
            for _ in range(4):
                chain_value = np.tanh(chain_value * query_value + 0.01)
            wanted = chain_value.sum() - target_value
            context.compare("the value of the last draw", redrawn.value, np.array([[wanted]]), 1e-5)


@check("draws/runner", "training", "fit draws what steps draw, for each example its own, on any number of threads")
def check_runner(context: Context) -> None:
    """Counts of the numbers drawn, as sums in a table; and the same by steps."""
    rng = context.rng
    for tries in (1, 6):
        counts, item = wyrm.ParameterNode(np.zeros((60, 1))), wyrm.IndexInputNode()
        scores = wyrm.ParameterNode(np.arange(60).reshape(60, 1), trainable=False)
        seen = wyrm.BagInputNode()
        sample = wyrm.SampledIndexNode(60, exclude=seen, seed=8)
        redrawn = (scores.index(sample) - scores.index(item)).redraw(sample, tries)
        loss = counts.index(sample) + redrawn * 0.0
        items = rng.integers(0, 60, 300)
        bags = [[int(i), int(i + 1) % 60] for i in items]
        optimizer = SGD(1.0, [counts])
        for i, bag in zip(items, bags, strict=True):
            item.set_value(i)
            seen.set_value(bag)
            loss.forward(backend=context.backend)
            loss.backward(1.0)
            optimizer.step()
        stepped = -counts.value[:, 0]
        counts.set_value(np.zeros((60, 1)))
        wyrm.fit(loss, {item: items, seen: bags}, SGD(1.0, [counts]), shuffle=False, num_threads=1, backend=context.backend)
        context.compare("drawn by steps", stepped, -counts.value[:, 0], 0)
        threads = [1, 3] if "hogwild" in context.backend.capabilities.schedules else [1]
        results = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # more threads than cores, perhaps
            for number in threads:
                counts.set_value(np.zeros((60, 1)))
                optimizer, feed = SGD(1.0, [counts]), {item: items, seen: bags}
                wyrm.fit(loss, feed, optimizer, num_epochs=2, num_threads=number, backend=context.backend)
                results.append(-counts.value[:, 0])
        expected = np.zeros(60)
        for step in range(600):
            i, number = items[step % 300], 0
            for made in range(tries):
                number = draw((8, 0, step), made, 60, None, bags[step % 300] if made == tries - 1 else ()) or 0
                if number > i and number not in bags[step % 300]:
                    break
            expected[number] += 1
        context.compare("the numbers drawn", results[0], expected, 0)
        for several in results[1:]:
            # threads may lose an update of a row that another one is at
            context.require(
                f"threads drew {int(np.abs(several - expected).sum())} numbers of 600 otherwise",
                np.abs(several - expected).sum() < 30,
            )
