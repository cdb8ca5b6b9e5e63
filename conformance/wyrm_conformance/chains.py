"""Chains: every step, wherever its operands are, at all sizes, against formulas in extended precision.

Each is a program of one instruction. What the chains are made of is the same for every seed, because a backend may compile each
of them; the numbers are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wyrm.leaves import Leaves
from wyrm.memory import Memory, Source
from wyrm.program import Buffer, Chain, InputSlot, Instruction, ParameterSlot, Program, Shape, Slot
from wyrm_conformance.applying import matrix, poison
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.formulas import BOUNDS, ELEMENTWISE, WIDE
from wyrm_conformance.kernels import arguments
from wyrm_conformance.shapes import SIZES, Trial, long_shapes, shapes

__all__ = ["STEPS", "Sample", "samples", "sums"]

#: Every step that a chain may have beside ``copy``.
STEPS = (*ELEMENTWISE, "multiply_add", "multiply_subtract")
#: How many steps a chain has at most.
LONGEST = 24
#: Of how many examples a long feed is.
MANY = 2**16
#: Shapes: single numbers, lengths around those of vectors and of several, nothing.
SHAPES: tuple[Shape, ...] = ((1, 1), (3, 1), (0, 5), (3, 0), *((rows, n) for n in SIZES[2:] for rows in (1, 3)))


class Sample(NamedTuple):
    """A chain to try.

    Attributes
    ----------
    chain
        What is computed.
    broadcast
        Along which axes each operand has length 1.
    kernels
        The step that each result is of, and the operands that it comes from.
    shared
        For results that stand where an operand does, which.
    """

    chain: Chain
    broadcast: tuple[tuple[bool, bool], ...]
    kernels: tuple[tuple[str, tuple[int, ...]], ...]
    shared: dict[int, int]


def samples() -> list[Sample]:
    """Chains that have every step, on operands read and on results of the steps just before and further back."""
    rng = np.random.default_rng(11)
    found, left = [], [*rng.permutation(STEPS), *rng.permutation(STEPS)]
    while left:
        operands, kernels = 0, list[tuple[str, tuple[int, ...]]]()
        plan: list[tuple[str, list[tuple[str, int]]]] = []  # a step on registers: what is read, or copies of it
        steps = 0
        while left and steps + 4 <= LONGEST:
            kernel = str(left.pop())
            read = list(range(operands, operands + _count(kernel)))
            operands += len(read)
            copied = [n for n in read if rng.random() < 0.6]
            plan += [("copy", [("read", n)]) for n in rng.permutation(copied).tolist()]
            plan.append((kernel, [("copy" if n in copied else "read", n) for n in read]))
            kernels.append((kernel, tuple(read)))
            steps += 1 + len(copied)
        copies, chain, results = dict[int, int](), list[tuple[str, tuple[int, ...]]](), list[int]()
        for kernel, sources in plan:
            chain.append((kernel, tuple(n if kind == "read" else copies[n] for kind, n in sources)))
            if kernel == "copy":
                copies[sources[0][1]] = operands + len(chain) - 1
            else:
                results.append(operands + len(chain) - 1)
        broadcast = tuple((bool(a), bool(b)) for a, b in rng.random((operands, 2)) < 0.3)
        full = [n for n in range(operands) if broadcast[n] == (False, False)]
        shared = dict(
            zip(rng.permutation(len(results)).tolist(), rng.permutation(full)[: len(results) // 2].tolist(), strict=False)
        )
        found.append(Sample(Chain(operands, tuple(chain), tuple(results)), broadcast, tuple(kernels), shared))
    return found


def sums() -> list[Sample]:
    """What most updates come to, z + s x and z - s x, one to five of them, in the place of z and elsewhere; and an exchange."""
    found = []
    for count in range(1, 6):
        kernels = tuple(("multiply_add" if n % 2 else "multiply_subtract", (3 * n, 3 * n + 1, 3 * n + 2)) for n in range(count))
        chain = Chain(3 * count, kernels, tuple(range(3 * count, 4 * count)))
        broadcast = ((True, True), (False, False), (False, False)) * count
        found.append(Sample(chain, broadcast, kernels, {n: 3 * n + 2 for n in range(0, count, 2)}))
    exchange = Chain(2, (("copy", (1,)), ("copy", (0,))), (2, 3))
    found.append(Sample(exchange, ((False, False),) * 2, (("copy", (1,)), ("copy", (0,))), {0: 0, 1: 1}))
    return found


def _count(kernel: str) -> int:
    if kernel in ("multiply_add", "multiply_subtract", "select"):
        return 3
    return 2 if kernel in ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "greater") else 1


def _formula(kernel: str, operands: Sequence[Array]) -> Array:
    wide: list[Array] = [operand.astype(WIDE) for operand in operands]
    if kernel == "copy":
        return wide[0]
    if kernel in ("multiply_add", "multiply_subtract"):
        a, b, c = wide
        product: Array = a * b if kernel == "multiply_add" else -a * b
        return c + product
    return ELEMENTWISE[kernel](*wide)


def run_chain(
    context: Context,
    chain: Chain,
    operands: Sequence[Array],
    shape: Shape,
    dtype: str,
    shared: dict[int, int],
    gap: int = 2,
    examples: int = 0,
) -> list[Array]:
    """The results of a chain, each in a place of its own, or where an operand is; what is beside them must not change.

    By a pass, or by one run over a feed of so many examples: a backend may have other code for what is run often.
    """
    offset, slots = 3, list[Slot]()
    for rows, cols in (*(operand.shape for operand in operands), *(shape for _ in chain.results)):
        stride = cols + (gap and gap + len(slots) % 3)
        slots.append(Slot(0, offset, (rows, cols), stride))
        offset += rows * stride + 5
    read, targets = slots[: len(operands)], slots[len(operands) :]
    targets = [read[shared[n]] if n in shared else target for n, target in enumerate(targets)]
    instruction = Instruction("fused", targets[0], (*targets[1:], *read), (("chain", chain),))
    buffers, inputs = (Buffer("real"), Buffer("index")), (InputSlot("dense", Slot(0, 0, (1, 1), 1)),)
    program = Program("evaluate", dtype, buffers, real_length=offset, inputs=inputs, forward=(instruction,))
    memory = Memory(program, Memory.own(program))
    real: Array = memory.buffers[0]
    poison(real)
    real[0] = 0  # the input, which nothing reads
    for slot, operand in zip(read, operands, strict=True):
        matrix(real, slot)[...] = operand
    before = real.copy()
    executable = context.backend.compile(program)
    if examples:
        feed = [Source(np.zeros((examples, 1), dtype))]
        status = executable.bind_feed(memory, feed).run(np.zeros((1, 1), np.int64), 0, 1)
    else:
        status = executable.bind(memory, [0]).forward(Leaves(1))
    context.require(f"a chain returns status 0, not {status}", status == 0)
    results = [matrix(real, slot).copy() for slot in targets]
    for slot in targets:
        for array in (real, before):
            matrix(array, slot)[...] = np.nan
    context.require("a chain writes nothing beside its results", real.tobytes() == before.tobytes())
    return results


def _try(context: Context, sample: Sample, shape: Shape, dtype: str, gap: int = 2, examples: int = 0) -> None:
    operands = list[Array]()
    narrow = [tuple(1 if one else n for one, n in zip(axes, shape, strict=True)) for axes in sample.broadcast]
    drawn = dict[int, Array]()
    for kernel, read in sample.kernels:
        shapes: list[Shape] = [(narrow[n][0], narrow[n][1]) for n in read]
        drawn |= zip(read, arguments(context.rng, kernel, shapes, dtype), strict=True)
    operands = [drawn[n] for n in range(sample.chain.operands)]
    context.case(f"the chain {sample.chain}")
    results = run_chain(context, sample.chain, operands, shape, dtype, sample.shared, gap, examples)
    for result, (kernel, read) in zip(results, sample.kernels, strict=True):
        with np.errstate(all="ignore"):
            expected = np.array(np.broadcast_to(_formula(kernel, [operands[n] for n in read]), shape))
            rounded = expected.astype(dtype)
            expected = np.where(np.isfinite(rounded) & (rounded != 0), expected, rounded)
        what = f"{kernel} in a chain over {shape} in {dtype}"
        context.case(f"{kernel} in the chain {sample.chain}", **{f"operand {n}": operands[n] for n in read})
        if kernel.startswith("multiply_"):  # a product that is rounded before it is added, or not
            context.compare(what, result, expected, 4 * float(np.finfo(dtype).eps))
        else:
            context.within_ulps(what, result, expected, BOUNDS.get(kernel, 0.0))


@check(
    "kernels/fused",
    "core",
    "chains compute what their steps say, at every size, and store results when all has been read",
    requires=("fused",),
    at_least=10_000,
)
def check_fused(context: Context) -> None:
    """Every step, sums, an exchange, by passes and by runs over long feeds; then long chains, and the guard."""
    for dtype in context.dtypes:
        for sample in (*samples(), *sums()):
            for shape in SHAPES:
                _try(context, sample, shape, dtype)
            for shape, gap in (*shapes(context.rng)[-2:], Trial((3, 33), 0)):
                _try(context, sample, shape, dtype, gap)
        for sample in (samples()[0], *sums()[-2:]):
            for shape, gap in long_shapes(context.rng, few=True):
                _try(context, sample, shape, dtype, gap)
        for sample in (*samples(), *sums()[1::2]):
            for shape in ((1, 1), (3, 33), (1, 130)):
                _try(context, sample, shape, dtype, examples=MANY)
        _check_deep(context, dtype)
        _check_guard(context, dtype)


def _check_deep(context: Context, dtype: str) -> None:
    """As many steps as there may be, each on one of the steps before it."""
    rng = np.random.default_rng(13)
    for _ in range(2):
        steps = list[tuple[str, tuple[int, ...]]]()
        for n in range(LONGEST):
            last = 4 + n
            a, b, c = (int(last - 1 - rng.integers(min(last, 6))) for _ in range(3))
            if n % 2:  # bounded, so that errors stay small
                steps.append((str(rng.choice(["tanh", "sigmoid"])), (last - 1,)))
            else:
                kernel = str(rng.choice(["add", "subtract", "multiply", "multiply_add", "multiply_subtract", "maximum"]))
                steps.append((kernel, (a, b, c)[: _count(kernel)]))
        results = (4 + LONGEST - 1, 4 + LONGEST - 2, 9, 15)
        chain = Chain(4, tuple(steps), results)
        for shape in SHAPES:
            narrow: list[Shape] = [shape, (1, shape[1]), (shape[0], 1), (1, 1)]
            operands = [context.rng.uniform(-1, 1, s).astype(dtype) for s in narrow]
            registers = [operand.astype(WIDE) for operand in operands]
            for kernel, read in steps:
                registers.append(_formula(kernel, [registers[n] for n in read]))
            context.case(f"the chain {chain}", **{f"operand {n}": operand for n, operand in enumerate(operands)})
            actual = run_chain(context, chain, operands, shape, dtype, {})
            for register, result in zip(results, actual, strict=True):
                expected = np.broadcast_to(registers[register], shape)
                what = f"register {register} of a long chain over {shape} in {dtype}"
                context.compare(what, result, expected, 200 * float(np.finfo(dtype).eps))


def _check_guard(context: Context, dtype: str) -> None:
    """A step of regression: where the loss is not finite, nothing but the loss is stored."""
    # registers: w, x, y, rate; error = w x - y, loss, slope = error x, new w
    steps = (("multiply", (0, 1)), ("subtract", (4, 2)), ("multiply", (5, 5)), ("multiply", (5, 1)))
    chain = Chain(4, (*steps, ("multiply_subtract", (3, 7, 0))), (6, 8), guard=6)
    loss, x, y, rate = (Slot(0, n, (1, 1), 1) for n in range(4))
    w = Slot(2, 0, (1, 1), 1)
    instruction = Instruction("fused", loss, (w, w, x, y, rate), (("chain", chain),))
    buffers = (Buffer("real"), Buffer("index"), Buffer("value"))
    parameters = (ParameterSlot((1, 1)),)
    program = Program("interactive", dtype, buffers, real_length=4, parameters=parameters, forward=(instruction,))
    executable = context.backend.compile(program)
    for label in (2.0, np.nan, np.inf, -0.5):
        value = np.full((1, 1), 1.5, dtype)
        memory = Memory(program, [*Memory.own(program), value])
        memory.buffers[0][1:] = 3.0, label, 0.25
        context.case(f"the chain {chain}", w=1.5, x=3.0, y=label, rate=0.25)
        context.require("a chain with a guard returns 0", executable.bind(memory).forward(Leaves(1)) == 0)
        error = 1.5 * 3.0 - label
        context.compare("the loss", memory.buffers[0][:1], np.array([error * error]), 0)
        expected = 1.5 - 0.25 * error * 3.0 if np.isfinite(label) else 1.5
        context.compare("the parameter behind the guard", value, np.full((1, 1), expected), 0)
