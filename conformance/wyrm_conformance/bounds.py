"""Bounds: no kernel reads or writes beside its operands, where there may be no memory.

Operands are put, one after the other, right before a page that must not be touched. To touch it ends the process; so what is
tried is tried in one that is forked for it, where the system has such processes.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from wyrm.kernels import KERNELS
from wyrm.leaves import Leaves
from wyrm.memory import GradientBuffer, Memory, address
from wyrm.program import Attributes, Buffer, Instruction, ParameterSlot, Program, Shape, Slot
from wyrm_conformance.applying import matrix
from wyrm_conformance.check import Array, Context, check

__all__ = ["guarded"]

#: Rows and columns of operands, and how deep products are: around the widths of vectors.
SIZES: tuple[tuple[int, int, int], ...] = ((1, 16, 8), (1, 65, 9), (3, 33, 4), (5, 7, 16), (8, 130, 3), (2, 1, 33))
CALLABLE = ("add", "multiply", "exp", "tanh", "sigmoid", "softplus", "power", "select", "copy")


class Call(NamedTuple):
    """A kernel on operands of some shapes, the result's first."""

    kernel: str
    shapes: tuple[Shape, ...]
    attributes: Attributes = ()


def calls(known: frozenset[str]) -> list[Call]:
    """What is tried: elementwise kernels, those over rows, and products, each way round; optional ones that are declared."""
    found = []
    for rows, cols, depth in SIZES:
        shape = rows, cols
        found += [Call(kernel, (shape,) * (1 + len(KERNELS[kernel].operands))) for kernel in CALLABLE]
        found += [Call("sum", ((rows, 1), shape)), Call("sum", ((1, cols), shape)), Call("row_max", ((rows, 1), shape))]
        found += [
            Call("transpose", ((cols, rows), shape)),
            Call("softmax", (shape, shape)),
            Call("logsumexp", ((rows, 1), shape)),
        ]
        found += [Call("row_dot", ((rows, 1), shape, shape)), Call("lstm_cell", ((rows, 7 * cols), (rows, 4 * cols), shape))]
        for turns in ((False, False), (True, False), (False, True), (True, True)):
            a, b = ((rows, depth)[:: -1 if turns[0] else 1], (depth, cols)[:: -1 if turns[1] else 1])
            pair: tuple[Shape, Shape] = ((a[0], a[1]), (b[0], b[1]))
            found.append(Call("matmul", (shape, *pair), (("transpose_a", turns[0]), ("transpose_b", turns[1]))))
    return [call for call in found if not KERNELS[call.kernel].optional or call.kernel in known]


def guarded(count: int, dtype: str, behind: bool = False) -> Any:
    """So many elements, all 0, right before a page that must not be touched; or right behind one."""
    size, page = count * np.dtype(dtype).itemsize, mmap.PAGESIZE
    whole = -(-size // page) * page
    memory = mmap.mmap(-1, whole + page)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(begin if behind else begin + whole, page, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return np.frombuffer(memory, dtype, count, page if behind else whole - size)


def _run(context: Context, call: Call, last: int, dtype: str, allocate: Callable[[int, str], Any]) -> Array:
    """The result of a call, with one of its slots at the end of the buffer, which is as long as alignment wants."""
    order = [n for n in range(len(call.shapes)) if n != last] + [last]
    length = sum(rows * cols for rows, cols in call.shapes)
    offset = -length % 16
    length += offset
    slots = dict[int, Slot]()
    for n in order:
        rows, cols = call.shapes[n]
        slots[n] = Slot(0, offset, (rows, cols), cols)
        offset += rows * cols
    out, *operands = (slots[n] for n in range(len(slots)))
    instruction = Instruction(call.kernel, out, tuple(operands), call.attributes)
    buffers = (Buffer("real"), Buffer("index"))
    program = Program("evaluate", dtype, buffers, real_length=length, forward=(instruction,))
    real = allocate(length, dtype)
    real[:] = np.linspace(0.25, 0.75, length)
    memory = Memory(program, [real, Memory.own(program)[1]])
    context.backend.compile(program).bind(memory).forward(Leaves(1))
    result: Array = matrix(real, out).copy()
    return result


def _merge(context: Context, numbers: Sequence[int], dtype: str, allocate: Callable[..., Any], **where: bool) -> float:
    """The sum of squares of a gradient that is a list of rows, all of ones, whose numbers and values fill their memory."""
    gradient, count = GradientBuffer((9, 3), dtype), len(numbers)
    gradient.reserve(count)
    gradient.row_numbers, gradient.row_values = (
        allocate(count, "int64", **where),
        allocate(3 * count, dtype, **where).reshape(-1, 3),
    )
    gradient.row_numbers[:], gradient.row_values[:] = numbers, 1
    gradient.header[2:6] = count, count, address(gradient.row_numbers), address(gradient.row_values)
    out, given = Slot(0, 0, (1, 1), 1), Slot(2, 0, (9, 3), 3)
    buffers = (Buffer("real"), Buffer("index"), Buffer("gradient", 0))
    instruction = Instruction("square_sum", out, (given,))
    parameters = (ParameterSlot((9, 3)),)
    program = Program("interactive", dtype, buffers, real_length=1, parameters=parameters, forward=(instruction,))
    memory = Memory(program, [*Memory.own(program), gradient])
    context.backend.compile(program).bind(memory).forward(Leaves(1))
    return float(memory.buffers[0][0])


def _in_a_process_of_its_own(steps: Sequence[Callable[[], Any]]) -> tuple[int, bool] | None:
    """Which step ended a process in which all are made, and whether by a signal; ``None`` where none did."""
    reached = mmap.mmap(-1, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what other threads hold is not needed here
        child = os.fork()
    if not child:
        try:
            faulthandler.disable()
            for n, step in enumerate(steps):
                reached[:8] = n.to_bytes(8, "little")
                step()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return (int.from_bytes(reached[:8], "little"), os.WIFSIGNALED(status)) if status else None


@check(
    "contract/bounds", "core", "kernels read and write nothing beside their operands", section="wyrm/backend.py", at_least=200
)
def check_bounds(context: Context) -> None:
    """Every call with every operand in the last place: as everywhere else, and then before the end of memory.

    Lists of rows, in and out of order, that are merged: before the end, and behind where memory begins.
    """
    cases = [
        (call, last, dtype)
        for dtype in context.dtypes
        for call in calls(context.backend.capabilities.kernels)
        for last in range(len(call.shapes))
    ]
    for call, last, dtype in cases:  # whatever is compiled, is now
        result = _run(context, call, last, dtype, np.zeros)
        context.require(f"{call.kernel} of {call.shapes[1:]} in {dtype} gives numbers", bool(np.isfinite(result).all()))
    lists = [([1, 4, 8], dtype) for dtype in context.dtypes] + [
        (context.rng.integers(0, 9, count).tolist(), dtype) for count in (2, 5, 7, 16) for dtype in context.dtypes
    ]
    for numbers, dtype in lists:
        total = float(3 * (np.bincount(numbers) ** 2).sum())
        context.compare(
            f"square_sum of rows {numbers}", np.array([_merge(context, numbers, dtype, np.zeros)]), np.array([total]), 0
        )
    if not hasattr(os, "fork"):
        return
    merges = [
        partial(_merge, context, numbers, dtype, guarded, behind=behind) for behind in (False, True) for numbers, dtype in lists
    ]
    ended = _in_a_process_of_its_own(merges)
    if ended is not None:
        side = "behind" if ended[0] < len(lists) else "before"
        raise context.failure(f"square_sum of rows {lists[ended[0] % len(lists)][0]} reached {side} the memory of their list")
    ended = _in_a_process_of_its_own([partial(_run, context, *case, guarded) for case in cases])
    if ended is not None:
        (call, last, dtype), signaled = cases[ended[0]], ended[1]
        which = "its result" if not last else f"its operand {KERNELS[call.kernel].operands[last - 1]!r}"
        how = "went on behind" if signaled else "raised an exception beside the end of"
        raise context.failure(f"{call.kernel} of {call.shapes[1:]} in {dtype} {how} the memory that ends with {which}")
