"""Updates, kernel by kernel: which rows of gradients, parameters and states they take."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np

from wyrm import optim
from wyrm.kernels import KERNELS
from wyrm.memory import Leaves, Memory, aligned
from wyrm.program import Buffer, Instruction, ParameterSlot, Program, Rule, Slot
from wyrm_conformance.check import Context, check
from wyrm_conformance.formulas import ELEMENTWISE
from wyrm_conformance.kernels import matrix, poison


@check(
    "kernels/updates", "core", "updates find the rows of their gradients, and of no others, with gaps and without", at_least=500
)
def check_updates(context: Context) -> None:
    """``update`` and ``update_rows`` by two rules, one of them with a number for each row, in programs of one instruction."""
    kernels = SimpleNamespace(**ELEMENTWISE, row_mean=lambda a: a.mean(axis=1, keepdims=True))
    for dtype in context.dtypes:
        for cols, gap, optimizer in product((1, 5, 16, 33), (0, 2), (optim.Adagrad, optim.RowwiseAdagrad)):
            rule = optimizer.rule(frozenset({"learning_rate", "eps"}))
            width = 1 if rule.states[0].per == "row" else cols
            whole = {"value": context.rng.uniform(0.5, 1, (4, cols)), "sum": context.rng.uniform(0.5, 1, (4, width))}
            scalars, gradient = np.array([[0.125, 0.25]], dtype), context.rng.uniform(0.5, 1, (4, cols)).astype(dtype)
            for name, touched in (("update", np.arange(4)), ("update_rows", np.array([2]))):
                value, total = (aligned(array.shape, dtype) for array in whole.values())
                value[...], total[...] = whole.values()
                exact, sums = (array.astype(np.float64) for array in (value, total))
                state, scalar = SimpleNamespace(sum=sums[touched]), SimpleNamespace(learning_rate=0.125, eps=0.25)
                rows = gradient[: len(touched)].astype(np.float64)
                exact[touched], states = optimizer.update(kernels, exact[touched], rows, state, scalar)
                sums[touched] = states["sum"]
                context.case(KERNELS[name].formula, value=value, gradient=gradient, sum=total)
                program = _of_one_update(name, rule, dtype, cols, gap, width)
                memory = Memory(program, [*Memory.own(program), value, total, scalars])
                poison(memory.buffers[0])
                matrix(memory.buffers[0], Slot(0, 0, gradient.shape, cols + gap))[...] = gradient
                memory.buffers[1][:1] = touched[-1]
                context.require(f"{name} returns 0", context.backend.compile(program).bind(memory).forward(Leaves(1)) == 0)
                label = f"by {name} of {optimizer.__name__} in {dtype}, {gap} elements between rows"
                context.compare(f"the value {label}", value, exact, 20 * float(np.finfo(dtype).eps))
                context.compare(f"the sum {label}", total, sums, 20 * float(np.finfo(dtype).eps))


def _of_one_update(name: str, rule: Rule, dtype: str, cols: int, gap: int, width: int) -> Program:
    """A program that updates four rows, or the one that an index names."""
    stride = cols + gap
    given = (Slot(0, 0, (4, cols), stride),) if name == "update" else (Slot(1, 0, (1, 1), 1), Slot(0, 0, (1, cols), stride))
    beside = (Slot(3, 0, (4, width), width), Slot(4, 0, (1, 2), 2))
    instruction = Instruction(name, Slot(2, 0, (4, cols), cols), (*given, *beside), (("rule", rule),))
    buffers = (Buffer("real"), Buffer("index"), Buffer("value", 0), Buffer("state", 0, "sum"), Buffer("scalars", 0))
    return Program(
        "interactive",
        dtype,
        buffers,
        real_length=4 * stride,
        index_length=1,
        parameters=(ParameterSlot((4, cols)),),
        forward=(instruction,),
    )
