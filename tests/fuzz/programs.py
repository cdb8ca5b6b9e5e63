"""Programs, changed where a backend trusts them: either they are refused, or they run in their own memory.

What they compute is not compared: a program that writes where it reads has no one meaning. Under the address
sanitizer, what leaves its buffers ends the process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

import wyrm
import wyrm.backend
from tests.fuzz.cases import Line
from tests.fuzz.children import sanitized
from wyrm.clocks import Clock
from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, BagSource, GradientBuffer, Memory, Source
from wyrm.program import Program, Slot
from wyrm.selection import get_backend

NAME = "programs"
BACKENDS = ("c_simd",) if sanitized() else tuple(status.name for status in wyrm.backends() if status.state != "broken")
MODELS = ("dense", "rows", "bags", "sequence", "draws")
#: What numbers are replaced with.
NUMBERS = (-1, 0, 1, 2, 5, 17, 1000, 1 << 20, 1 << 40, 1 << 62, -(1 << 62), 1.0, True, None)


def _loss(model: str) -> tuple[wyrm.Node, dict[Any, Any], list[Any]]:
    table = wyrm.ParameterNode(np.arange(18.0).reshape(6, 3) / 9, name="table")
    index, bag, numbers = wyrm.IndexInputNode(2), wyrm.BagInputNode(), wyrm.InputNode((1, 3))
    if model == "dense":
        weights = wyrm.ParameterNode(np.ones((3, 4)), name="weights")
        return (numbers @ weights).tanh().square().scalar_sum(), {numbers: np.ones((2, 3))}, [weights]
    if model == "rows":
        return table.index(index).square().scalar_sum(), {index: [[0, 1], [2, 5]]}, [table]
    if model == "bags":
        return table.index_mean(bag).square().scalar_sum(), {bag: [[0, 1], [5]]}, [table]
    if model == "draws":
        some = wyrm.SampledIndexNode(wyrm.Frequencies([3, 1, 0, 2, 1, 1]), 4, exclude=bag, seed=3)
        one = wyrm.SampledIndexNode(6, seed=4)
        drawn = (table.index(some).square().scalar_sum() + table.index(one).scalar_sum()).redraw(one, 3)
        return drawn, {bag: [[0, 1], [5]]}, [table]
    inputs = [wyrm.IndexInputNode() for _ in range(3)]
    state = table.index(inputs[0])
    for each in inputs[1:]:
        state = (state * table.index(each)).sigmoid()
    return state.scalar_sum(), {each: [1, 2] for each in inputs}, [table]


def programs(model: str, backend: str) -> list[Program]:
    """What training a model compiles."""
    return _programs(backend)[model]


@cache
def _programs(backend: str) -> dict[str, list[Program]]:
    """Of all models, always in this order: what two have in common is compiled for the first."""
    found: dict[str, list[Program]] = {model: [] for model in MODELS}
    check, current = wyrm.backend.Backend.check, MODELS[0]

    def noted(self: Any, program: Program) -> None:
        if program not in found[current]:
            found[current].append(program)
        check(self, program)

    wyrm.backend.Backend.check = noted  # type: ignore[method-assign]
    try:
        for current in MODELS:
            for rule, options in ((wyrm.optim.Adagrad, {"batch_size": 2}), (wyrm.optim.SGD, {})):
                loss, feed, parameters = _loss(current)
                wyrm.fit(loss, feed, rule(0.1, parameters), seed=1, backend=backend, **options)
            wyrm.evaluate([loss], feed, backend=backend)
            for node, data in feed.items():
                one = data[:1] if isinstance(node, wyrm.BagInputNode) else data[0]
                node.set_value(np.reshape(one, node.shape) if isinstance(node, wyrm.InputNode) else one)
            loss.forward(backend=backend)
            loss.backward(1.0)
            rule(0.1, parameters).step()
    finally:
        wyrm.backend.Backend.check = check  # type: ignore[method-assign]
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where numbers, names and tuples stand in a program."""
    if isinstance(value, Program):
        for name in (
            "buffers",
            "real_length",
            "index_length",
            "inputs",
            "parameters",
            "forward",
            "backward",
            "update",
            "outputs",
            "literals",
            "seed",
            "skip",
            "look",
        ):
            yield from places(getattr(value, name), (*path, name))
        return
    if path:
        yield path
    if isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from places(each, (*path, number))


def found_at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = getattr(value, step) if isinstance(step, str) else value[step]
    return value


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The same with something else at a place."""
    if not path:
        return new
    first, rest = path[0], path[1:]
    if isinstance(value, Program):
        fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
        return Program(**{**fields, first: changed(fields[first], rest, new)})
    parts = [changed(each, rest, new) if number == first else each for number, each in enumerate(value)]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def run(program: Program, backend: str) -> None:
    """A run and a pass of a program over memory of its own, all of whose inputs are the largest that they may be."""
    executable = get_backend(backend).compile(program)
    memory = memory_of(program)
    sources = [_source(program, number) for number in range(len(program.inputs))]
    executable.bind_feed(memory, sources).run(np.zeros((1, 1), np.int64), 0, 1)
    leaves = Leaves(len(sources))
    for number, (given, source) in enumerate(zip(program.inputs, sources, strict=True)):
        if source.bags is not None:
            leaves.set_bags(number, source.bags)
        elif given.slot.shape != (1, 1):
            leaves.set_array(number, source.array.reshape(given.slot.shape) if given.kind != "random" else source.array[0])
        elif given.kind == "index":
            leaves.indices[number] = int(source.array[0, 0])
    passes = executable.bind(memory, range(len(sources)))
    if passes.forward(leaves) == 0:
        passes.backward(1.0)


def memory_of(program: Program) -> Memory:
    """Memory in which a program stays that is as the frontend makes them."""
    return Memory(program, [*Memory.own(program), *(_buffer(program, number) for number in range(2, len(program.buffers)))])


def _buffer(program: Program, number: int) -> Any:
    buffer = program.buffers[number]
    slots = [slot for i in program.instructions for slot in (i.out, *i.operands) if slot.buffer == number]
    if buffer.kind == "bag":
        return BagBuffer(program.inputs[buffer.number].slot.shape[0], program.dtype)
    if buffer.kind in ("scalars", "state"):
        return np.ones(max([slot.shape for slot in slots], default=(1, 1)), program.dtype)
    use = program.parameters[(buffer.table or buffer).number]
    if number in _tables(program):
        return np.full(use.shape, -1, np.int64)  # entries whose aliases are as large as may be
    if buffer.kind == "clock":
        return Clock(use.shape[0])
    if buffer.kind != "gradient":
        return np.ones(use.shape, program.dtype)
    gradient = GradientBuffer(use.shape, program.dtype)
    gradient.require_dense()
    gradient.reserve(use.rows_per_pass + 16)
    return gradient


def _tables(program: Program) -> set[int]:
    """The buffers that are alias tables."""
    draws = [i for i in program.instructions if i.kernel == "draw" and dict(i.attributes)["weighted"]]
    return {i.operands[2].buffer for i in draws}


def _source(program: Program, number: int) -> Source:
    given = program.inputs[number]
    rows, cols = given.slot.shape
    largest = min(given.limit - 1, 1 << 40)
    if given.kind == "bag":
        ends = np.arange(1, rows + 1)
        return Source(np.zeros((1, 1)), bags=BagSource(np.full(rows, largest), ends - 1, ends))
    if given.kind == "random":
        return Source(np.ones((1, 2), np.int64))
    if given.kind == "index":
        return Source(np.full((1, rows * cols), largest, np.int64))
    return Source(np.ones((1, rows * cols), program.dtype))


def write(rng: np.random.Generator) -> list[Line]:
    """A program of training, a few places of it changed, and a run."""
    model, backend = str(rng.choice(MODELS)), str(rng.choice(BACKENDS))
    known = programs(model, backend)
    which = int(rng.integers(len(known)))
    program: Any = known[which]
    lines = [Line("setup", f"program = programs({model!r}, {backend!r})[{which}]")]
    paths = list(places(program))
    for _ in range(int(rng.integers(1, 4))):
        path = paths[int(rng.integers(len(paths)))]
        try:
            old = found_at(program, path)
        except (IndexError, AttributeError, TypeError):
            continue
        new = _another(rng, program, old, paths)
        lines.append(Line("data", f"program = changed(program, {path!r}, {new})"))
    return [*lines, Line("attempt", f"run(program, {backend!r})")]


def _another(rng: np.random.Generator, program: Any, old: Any, paths: list[Any]) -> str:
    """What to put in the place of something, as an expression."""
    if isinstance(old, int):
        near = (old - 1, old + 1, 2 * old, -old)
        return repr((*NUMBERS, *near)[int(rng.integers(len(NUMBERS) + 4))])
    alike = [path for path in paths if type(_or_none(program, path)) is type(old)]
    if isinstance(old, Slot) or rng.random() < 0.7:
        path = alike[int(rng.integers(len(alike)))] if alike else ()
        return f"found_at(program, {path!r})"
    return ("()", "None", "[]", "'value'")[int(rng.integers(4))]


def _or_none(value: Any, path: tuple[Any, ...]) -> Any:
    with contextlib.suppress(IndexError, AttributeError, TypeError):
        return found_at(value, path)
    return None


def permits(error: BaseException, line: Line) -> bool:
    """What is not sound is refused by the library's own error, not found out on the way."""
    return isinstance(error, wyrm.WyrmError)


@contextlib.contextmanager
def planted() -> Iterator[None]:
    """Programs are believed, by the one backend that no program can harm."""
    import wyrm.sound

    kept = wyrm.sound._Program.check, BACKENDS
    wyrm.sound._Program.check = lambda self: None  # type: ignore[method-assign]
    globals()["BACKENDS"] = ("reference",)
    try:
        yield
    finally:
        wyrm.sound._Program.check, globals()["BACKENDS"] = kept  # type: ignore[method-assign]
