"""Statuses of passes and runs: for every dtype of indices, one of them and several, of one example a run and of several.

Programs are made by hand, and data are not looked at before they are run: what the frontend would refuse reaches the backend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, BagSource, Memory, Report, Sink, Source
from wyrm.program import Buffer, InputSlot, Instruction, ParameterSlot, Program, Slot
from wyrm_conformance.check import Array, Context, check

#: Rows of the table, and how many examples there are: more than a backend looks ahead.
ROWS, EXAMPLES = 11, 129


def _program(kind: str, purpose: Any, count: int, dtype: str) -> Program:
    """A program that looks ``count`` rows of two numbers up, or pools so many bags; its output is the rows, or their sum."""
    rows, total = Slot(0, 0, (count, 2), 2), Slot(0, 2 * count, (1, 1), 1)
    table, buffers = Slot(2, 0, (ROWS, 2), 2), [Buffer("real"), Buffer("index"), Buffer("value")]
    given = Slot(1, 0, (count, 1), 1)
    if kind == "bag":
        buffers.append(Buffer("bag", 0))
        given = Slot(3, 0, (count, 1), 1)
        look = Instruction("gather_bag", rows, (table, given), (("mean", False),))
    else:
        look = Instruction("gather", rows, (table, given))
    return Program(
        purpose,
        dtype,
        tuple(buffers),
        real_length=2 * count + 1,
        index_length=count,
        inputs=(InputSlot("bag" if kind == "bag" else "index", given, limit=ROWS),),
        parameters=(ParameterSlot((ROWS, 2)),),
        forward=(look, Instruction("sum", total, (rows,))),
        outputs=(rows if purpose == "evaluate" else total,),
    )


def _memory(program: Program, table: Array) -> Memory:
    bags = [BagBuffer(program.inputs[0].slot.shape[0], program.dtype) for buffer in program.buffers if buffer.kind == "bag"]
    return Memory(program, [*Memory.own(program), table.copy(), *bags])


def _wrong(dtype: str) -> list[int]:
    """Numbers that no row has: at the limit and beyond, below 0, and at the ends; of int64, some that are fine in 32 bits."""
    further = [2**31, 2**32, 2**32 + 3, 2**40, -(2**32) + 1, -(2**62)] if dtype == "int64" else []
    return [ROWS, ROWS + 1, -1, -ROWS, 2**31 - 1, -(2**31), *further]


def _require(context: Context, what: str, memory: Memory, status: int, expected: int, words: dict[int, int]) -> None:
    report = [int(word) for word in memory.report.words]
    context.require(f"{what}: status {status}, not {expected}", status == expected == report[0])
    for place, value in words.items():
        context.require(f"{what}: word {place} of the report is {report[place]}, not {value}", report[place] == value)


@check(
    "contract/index statuses",
    "core",
    "an index at the limit or beyond, and one below 0, is reported, whether it is the only one or one of several",
    at_least=100,
)
def check_passes(context: Context) -> None:
    """By passes: the cell holds the index itself, or the address of several."""
    for dtype in context.dtypes:
        table = context.rng.uniform(-1, 1, (ROWS, 2)).astype(dtype)
        for count in (1, 2, 9, 33):
            program = _program("index", "interactive", count, dtype)
            memory, leaves = _memory(program, table), Leaves(2)
            passes = context.backend.compile(program).bind(memory, [1])
            good = context.rng.integers(0, ROWS, (count, 1))
            good[-1] = ROWS - 1
            for wrong in (None, *_wrong("int64"), None):
                indices, place = good.copy(), int(context.rng.integers(count))
                if wrong is not None:
                    indices[place] = wrong
                if count == 1:
                    leaves.indices[1] = int(indices[0, 0])
                else:
                    leaves.set_array(1, indices)
                status = passes.forward(leaves)
                if wrong is None:
                    context.require(f"status 0 of {count} indices, not {status}", status == 0)
                    context.compare("rows", memory.buffers[0][: 2 * count].reshape(count, 2), table[good[:, 0]], 0)
                else:
                    expected, words = Report.INDEX_OUT_OF_RANGE, {1: 0, 2: place, 3: wrong}
                    _require(context, f"index {wrong} of {count}", memory, status, expected, words)


def _sources(rng: np.random.Generator, dtype: str, each: int) -> list[tuple[str, Source, Array]]:
    """Indices of examples, as they may lie: in rows, with gaps, at positions of sequences; and the array to change them in."""
    good = rng.integers(0, ROWS, (EXAMPLES, each)).astype(dtype)
    good[-1] = ROWS - 1
    wide = np.zeros((EXAMPLES, each + 3), dtype)
    wide[:, :each] = good
    starts, shuffled = rng.permutation(EXAMPLES), np.zeros((EXAMPLES + 2, each), dtype)
    shuffled[starts + 1] = good
    return [
        ("in rows", Source(good), good),
        ("with gaps", Source(wide[:, :each]), wide),
        ("in sequences", Source(shuffled, starts=starts, shift=1), shuffled),
    ]


@check(
    "training/statuses",
    "training",
    "in runs, too, a wrong index is reported with its run and its place; what came before is done, what comes behind is not",
    at_least=1000,
)
def check_runs(context: Context) -> None:
    """Indices of both dtypes, one and several, of one example a run and of three; and orders that name no example."""
    rng = context.rng
    for dtype in context.dtypes:
        table = rng.uniform(-1, 1, (ROWS, 2)).astype(dtype)
        for examples, each in ((1, 1), (1, 3), (3, 1), (3, 2)):
            program = _program("index", "evaluate", examples * each, dtype)
            executable = context.backend.compile(program)
            order = rng.permutation(EXAMPLES)[: EXAMPLES // examples * examples].reshape(-1, examples)
            for index_dtype in ("int32", "int64"):
                for how, source, array in _sources(rng, index_dtype, each):
                    memory, results = _memory(program, table), np.full((EXAMPLES, 2 * each), np.nan, dtype)
                    runner = executable.bind_feed(memory, [source], [Sink(results)], examples)
                    what = f"{each} of {index_dtype} {how}, {examples} examples a run"
                    indices = source.rows(np.arange(EXAMPLES))
                    exact = table[indices].reshape(EXAMPLES, -1)
                    context.require(f"{what}: status 0", runner.run(order, 0, len(order)) == 0)
                    context.compare(what, results[order.reshape(-1)], exact[order.reshape(-1)], 0)
                    for wrong in _wrong(index_dtype):
                        run, place = int(rng.integers(len(order))), int(rng.integers(examples * each))
                        example, column = order[run, place // each], place % each
                        row = example if source.starts is None else source.starts[example] + 1
                        kept, array[row, column], results[...] = array[row, column], wrong, np.nan
                        status = runner.run(order, 0, len(order))
                        words = {1: 0, 2: place, 3: wrong, 4: run}
                        _require(context, f"{what}: {wrong}", memory, status, Report.INDEX_OUT_OF_RANGE, words)
                        array[row, column] = kept
                        done = np.full_like(results, np.nan)
                        done[order[:run].reshape(-1)] = exact[order[:run].reshape(-1)]
                        context.compare(f"{what}, up to run {run}", results, done, 0)
                    for example in (EXAMPLES, -1, 2**40):
                        beyond, run = order.copy(), int(rng.integers(len(order)))
                        beyond[run, -1] = example
                        status, words = runner.run(beyond, 0, len(order)), {3: example, 4: run}
                        _require(context, f"{what}: example {example}", memory, status, Report.ORDER_OUT_OF_RANGE, words)


@check(
    "training/bag statuses",
    "training",
    "in runs, a bag that is too long, names no row or lies outside of its values is reported with its run",
    at_least=200,
)
def check_bags(context: Context) -> None:
    """Values of both dtypes, of one example a run and of three."""
    rng = context.rng
    for dtype in context.dtypes:
        table = rng.uniform(-1, 1, (ROWS, 2)).astype(dtype)
        for examples in (1, 3):
            program = _program("bag", "evaluate", examples, dtype)
            executable = context.backend.compile(program)
            order = rng.permutation(EXAMPLES)[: EXAMPLES // examples * examples].reshape(-1, examples)
            for value_dtype in ("int32", "int64"):
                lengths = rng.integers(1, 5, EXAMPLES)
                ends = np.cumsum(lengths)
                begins, values = ends - lengths, rng.integers(0, ROWS, ends[-1]).astype(value_dtype)
                bags = BagSource(values, begins, ends)
                memory, results = _memory(program, table), np.full((EXAMPLES, 2), np.nan, dtype)
                source = Source(np.zeros((EXAMPLES, 1), dtype), bags=bags)
                runner = executable.bind_feed(memory, [source], [Sink(results)], examples)
                exact = np.stack([table[values[b:e]].sum(0) for b, e in zip(begins, ends, strict=True)])
                context.require("status 0", runner.run(order, 0, len(order)) == 0)
                named = order.reshape(-1)
                context.compare(f"bags of {value_dtype}", results[named], exact[named], 1e-5)
                run, last = int(rng.integers(len(order))), examples - 1
                example = order[run, last]
                for wrong in _wrong(value_dtype):
                    kept, values[ends[example] - 1] = values[ends[example] - 1], wrong
                    status = runner.run(order, 0, len(order))
                    _require(context, f"{wrong} in a bag", memory, status, Report.INDEX_OUT_OF_RANGE, {1: 0, 3: wrong, 4: run})
                    values[ends[example] - 1] = kept
                for begin, end in ((-1, 2), (2, 1), (0, len(values) + 1), (2**62, -(2**62))):
                    kept_begin, kept_end = begins[example], ends[example]
                    begins[example], ends[example] = begin, end
                    status = runner.run(order, 0, len(order))
                    words = {1: 0, 2: last, 4: run}
                    _require(context, f"values {begin} to {end}", memory, status, Report.ORDER_OUT_OF_RANGE, words)
                    begins[example], ends[example] = kept_begin, kept_end
                    context.require("what can be done is done", runner.run(order, run, run + 1) == 0)
                kept_begin, kept_end = begins[example], ends[example]
                begins[example], ends[example] = 0, 20
                status = runner.run(order, 0, len(order))
                room = int(sum((ends - begins)[order[run]]))
                _require(context, f"{room} indices", memory, status, Report.BAG_FULL, {1: 0, 3: room, 4: run})
                begins[example], ends[example] = kept_begin, kept_end
