"""Many of something: rows, bags, indices, contributions and idle steps beyond what fits 8 and 16 bits, and beyond every block.

Numbers are whole and small, so that sums are exact in whatever order they are taken. Of row numbers, many are the same in their
lowest 8 or 16 bits and different beyond.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import wyrm
from wyrm.clocks import Clock
from wyrm.leaves import Leaves
from wyrm.memory import GradientBuffer, Memory
from wyrm.optim import SGD
from wyrm.program import Buffer, Instruction, ParameterSlot, Program, Slot
from wyrm_conformance.applying import apply
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.shapes import beyond
from wyrm_conformance.special import bags_of


def _numbers(rng: np.random.Generator, count: int, rows: int) -> Array:
    """Row numbers in no order, all over a table and at both ends; for each of some, others of the same lowest bits."""
    numbers: Array = rng.integers(0, rows, count)
    some = numbers[: count // 4]
    numbers[count // 4 : 2 * (count // 4)] = (some + 2**16) % rows
    numbers[2 * (count // 4) : 3 * (count // 4)] = (some + 2**8) % rows
    numbers[-2:] = rows - 1, 0
    return numbers.reshape(-1, 1)


def _whole(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> Array:
    return rng.integers(-3, 4, shape).astype(dtype)


@check("kernels/many rows", "core", "indices are told apart by all their bits, however many there are", at_least=400_000)
def check_many_rows(context: Context) -> None:
    """Tables of more rows, or columns, than fit 16 bits, and as many indices, each of which counts."""
    rng = context.rng
    for dtype in context.dtypes:
        rows, many = 2 * beyond(rng, 16), beyond(rng, 16)
        for cols, count in ((3, beyond(rng, 8)), (1, many)):
            table, index = _whole(rng, (rows, cols), dtype), _numbers(rng, count, rows)
            given = _whole(rng, (count, cols), dtype)
            context.compare("gather", apply(context, "gather", [table, index], (count, cols), dtype), table[index[:, 0]], 0)
            sums = np.zeros((rows, cols))
            np.add.at(sums, index[:, 0], given)
            context.compare("scatter", apply(context, "scatter", [index, given], (rows, cols), dtype), sums, 0)
            gradient = GradientBuffer((rows, cols), dtype)
            gradient.reserve(count)
            apply(context, "accumulate_rows", [index, given], gradient, dtype)
            numbers, values = gradient.merged_rows()
            context.compare("rows gathered", values, sums[numbers], 0)
            square = apply(context, "square_sum", [gradient], (1, 1), dtype)
            context.compare("the sum of their squares", square, np.square(sums).sum().reshape(1, 1), 0)
        wide, column = _whole(rng, (4, rows), dtype), _numbers(rng, 4, rows)
        picked = np.take_along_axis(wide, column, 1)
        context.compare("pick", apply(context, "pick", [wide, column], (4, 1), dtype), picked, 0)
        placed = np.zeros(wide.shape)
        np.put_along_axis(placed, column, picked, 1)
        context.compare("place", apply(context, "place", [column, picked], wide.shape, dtype), placed, 0)


@check("kernels/many bags", "core", "bags are pooled to the last, however many there are, and however long", at_least=300_000)
def check_many_bags(context: Context) -> None:
    """Some hundred bags, more than fit 16 bits, and one of so many indices; their weights are of both signs and 0."""
    rng = context.rng
    for dtype in context.dtypes:
        many, hundreds = beyond(rng, 16), beyond(rng, 8)
        for rows, lengths in (
            (2 * many, rng.integers(0, 4, many).tolist()),
            (2 * many, [2, many, 0]),
            (9, rng.integers(0, 30, hundreds).tolist()),
        ):
            bag = bags_of(rng, lengths, rows, rng.choice([0, 1, 1, -1, 2], sum(lengths)), dtype)
            owners, weights = np.repeat(np.arange(len(lengths)), lengths), bag.weights[:, None].astype(np.float64)
            for cols in (1, 3) if rows == 9 else (1,):
                table, given = _whole(rng, (rows, cols), dtype), _whole(rng, (len(lengths), cols), dtype)
                pooled, back = np.zeros((len(lengths), cols)), np.zeros((rows, cols))
                np.add.at(pooled, owners, weights * table[bag.indices])
                np.add.at(back, bag.indices, weights * given[owners])
                found = apply(context, "gather_bag", [table, bag], pooled.shape, dtype, attributes=(("mean", False),))
                context.compare("gather_bag", found, pooled, 0)
                found = apply(context, "scatter_bag", [bag, given], back.shape, dtype, attributes=(("mean", False),))
                context.compare("scatter_bag", found, back, 0)
                gradient = GradientBuffer((rows, cols), dtype)
                gradient.reserve(sum(lengths))
                apply(context, "accumulate_bag", [bag, given], gradient, dtype, attributes=(("mean", False),))
                numbers, values = gradient.merged_rows()
                context.compare("accumulate_bag", values, back[numbers], 0)


@check("sparse/many rows", "sparse", "a step takes all rows that it is given, each with the sum of its parts, and then none")
def check_steps_of_many_rows(context: Context) -> None:
    """Two steps and two runs of some hundred indices and of more than fit 16 bits; in rows of one number, and of several."""
    rng = context.rng
    for dtype in context.dtypes:
        for cols, count in ((1, beyond(rng, 8)), (1, beyond(rng, 16)), (5, beyond(rng, 12))):
            rows = 2 * beyond(rng, 16)
            table, index = wyrm.ParameterNode(np.zeros((rows, cols)), dtype=dtype), wyrm.IndexInputNode(count)
            loss, optimizer = table.index(index).scalar_sum(), SGD(1.0, [table])
            examples = np.stack([_numbers(rng, count, rows)[:, 0] for _ in range(4)])
            for example in examples[:2]:
                index.set_value(example)
                loss.forward(backend=context.backend)
                loss.backward(1.0)
                optimizer.step()
            wyrm.fit(loss, {index: examples[2:]}, optimizer, shuffle=False, num_threads=1, backend=context.backend)
            expected = -np.bincount(examples.reshape(-1), minlength=rows)[:, None].repeat(cols, axis=1)
            context.compare(f"steps of {count} rows of {cols} in {dtype}", table.value, expected, 0)


@check("optimizers/large", "training", "all of a large gradient takes part in a step, and nothing of it in the next")
def check_large_gradients(context: Context) -> None:
    """Steps, batches and runs by gradients of thousands of numbers, and of more than fit 16 bits, each other than the last."""
    rng = context.rng
    for dtype in context.dtypes:
        for shape in ((1, beyond(rng, 16)), (beyond(rng, 12), 3), (3, beyond(rng, 12))):
            w, x = wyrm.ParameterNode(np.zeros(shape), dtype=dtype), wyrm.InputNode(shape, dtype=dtype)
            loss, optimizer = (w * x).scalar_sum(), SGD(1.0, [w], momentum=0.0)
            examples = rng.integers(-4, 5, (6, *shape)).astype(dtype)
            for example in examples[:2]:
                x.set_value(example)
                loss.forward(backend=context.backend)
                loss.backward(1.0)
                optimizer.step()
            options: dict[str, Any] = {"shuffle": False, "num_threads": 1, "backend": context.backend}
            wyrm.fit(loss, {x: examples[2:4]}, optimizer, batch_size=2, **options)
            wyrm.fit(loss, {x: examples[4:]}, optimizer, **options)
            weights = np.array([1, 1, 0.5, 0.5, 1, 1])
            expected = -np.tensordot(weights, examples.astype(np.float64), 1)
            context.compare(f"steps by {shape} numbers in {dtype}", w.value, expected, 0)


@check("training/many in a run", "training", "runs of any number of examples are as many single ones, and give as many values")
def check_many_in_a_run(context: Context) -> None:
    """Rows, bags and numbers of 9 examples, of some tens and of some hundred a run; the last run is shorter."""
    rng = context.rng
    for dtype, rows in zip(
        (*context.dtypes, *context.dtypes), (9, int(rng.integers(17, 60)), beyond(rng, 8), 33), strict=False
    ):
        count = 2 * rows + 5
        index, x = rng.integers(0, 30, count), rng.integers(-3, 4, (count, 4)).astype(float)
        bags = [rng.integers(0, 30, n) for n in rng.integers(0, 4, count)]
        start = rng.integers(-3, 4, (30, 4)).astype(float)
        table = wyrm.ParameterNode(start, dtype=dtype)

        def score(one: Any, bag: Any, x: Any, table: wyrm.ParameterNode = table) -> Any:
            return ((table.index(one) + table.index_sum(bag)) * x).sum(1)

        feed = {"one": index, "bag": wyrm.Bags.from_lists(bags), "x": x}
        pooled = np.array([start[i] + start[bag].sum(0) for i, bag in zip(index, bags, strict=True)])
        options: dict[str, Any] = {"rows": rows, "backend": context.backend}
        found = wyrm.evaluate(score, feed, dtype=dtype, **options)
        context.compare(f"values of {rows} examples a run in {dtype}", found.reshape(-1), (pooled * x).sum(1), 0)
        wyrm.fit(score, feed, SGD(0.5, [table]), shuffle=False, num_threads=1, **options)
        for begin in range(0, count, rows):
            part = range(begin, min(begin + rows, count))
            for e in part:
                np.add.at(start, [index[e], *bags[e]], -0.5 / len(part) * x[e])
        context.compare(f"the table after runs of {rows} in {dtype}", table.value, start, 1e-5)


#: For how many steps rows have been idle: around the stretches that clocks put together, and beyond 8 and 16 bits.
IDLE = (0, 1, 7, 8, 9, 63, 64, 65, 255, 256, 257, 300, 1023, 1025, 4097, 65_535, 65_536, 65_537, 70_001)


@check(
    "kernels/idle rows", "core", "rows that a few steps have missed, or many thousand, are read as if they had made them all"
)
def check_idle_rows(context: Context) -> None:
    """``current``, ``current_rows`` and ``current_bag`` at rates of which each is another, with momentum, decay and both."""
    rng, now, rows = context.rng, 70_001 + int(context.rng.integers(64)), 36_000
    for dtype in context.dtypes:
        for decay, momentum in ((0.5, 0.0), (0.0, 0.998), (0.25, 0.75)):
            rates = rng.uniform(0, 1e-3, now)
            exact, last = _missed(rates, decay, momentum), np.full(rows, now)
            places = rng.permutation(rows)[: len(IDLE)]
            last[places] = now - np.array(IDLE)
            clock = Clock(rows, decay, momentum, 0, 0 if momentum else -1)
            clock.resume(now, rates, last)
            value, moving = (rng.uniform(-1, 1, (rows, 3)).astype(dtype) for _ in range(2))
            keep, move = (np.array([total[n] for total in exact])[now - last][:, None] for n in (0, 1))
            whole = keep * value - (move * moving if momentum else 0)
            bag = bags_of(rng, [len(IDLE), 0, 5], rows, 1, dtype)
            bag.indices[: len(IDLE)] = places
            pooled = np.stack([whole[bag.indices[: len(IDLE)]].sum(0), np.zeros(3), whole[bag.indices[-5:]].sum(0)])
            for kernel, beside, expected in (
                ("current", None, whole),
                ("current_rows", places.reshape(-1, 1), whole[places]),
                ("current_bag", bag, pooled),
            ):
                found = _current(context, kernel, value, moving if momentum else value, clock, beside, expected.shape)
                what = f"{kernel} by decay {decay} and momentum {momentum} in {dtype}"
                context.compare(what, found, expected, 1e-9 if dtype == "float64" else 1e-5)


def _missed(rates: Array, decay: float, momentum: float) -> list[tuple[float, float, float]]:
    """What the last n steps come to, for every n up to the largest of :data:`IDLE`: keep, move and fade."""
    totals = [(1.0, 0.0, 1.0)]
    for rate in rates[: -max(IDLE) - 1 : -1].tolist():
        keep, move, fade = totals[-1]
        step = 1 - rate * decay, rate * momentum, momentum
        totals.append((keep * step[0], keep * step[1] + move * step[2], fade * step[2]))
    return totals


def _current(
    context: Context, kernel: str, value: Array, moving: Array, clock: Clock, beside: Any, shape: tuple[int, ...]
) -> Array:
    """The result of one instruction that reads rows; the value, the velocity and the clock must be left as they are."""
    whole = Slot(2, 0, (len(value), 3), 3)
    operands = [whole, whole._replace(buffer=3) if moving is not value else whole, Slot(4, 0, (len(value), 1), 1)]
    buffers = [Buffer("real"), Buffer("index"), Buffer("value"), Buffer("state", 0, "velocity"), Buffer("clock")]
    arrays: list[Any] = [value, moving, clock]
    attributes: tuple[tuple[str, Any], ...] = ()
    if kernel == "current_bag":
        operands.append(Slot(5, 0, (shape[0], 1), 1))
        buffers.append(Buffer("bag", 0))
        arrays.append(beside)
        attributes = (("mean", False),)
    elif beside is not None:
        operands.append(Slot(1, 0, beside.shape, 1))
    out = Slot(0, 0, (shape[0], shape[1]), shape[1] + 1)
    program = Program(
        "interactive",
        value.dtype.name,
        tuple(buffers),
        real_length=shape[0] * (shape[1] + 1),
        index_length=shape[0],
        parameters=(ParameterSlot((len(value), 3)),),
        forward=(Instruction(kernel, out, tuple(operands), attributes),),
    )
    memory = Memory(program, [*Memory.own(program), *arrays])
    if kernel == "current_rows":
        memory.buffers[1][:] = beside[:, 0]
    before = [array.copy() for array in (value, moving, clock.last)]
    context.require(f"{kernel} returns 0", context.backend.compile(program).bind(memory).forward(Leaves(1)) == 0)
    for array, kept in zip((value, moving, clock.last), before, strict=True):
        context.require(f"{kernel} changes nothing that it reads", array.tobytes() == kept.tobytes())
    result: Array = memory.buffers[0].reshape(shape[0], shape[1] + 1)[:, : shape[1]].copy()
    return result
