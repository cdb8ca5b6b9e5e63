"""What the contract promises beside numbers: compiling is pure, memory is one's own, statuses are true."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np

import wyrm
from wyrm.frontend.binding import Workspace
from wyrm.kernels import KERNELS
from wyrm.leaves import Leaves
from wyrm.memory import ALIGNMENT, BagBuffer, BagSource, GradientBuffer, Memory, Report, address
from wyrm.optim import SGD
from wyrm.program import Program
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.memory_use import growth
from wyrm_conformance.refusals import check_refused

__all__ = ["bound", "example"]


def example(context: Context, width: int = 5) -> tuple[Program, list[Array]]:
    """A program that looks rows of a table up and multiplies them with a dense input; the table, indices and factors."""
    rng = context.rng
    table = wyrm.ParameterNode(rng.uniform(-1, 1, (7, width)))
    index, x = wyrm.IndexInputNode(3, [0, 1, 2]), wyrm.InputNode((3, width), np.zeros((3, width)))
    loss = (table.index(index) * x).scalar_sum()
    loss.forward(backend=context.backend)
    workspace = loss._workspace
    assert isinstance(workspace, Workspace)
    indices, values = rng.integers(0, 7, 3), rng.uniform(-1, 1, (3, width)).astype(np.float32)
    return workspace.binding.program, [table.value.copy(), indices, values]


class Bound:
    """A program of :func:`example` with memory of its own."""

    def __init__(self, context: Context, program: Program, inputs: list[Array], capacity: int = 16) -> None:
        self.table, self.indices, self.values = inputs
        self.gradient = GradientBuffer((len(self.table), self.table.shape[1]), program.dtype)
        self.gradient.reserve(capacity)
        buffers: list[Any] = Memory.own(program)
        for buffer in program.buffers[2:]:
            if buffer.kind == "value":
                buffers.append(np.array(self.table))
            elif buffer.kind == "gradient":
                buffers.append(self.gradient)
            else:
                buffers.append(BagBuffer(program.inputs[buffer.number].slot.shape[0], program.dtype))
        self.memory = Memory(program, buffers)
        self.leaves = Leaves(4)
        for number, expected in enumerate(program.inputs):
            self.leaves.set_array(number, np.array(self.indices if expected.kind == "index" else self.values))


def bound(context: Context) -> tuple[Program, Bound, Any]:
    """The example, compiled and bound."""
    program, inputs = example(context)
    one = Bound(context, program, inputs)
    return program, one, context.backend.compile(program).bind(one.memory, range(len(program.inputs)))


def _total(one: Bound) -> Array:
    """The loss of the example."""
    return np.array([[(one.table[one.indices].astype(np.float64) * one.values).sum()]])


def _loss(program: Program, one: Bound) -> Array:
    slot = program.values[max(program.values)]
    result: Array = one.memory.buffers[slot.buffer][slot.offset : slot.offset + 1].reshape(1, 1).copy()
    return result


def _rows(one: Bound) -> Array:
    dense = np.zeros(one.table.shape)
    numbers, values = one.gradient.merged_rows()
    dense[numbers] = values
    return dense


def _expected_rows(one: Bound, weight: float) -> Array:
    dense = np.zeros(one.table.shape)
    np.add.at(dense, one.indices, weight * one.values.astype(np.float64))
    return dense


@check("contract/declaration", "core", "what is declared is there, and what is not declared is refused by name")
def check_declaration(context: Context) -> None:
    """Every dtype computes; every optional kernel that is not declared is refused; so is one that is in no table."""
    capabilities = context.backend.capabilities
    context.require("float32 is declared", "float32" in capabilities.dtypes)
    context.require("no dtype is declared that Wyrm does not know", capabilities.dtypes <= {"float32", "float64"})
    optional = {kernel.name for kernel in KERNELS.values() if kernel.optional}
    unknown = capabilities.kernels - optional
    context.require(f"optional kernels are declared that there are not: {sorted(unknown)}", not unknown)
    for kernel in sorted(optional - capabilities.kernels):
        check_refused(context, kernel)
    for dtype in ("float32", "float64"):
        if dtype not in capabilities.dtypes:
            check_refused(context, dtype)
            continue
        w = wyrm.ParameterNode([[0.1, 2.0]], dtype=dtype)
        y = w * 3.0
        y.forward(backend=context.backend)
        context.require(f"a value in {dtype} has this dtype", y.value.dtype == dtype)
        context.compare(f"0.1 * 3 in {dtype}", y.value, np.array([[0.3, 6.0]]), 1e-15 if dtype == "float64" else 1e-7)


@check("contract/float64", "core", "float64 is computed in float64, not in float32 and widened", requires=("float64",))
def check_float64(context: Context) -> None:
    """What float32 cannot tell from 1."""
    x = wyrm.ParameterNode(np.array([[1.0, 1.0]]), dtype="float64")
    y = (x + 1e-12) - 1.0
    y.forward(backend=context.backend)
    context.compare("(1 + 1e-12) - 1, times 1e12", y.value * 1e12, np.ones((1, 2)), 1e-3)


@check("contract/programs", "core", "compiling and running leave the program as it was")
def check_programs(context: Context) -> None:
    """Field by field, before and after."""
    program, one, passes = bound(context)
    names = [name for name in vars(program) if name != "values"]
    before, values = {name: repr(getattr(program, name)) for name in names}, dict(program.values)
    for _ in range(2):
        context.require("status 0", passes.forward(one.leaves) == 0 and passes.backward(1.0) == 0)
    context.backend.compile(program)
    for name in names:
        context.require(f"the program's {name} is unchanged", repr(getattr(program, name)) == before[name])
    context.require("the program's values are unchanged", program.values == values)


@check(
    "contract/compiling", "core", "a program compiled twice gives the same bits, whatever was compiled in between", at_least=30
)
def check_compiling(context: Context) -> None:
    """Two executables of one program, with another program in between, on memories of their own."""
    program, inputs = example(context)
    results = []
    for n in range(2):
        one = Bound(context, program, inputs)
        passes = context.backend.compile(program).bind(one.memory, range(len(program.inputs)))
        other, others = example(context, width=9)
        beside = Bound(context, other, others)
        context.backend.compile(other).bind(beside.memory, range(len(other.inputs))).forward(beside.leaves)
        context.require("status 0", passes.forward(one.leaves) == 0 and passes.backward(0.5) == 0)
        context.compare(f"the loss of executable {n}", _loss(program, one), _total(one), 1e-5)
        context.compare(f"the gradient of executable {n}", _rows(one), _expected_rows(one, 0.5), 1e-5)
        results.append((_loss(program, one), _rows(one)))
    for a, b in zip(*results, strict=True):
        context.identical("the second executable's result", b, a)


@check("contract/workspaces", "core", "workspaces of one executable share nothing: passes of one do not show in the other")
def check_workspaces(context: Context) -> None:
    """Forward in one, forward in the other, backward in both."""
    program, inputs = example(context)
    executable = context.backend.compile(program)
    ones = []
    for n in range(3):
        values = [inputs[0] + n, (inputs[1] + n) % 7, inputs[2] * (n + 1)]
        one = Bound(context, program, values)
        ones.append((one, executable.bind(one.memory, range(len(program.inputs)))))
    for one, passes in ones:
        context.require("status 0", passes.forward(one.leaves) == 0)
    for n, (_, passes) in enumerate(ones):
        context.require("status 0", passes.backward(n + 1.0) == 0)
    for n, (one, _) in enumerate(ones):
        context.compare(f"the loss in workspace {n}", _loss(program, one), _total(one), 1e-5)
        context.compare(f"the gradient in workspace {n}", _rows(one), _expected_rows(one, n + 1.0), 1e-5)


@check("contract/threads", "core", "an executable made on one thread works on another, and on several at once", at_least=20)
def check_threads(context: Context) -> None:
    """Four threads, each with memory of its own, many passes each."""
    program, inputs = example(context)
    executable = context.backend.compile(program)
    ones = [Bound(context, program, [inputs[0] + n, (inputs[1] + n) % 7, inputs[2]]) for n in range(4)]
    statuses: list[int] = []
    errors: list[BaseException] = []

    def work(one: Bound) -> None:
        try:
            passes = executable.bind(one.memory, range(len(program.inputs)))
            for _ in range(200):
                one.gradient.clear()
                statuses.append(passes.forward(one.leaves) or passes.backward(1.0))
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=work, args=(one,)) for one in ones]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    context.require(f"no thread raised: {errors[:1]}", not errors)
    context.require("every pass returned 0", len(statuses) == 800 and not any(statuses))
    for n, one in enumerate(ones):
        context.compare(f"the loss of thread {n}", _loss(program, one), _total(one), 1e-5)
        context.compare(f"the gradient of thread {n}", _rows(one), _expected_rows(one, 1.0), 1e-5)


@check(
    "contract/stale values",
    "core",
    "a pass sees what inputs and parameters hold when it begins, and no backward pass those of another",
)
def check_stale(context: Context) -> None:
    """``set_value`` between passes; between forward and backward, it is an error."""
    for dtype in context.dtypes:
        w, x = wyrm.ParameterNode(2.0, dtype=dtype), wyrm.InputNode((1, 1), 3.0, dtype=dtype)
        y = w * x
        for value in (3.0, 5.0, -1.0):
            x.set_value(value)
            y.forward(backend=context.backend)
            context.compare(f"2 * {value}", y.value, np.array([[2 * value]]), 0)
            w.zero_gradient()
            y.backward(1.0)
            x.set_value(100.0)
            refused = False
            try:
                y.backward(1.0)
            except wyrm.StaleError:
                refused = True
            context.require("a backward pass of an input that was set after the forward pass is refused", refused)
            context.compare("the gradient of the last pass", w.gradient.to_dense(), np.array([[value]]), 0)
        w.set_value(7.0)
        x.set_value(3.0)
        y.forward(backend=context.backend)
        context.compare("7 * 3", y.value, np.array([[21.0]]), 0)
        rows, matrix = wyrm.InputNode((2, 3), np.ones((2, 3)), dtype=dtype), wyrm.ParameterNode(np.ones((2, 3)), dtype=dtype)
        z = (rows * matrix).scalar_sum()
        for value in (1.0, 4.0):
            rows.set_value(np.full((2, 3), value))
            z.forward(backend=context.backend)
            context.compare(f"6 * {value}", z.value, np.array([[6 * value]]), 0)


@check("contract/alignment", "core", "what the frontend allocates is aligned, and what a user brings need not be")
def check_alignment(context: Context) -> None:
    """Addresses of buffers; a parameter and a feed that begin between the boundaries of vectors."""
    program, inputs = example(context)
    one = Bound(context, program, inputs)
    for array in (*one.memory.buffers[:2], one.gradient.row_values, one.gradient.row_numbers, one.gradient.header):
        context.require(f"a buffer is {ALIGNMENT}-byte aligned", address(array) % ALIGNMENT == 0)
    for dtype in context.dtypes:
        raw = np.zeros(3 * 17 + 1, dtype)
        value = raw[1:].reshape(3, 17)
        value[...] = context.rng.uniform(-1, 1, (3, 17))
        start = value.astype(np.float64)
        w, x = wyrm.ParameterNode(value, dtype=dtype, copy=False), wyrm.InputNode((3, 17), dtype=dtype)
        data = np.zeros(2 * 51 + 1, dtype)[1:].reshape(2, 3, 17)
        data[...] = context.rng.uniform(-1, 1, (2, 3, 17))
        wyrm.fit((w * x).scalar_sum(), {x: data}, SGD(0.5, [w]), shuffle=False, backend=context.backend)
        expected = start - 0.5 * data.astype(np.float64).sum(0)
        context.compare(f"an unaligned parameter in {dtype}", w.value, expected, 1e-6)
        context.compare("the array that it adopted", value, expected, 1e-6)
        context.compare("the element before it", raw[:1], np.zeros(1), 0)


@check("contract/liveness", "core", "values that share memory do not overwrite what is still needed", at_least=36)
def check_liveness(context: Context) -> None:
    """A long chain in which early values are needed late: kept values, and evaluation, in which memory is used again."""
    start = context.rng.uniform(-1, 1, (2, 9))
    x = wyrm.InputNode((2, 9))
    nodes: list[wyrm.Node] = [x]
    exact = [start.astype(np.float32).astype(np.float64)]
    for n in range(12):
        nodes.append((nodes[-1] + nodes[n // 3]) * 0.5)
        exact.append((exact[-1] + exact[n // 3]) * 0.5)
    last, total = nodes[-1] * nodes[1] + nodes[4], exact[-1] * exact[1] + exact[4]
    x.set_value(start)
    last.forward(backend=context.backend)
    context.compare("the value by forward", last.value, total, 1e-6)
    result = wyrm.evaluate(last, {x: start[None]}, backend=context.backend)
    context.compare("the value by evaluate", result[0], total, 1e-6)


def _statuses(context: Context, what: str, status: int, expected: int, memory: Memory, words: dict[int, int]) -> None:
    context.require(f"{what}: status {status}, not {expected}", status == expected)
    report = memory.report.words
    context.require(f"{what}: the report's first word is {report[0]}, not {expected}", int(report[0]) == expected)
    for place, value in words.items():
        context.require(f"{what}: word {place} of the report is {report[place]}, not {value}", int(report[place]) == value)


@check("contract/statuses", "core", "an index out of range and a full list are reported, and change nothing", at_least=20)
def check_statuses(context: Context) -> None:
    """By passes: too large and negative indices, and a list of rows without room."""
    program, one, passes = bound(context)
    number = next(n for n, i in enumerate(program.inputs) if i.kind == "index")
    for place, wrong in ((0, 7), (2, -1), (1, 2**40), (1, -(2**62))):
        bad = one.indices.copy()
        bad[place] = wrong
        one.leaves.set_array(number, bad)
        status = passes.forward(one.leaves)
        _statuses(context, f"index {wrong}", status, Report.INDEX_OUT_OF_RANGE, one.memory, {1: number, 2: place, 3: wrong})
    one.leaves.set_array(number, one.indices)
    context.require("status 0 afterwards", passes.forward(one.leaves) == 0 and passes.backward(1.0) == 0)
    context.compare("the gradient after errors", _rows(one), _expected_rows(one, 1.0), 1e-5)

    full = Bound(context, program, [one.table, one.indices, one.values], capacity=0)
    full.gradient._move(2, full.gradient.row_numbers, full.gradient.row_values)
    passes = context.backend.compile(program).bind(full.memory, range(len(program.inputs)))
    context.require("forward returns 0", passes.forward(full.leaves) == 0)
    _statuses(context, "no room for rows", passes.backward(1.0), Report.ROWS_FULL, full.memory, {3: 3})
    context.compare("the rows in the list", np.array([full.gradient.count]), np.zeros(1), 0)
    full.gradient.reserve(3)
    context.require("backward returns 0 when there is room", passes.backward(1.0) == 0)
    context.compare("the gradient then", _rows(full), _expected_rows(full, 1.0), 1e-5)


@check(
    "contract/bag statuses",
    "core",
    "bags that are too long, name rows outside the table or lie outside of their values are reported, and change nothing",
)
def check_bag_statuses(context: Context) -> None:
    """By passes of a program that pools rows."""
    table = wyrm.ParameterNode(context.rng.uniform(-1, 1, (7, 5)))
    loss = table.index_sum(wyrm.BagInputNode(1, [[0]])).scalar_sum()
    loss.forward(backend=context.backend)
    program = loss._workspace.binding.program
    one = Bound(context, program, [table.value.copy(), np.zeros(0, np.int64), np.zeros((0, 5), np.float32)], capacity=40)
    passes = context.backend.compile(program).bind(one.memory, [0])

    def bags(indices: list[int]) -> int:
        one.leaves.set_bags(0, BagSource(np.array(indices, np.int64), np.array([0]), np.array([len(indices)])))
        return passes.forward(one.leaves)

    _statuses(context, "30 indices, room for 16", bags([1] * 30), Report.BAG_FULL, one.memory, {1: 0, 3: 30})
    _statuses(context, "index 7 of 7", bags([1, 2, 7]), Report.INDEX_OUT_OF_RANGE, one.memory, {1: 0, 3: 7})
    _statuses(context, "index -1", bags([-1]), Report.INDEX_OUT_OF_RANGE, one.memory, {1: 0, 3: -1})
    for begin, end in ((-1, 2), (2, 1), (0, 4), (2**62, -(2**62))):
        one.leaves.set_bags(0, BagSource(np.array([1, 2, 3]), np.array([begin]), np.array([end])))
        status = passes.forward(one.leaves)
        _statuses(context, f"values {begin} to {end} of 3", status, Report.ORDER_OUT_OF_RANGE, one.memory, {1: 0, 2: 0})
    context.require("a bag that fits", bags([6, 0, 6]) == 0)
    expected = one.table[[6, 0, 6]].astype(np.float64).sum()
    context.compare("the sum of its rows", _loss(program, one), np.array([[expected]]), 1e-5)


@check("contract/leaks", "core", "compiling a known structure hundreds of times, and new ones, keeps no memory")
def check_leaks(context: Context) -> None:
    """Python's memory, and the process's."""
    program, inputs = example(context)

    def again() -> None:
        one = Bound(context, program, inputs)
        passes = context.backend.compile(program).bind(one.memory, range(len(program.inputs)))
        passes.forward(one.leaves)

    _require_no_growth(context, "three hundred compiles of one program", again, 300, 50_000, 4_000_000)
    widths = iter(range(3, 10_000))

    def anew() -> None:
        program, inputs = example(context, width=next(widths) * 50)
        one = Bound(context, program, inputs)
        context.backend.compile(program).bind(one.memory, range(len(program.inputs))).forward(one.leaves)

    _require_no_growth(context, "twenty new structures", anew, 20, 1_000_000, 16_000_000)


def _require_no_growth(
    context: Context, what: str, work: Callable[[], None], times: int, allowed: int, allowed_resident: int
) -> None:
    grown, resident = growth(work, 10, times)
    context.require(f"{what} kept {grown} bytes", grown < allowed)
    context.require(f"{what} made the process grow by {resident} bytes", resident < allowed_resident)


@check(
    "contract/feeds",
    "training",
    "a feed's arrays are read as they stand, in every dtype, and every other row of a matrix",
    at_least=8,
)
def check_feeds(context: Context) -> None:
    """All source dtypes, rows with gaps between them, and constant inputs, by a runner."""
    for dtype in context.dtypes:
        for source in ("float32", "float64", "int32", "int64"):
            data = np.zeros((6, 10), source)
            data[::2, :5] = np.arange(15).reshape(3, 5)
            x, w = wyrm.InputNode((1, 5), dtype=dtype), wyrm.ParameterNode(np.zeros((1, 5)), dtype=dtype)
            options: dict[str, Any] = {"num_epochs": 2, "shuffle": False, "backend": context.backend}  # of one, data are copied
            wyrm.fit((w * x).scalar_sum(), {x: data[::2, :5]}, SGD(1.0, [w]), **options)
            context.compare(
                f"the sum of a feed of {source} in {dtype}", w.value, -2 * np.arange(15.0).reshape(3, 5).sum(0)[None], 0
            )
