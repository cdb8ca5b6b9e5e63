"""Faulty runs: feeds, batches, sequences, schedules, and numbers that are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wyrm import kernel_backend, kernel_steps, philox
from wyrm.frontend.lowering import lower
from wyrm.kernel_steps import Steps
from wyrm.memory import Source
from wyrm.reference import ReferenceBackend
from wyrm.runs import JoinedRunner, Team
from wyrm.training import programs
from wyrm.training.assignment import Schedules
from wyrm.training.conflict_free import ConflictFree
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import patch_fault

# -- feeds, batches and sequences

_rows = Source.rows


def _unsigned(self: Source, examples: Any) -> Array:
    numbers = _rows(self, examples)
    return numbers.view(f"u{numbers.itemsize}") if numbers.dtype.kind == "i" else numbers


patch_fault("whole numbers are read as numbers without a sign", "training/dtypes", target=Source, rows=_unsigned)


def _from_the_beginning(self: Source, examples: Any) -> Array:
    result: Array = self.array[examples if self.starts is None else self.starts[examples]]
    return result


patch_fault(
    "sequences are read at their beginning alone",
    "training/structures",
    "training/ragged",
    target=Source,
    rows=_from_the_beginning,
)


def _side_by_side(self: Source, examples: Any) -> Array:
    width = self.array.shape[1]
    if self.array.strides[0] == width * self.array.itemsize:
        return _rows(self, examples)
    flat = np.append(self.array[:, 0], self.array[-1, 1:])
    places = examples if self.starts is None else self.starts[examples]
    result: Array = flat.take(width * np.asarray(places)[:, None] + np.arange(width), mode="clip")
    return result


patch_fault(
    "rows of data are taken to be as far apart as they are wide", "training/sequence_rows", target=Source, rows=_side_by_side
)
patch_fault(
    "a run of several examples takes the first alone",
    "training/rows",
    target=Source,
    rows=lambda self, examples: _rows(self, examples[:1] * len(examples)),
)
_joined_run, _run_batch, _arrange = JoinedRunner.run, Team._run_batch, ConflictFree.arrange


def _endless(self: JoinedRunner, order: Array, start: int, stop: int) -> int:
    return _joined_run(self, np.concatenate([order, order[-1:]]), start, stop)  # the last run no longer ends the order


def _by_blocks(self: Any, order: Array, start: int, stop: int) -> int:
    for begin in range(start, stop, 8):
        end, part = min(begin + 8, stop), self.parts[0]
        for position in range(begin, end):
            status = part._load(order[position, : part.examples].tolist(), position)
            if status:
                part.bound.memory.report.words[4] = self.position = begin
                return int(status)
        status = _joined_run(self, order, begin, end)
        if status:
            return status
    return 0


patch_fault(
    "examples are given up for one that comes behind them", "training/errors far on", target=JoinedRunner, run=_by_blocks
)


def _from_the_start(self: JoinedRunner, order: Array, start: int, stop: int) -> int:
    status = _joined_run(self, order, start, stop)
    if status:
        self.position = start
    return status


def _unless_interrupted(self: JoinedRunner, order: Array, start: int, stop: int) -> int:
    try:
        return _joined_run(self, order, start, stop)
    except KeyboardInterrupt:
        self.position = start
        raise


patch_fault(
    "runs that were made before Ctrl-C are not told of", "training/interruption", target=JoinedRunner, run=_unless_interrupted
)
patch_fault(
    "runs that were made before one that failed are not told of", "training/errors", target=JoinedRunner, run=_from_the_start
)
patch_fault("a shorter last batch is forgotten", "training/batches", target=JoinedRunner, run=_endless)

# -- means over the examples of a step

_begin, _load = Schedules.begin, kernel_backend._KernelRunner._load


def _as_if_whole(self: Schedules, examples: Array) -> None:
    _begin(self, np.concatenate([examples, examples[:1].repeat(-len(examples) % self._batch_size)]))


def _as_if_equal(self: Schedules, examples: Array) -> None:
    _begin(self, np.full_like(examples, examples.max()))


def _summed(*arguments: Any, **options: Any) -> Any:
    return lower.lower(*arguments, **{**options, "share": None if options.get("share", 1.0) is None else 1.0})


patch_fault("the last, shorter batch is divided by batch_size", "training/batches", target=Schedules, begin=_as_if_whole)
patch_fault("shorter runs count as whole ones", "training/rows", target=Schedules, begin=_as_if_equal)
patch_fault("rows are summed", "training/rows", target=programs, lower=_summed)


def _load_by_example(self: Any, examples: list[int], position: int) -> int:
    by_batch = self.bound.program.purpose == "update"
    return int(_load(self, examples, position if by_batch else examples[0]))


patch_fault(
    "what comes by position is read by example", "training/batches", target=kernel_backend._KernelRunner, _load=_load_by_example
)


def _applied_anyway(self: Team, *arguments: Any) -> int:
    status = _run_batch(self, *arguments)
    if status:
        self.update.run(arguments[0], 0, 1)
    return status


patch_fault("a batch is applied though a run failed", "parallel/synchronized", target=Team, _run_batch=_applied_anyway)


def _one_lost(self: ConflictFree, order: Array) -> Any:
    arranged, ends = _arrange(self, order)
    return arranged, np.minimum(ends, len(order) - 1)


def _shuffled(self: ConflictFree, order: Array) -> Any:
    return _arrange(self, np.random.default_rng().permutation(order))


patch_fault("an arrangement of examples loses one", "parallel/conflict_free", target=ConflictFree, arrange=_one_lost)
patch_fault("examples are arranged otherwise each time", "parallel/conflict_free", target=ConflictFree, arrange=_shuffled)


# -- numbers that are drawn


def _drawing(name: str, draw: Callable[..., int | None], check: str = "draws/numbers") -> None:
    patch_fault(name, check, target=kernel_steps, draw=draw)


_draw = philox.draw
_drawing("excluded numbers are drawn", lambda key, number, rows, table, excluded: _draw(key, number, rows, table))
_drawing("frequencies are ignored", lambda key, number, rows, table, excluded: _draw(key, number, rows, None, excluded))
patch_fault(
    "numbers are drawn by one word alone",
    "draws/many rows",
    target=kernel_steps,
    draw=lambda key, number, rows, table=None, excluded=(): philox._blocks(key, philox.ATTEMPTS * number)[0] * rows >> 32,
)
_drawing("every step draws the same", lambda key, *others: _draw((key[0], key[1], 0), *others))
_drawing("every sample draws the same", lambda key, *others: _draw((key[0], 0, key[2]), *others))


def _without_luck(then: Callable[[Any, Any, int | None], int | None]) -> Callable[..., int | None]:
    """What becomes of draws for which attempts come to nothing."""

    def wrong(key: Any, number: int, rows: int, table: Any = None, excluded: Any = ()) -> int | None:
        blocks = range(philox.ATTEMPTS * number, philox.ATTEMPTS * (number + 1))
        tried = [philox.attempt(key, block, rows, table) for block in blocks]
        found = _draw(key, number, rows, table, excluded)
        return found if not excluded or not set(tried[:-1]) <= set(excluded) else then(tried[-1], rows, found)

    return wrong


_drawing("exclusion is given up after 64 attempts", _without_luck(lambda last, rows, found: last), "draws/what is left")
_drawing(
    "a draw from what is left is off by one",
    _without_luck(lambda last, rows, found: None if found is None else (found + 1) % rows),
    "draws/what is left",
)
_drawing("something is drawn of nothing", lambda *arguments: _draw(*arguments) or 0, "draws/what is left")
_step = Steps._draw


def _tries(change: Callable[[int], int]) -> Callable[..., Any]:
    def wrong(self: Any, instruction: Any) -> Any:
        if self.kernels is ReferenceBackend.kernels:
            return _step(self, instruction)
        attributes = dict(instruction.attributes)
        attributes["tries"] = change(attributes["tries"])
        return _step(self, instruction._replace(attributes=tuple(attributes.items())))

    return wrong


patch_fault("a draw is not repeated", "draws/again", target=Steps, _draw=_tries(lambda tries: 1))
patch_fault("one draw too many", "draws/again", "draws/runner", target=Steps, _draw=_tries(lambda tries: tries + 1))


def _once(self: Any, instruction: Any) -> Any:
    if self.kernels is ReferenceBackend.kernels:
        return _step(self, instruction)
    body, run = [self.step(i) for i in instruction.body], _step(self, instruction._replace(body=()))

    def wrong() -> None:
        run()
        for step in body:
            step()

    return wrong


patch_fault(
    "what depends on a draw is computed for the last one alone", "draws/again", "draws/outside", target=Steps, _draw=_once
)
