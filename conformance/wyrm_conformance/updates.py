"""Updates, kernel by kernel: which rows of gradients, parameters and states they take, by rules of every optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import wyrm
from wyrm import optim
from wyrm.clocks import Clock
from wyrm.kernels import KERNELS
from wyrm.leaves import Leaves
from wyrm.memory import Memory, aligned
from wyrm.program import Buffer, Instruction, ParameterSlot, Program, Rule, Slot
from wyrm_conformance.applying import matrix, poison
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.formulas import ELEMENTWISE
from wyrm_conformance.shapes import Trial, long_shapes, shapes
from wyrm_conformance.special import special

#: Optimizers of which the rules are tried, by what they are called, for the parameters given.
RULES: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(0.125, p),
    "sgd with all options": lambda p: optim.SGD(0.125, p, l1=0.5, l2=0.25, clip_value=1.5),
    "momentum and decay": lambda p: optim.SGD(0.125, p, momentum=0.5, weight_decay=0.25),
    "adagrad": lambda p: optim.Adagrad(0.125, p, eps=0.25),
    "adagrad with l1": lambda p: optim.Adagrad(0.125, p, l1=0.5, eps=0.25),
    "rowwise adagrad": lambda p: optim.RowwiseAdagrad(0.125, p, eps=0.25),
    "adam": lambda p: optim.Adam(0.125, p, eps=0.25, betas=(0.5, 0.75)),
    "ftrl": lambda p: optim.FTRL(0.125, p, l1=0.5, l2=0.25),
}


class Update(NamedTuple):
    """A rule with its scalars, on a value, states of it, and a gradient."""

    rule: Rule
    scalars: Array
    value: Array
    states: list[Array]
    gradient: Array

    def after(self, rows: Any) -> list[Array]:
        """The value and the states when some rows have been updated, step by step as the rule says."""
        whole = [array.copy() for array in (self.value, *self.states)]
        found = results(self.rule, whole[0][rows], self.gradient, [state[rows] for state in whole[1:]], self.scalars[0])
        for array, result in zip(whole, found, strict=True):
            array[rows] = result
        return whole


def results(
    rule: Rule, value: Array, gradient: Array, states: Sequence[Array], scalars: Sequence[float] | Array
) -> list[Array]:
    """What the steps of a rule make of rows and of their states, in the dtype of the rows."""
    dtype, registers = value.dtype, [value, gradient, *states]
    registers += [np.full((1, 1), number, dtype) for number in (*scalars, *rule.literals)]
    for step in rule.steps:
        operands = [registers[number] for number in step.operands]
        if step.kernel == "row_mean":
            registers.append(np.broadcast_to(operands[0], value.shape).mean(axis=1, keepdims=True))
        else:
            registers.append(ELEMENTWISE[step.kernel](*operands).astype(dtype))
    return [registers[result] for result in rule.results]


def update_of(name: str, shape: tuple[int, int], draw: Callable[[tuple[int, int]], Array], touched: int) -> Update:
    """A rule on what is drawn, of which so many rows have a gradient."""
    dtype = draw((1, 1)).dtype
    (group,) = RULES[name]([wyrm.ParameterNode(np.zeros((1, 1)), dtype=dtype.name)]).groups
    states = [draw((shape[0], 1 if state.per == "row" else shape[1])) for state in group.rule.states]
    return Update(group.rule, group.scalars.copy(), draw(shape), states, draw((touched, shape[1])))


def run_update(context: Context, kernel: str, update: Update, row: int, gap: int) -> list[Array]:
    """The value and the states after a program of one instruction, ``update`` or ``update_rows``."""
    rule, dtype, (rows, cols) = update.rule, update.value.dtype.name, update.value.shape
    kept: list[Any] = [aligned(array.shape, dtype) for array in (update.value, *update.states)]
    for array, given in zip(kept, (update.value, *update.states), strict=True):
        array[...] = given
    scalars = aligned(update.scalars.shape, dtype)
    scalars[...] = update.scalars
    buffers = [Buffer("real"), Buffer("index"), Buffer("value", 0), *(Buffer("state", 0, rule.key(s)) for s in rule.states)]
    beside = [Slot(3 + n, 0, state.shape, state.shape[1]) for n, state in enumerate(update.states)]
    beside.append(Slot(len(buffers), 0, scalars.shape, scalars.shape[1]))
    buffers.append(Buffer("scalars", 0))
    arrays = [*kept, scalars]
    if rule.catch_up is not None:
        caught = rule.catch_up
        decay, momentum = (0.0 if place is None else float(scalars[0, place]) for place in (caught.decay, caught.momentum))
        arrays.append(Clock(rows, decay, momentum, caught.rate, -1 if caught.state is None else caught.state))
        beside.append(Slot(len(buffers), 0, (rows, 1), 1))
        buffers.append(Buffer("clock", 0))
    stride = cols + gap
    gradient = Slot(0, 0, update.gradient.shape, stride)
    operands = (gradient,) if kernel == "update" else (Slot(1, 0, (1, 1), 1), gradient)
    instruction = Instruction(kernel, Slot(2, 0, (rows, cols), cols), (*operands, *beside), (("rule", rule),))
    program = Program(
        "interactive",
        dtype,
        tuple(buffers),
        real_length=len(update.gradient) * stride,
        index_length=1,
        parameters=(ParameterSlot((rows, cols)),),
        forward=(instruction,),
    )
    memory = Memory(program, [*Memory.own(program), *arrays])
    poison(memory.buffers[0])
    matrix(memory.buffers[0], gradient)[...] = update.gradient
    memory.buffers[1][:1] = row
    context.require(f"{kernel} returns 0", context.backend.compile(program).bind(memory).forward(Leaves(1)) == 0)
    return kept


def _compare(context: Context, name: str, draw: Callable[[tuple[int, int]], Array], trial: Trial, tolerance: float) -> None:
    """Both kernels by one rule: all rows, and one of them, of which there are as many as there are."""
    (rows, cols), gap = trial
    for kernel, row in (("update", -1), ("update_rows", int(context.rng.integers(rows - 1 - rows // 8, rows)))):
        update = update_of(name, (rows, cols), draw, rows if row < 0 else 1)
        exact = update.after(slice(None) if row < 0 else slice(row, row + 1))
        context.case(f"{KERNELS[kernel].formula}, of {name}", value=update.value, gradient=update.gradient)
        found = run_update(context, kernel, update, row, gap)
        label = f"by {kernel} of {name} in {update.value.dtype}, {rows} × {cols}, {gap} elements between rows"
        for what, actual, expected in zip(("value", *(s.name for s in update.rule.states)), found, exact, strict=True):
            context.compare(f"the {what} {label}", actual, expected, tolerance)


def _positive(rng: np.random.Generator, dtype: str, shape: tuple[int, int]) -> Array:
    return np.asarray(rng.uniform(0.5, 1, shape), dtype)


def _of_all_kinds(rng: np.random.Generator, dtype: str, shape: tuple[int, int]) -> Array:
    denormal = np.array(rng.choice([1e-40, -1e-40]), dtype)
    return np.where(rng.random(shape) < 0.1, denormal, special(rng, shape, dtype))


def _bound(cols: int, dtype: str) -> float:
    """A few roundings; of a sum over a long row, whose terms are alike, the error grows with the root of their number."""
    return 40 * max(1.0, math.sqrt(cols) / 8) * float(np.finfo(dtype).eps)


@check(
    "kernels/updates", "core", "updates find the rows of their gradients, and of no others, with gaps and without", at_least=500
)
def check_updates(context: Context) -> None:
    """Every rule in some shapes, two of them, of which one has a number for each row, in all."""
    rng = context.rng
    few: Sequence[Trial] = [Trial((4, cols), gap) for cols in (1, 5, 16, 33) for gap in (0, 2)]
    for dtype in context.dtypes:
        draw = partial(_positive, rng, dtype)
        for name in RULES:
            everywhere = name in ("adagrad", "rowwise adagrad")
            trials = (
                (*few, *shapes(rng)[-3:], *long_shapes(rng, few=True))
                if everywhere
                else (few[int(rng.integers(8))], *shapes(rng)[-2:])
            )
            for trial in trials:
                _compare(context, name, draw, trial, _bound(trial.shape[1], dtype))


@check(
    "kernels/rules",
    "core",
    "rules give what their steps say, of zeros, infinities, NaN and denormal numbers as well, one element by one",
    at_least=5000,
)
def check_rules(context: Context) -> None:
    """Every rule on values, gradients and states of all kinds; of states, some that no optimizer would come to."""
    with np.errstate(all="ignore"):
        for dtype in context.dtypes:
            for name in RULES:
                for trial in (Trial((6, 1)), Trial((9, 35)), Trial((19, 17), 0)):
                    _compare(context, name, partial(_of_all_kinds, context.rng, dtype), trial, 1e-4)
