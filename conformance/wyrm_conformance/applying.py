"""One instruction as a program, on operands that lie between NaN: what it computes, and that it writes nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, GradientBuffer, Memory
from wyrm.program import Attributes, Buffer, Instruction, ParameterSlot, Program, Shape, Slot
from wyrm_conformance.context import Array, Context

__all__ = ["apply", "matrix", "poison"]


def apply(
    context: Context,
    kernel: str,
    operands: Sequence[Any],
    out: Shape | GradientBuffer,
    dtype: str,
    accumulate: bool = False,
    attributes: Attributes = (),
    gap: int = 2,
) -> Array:
    """One instruction on operands; the result.

    Parameters
    ----------
    operands
        Matrices, of real numbers or of indices; bags; gradients.
    out
        The result's shape, or the gradient that is the result.
    accumulate
        Onto ones.
    gap
        The elements between the rows of the result; between those of each operand there is one more. 0: there are none.
    """
    offset, place, slots = 3, 5, list[Slot]()
    buffers, arrays = [Buffer("real"), Buffer("index")], list[Any]()
    for operand in (out, *operands):
        if isinstance(operand, (BagBuffer, GradientBuffer)):
            shape = operand.shape if isinstance(operand, GradientBuffer) else (len(operand.offsets) - 1, 1)
            buffers.append(Buffer("gradient" if isinstance(operand, GradientBuffer) else "bag", len(arrays)))
            arrays.append(operand)
            slots.append(Slot(len(buffers) - 1, 0, shape, shape[1]))
        elif isinstance(operand, np.ndarray) and operand.dtype == np.int64:
            slots.append(Slot(1, place, operand.shape, 1))
            place += len(operand) + 3
        else:
            rows, cols = operand.shape if isinstance(operand, np.ndarray) else operand
            stride = cols + (gap and gap + len(slots))
            slots.append(Slot(0, offset, (rows, cols), stride))
            offset += rows * stride + 5
    instruction = Instruction(kernel, slots[0], tuple(slots[1:]), attributes, accumulate)
    added = max([len(operand) for operand in operands if isinstance(operand, np.ndarray)], default=0)
    gradients = [array for array in arrays if isinstance(array, GradientBuffer)]
    parameters = tuple(ParameterSlot(gradient.shape, "rows", added) for gradient in gradients)
    program = Program(
        "interactive",
        dtype,
        tuple(buffers),
        real_length=offset,
        index_length=place,
        parameters=parameters,
        forward=(instruction,),
    )
    memory = Memory(program, [*Memory.own(program), *arrays])
    real: Array = memory.buffers[0]
    poison(real)
    memory.buffers[1][:] = -1
    for slot, operand in zip(slots[1:], operands, strict=True):
        if slot.buffer < 2:
            matrix(memory.buffers[slot.buffer], slot)[...] = operand
    if accumulate:
        matrix(real, slots[0])[...] = 1
    before = real.copy()
    status = context.backend.compile(program).bind(memory).forward(Leaves(1))
    context.require(f"{kernel} returns status 0, not {status}", status == 0)
    result: Array = np.zeros(0) if slots[0].buffer else matrix(real, slots[0]).copy()
    for array in () if slots[0].buffer else (real, before):  # whatever it became; the rest must be what it was
        matrix(array, slots[0])[...] = np.nan
    bits = np.dtype(f"u{real.itemsize}")
    touched = np.flatnonzero(real.view(bits) != before.view(bits))
    context.require(f"{kernel} wrote beside its result, at element {touched[:1]} of the buffer", not len(touched))
    return result


def poison(real: Array) -> None:
    """Fill memory with NaN, no two of which have the same bits: what is moved about in vain shows."""
    bits = real.view(f"u{real.itemsize}")
    bits[...] = np.array(np.nan, real.dtype).view(bits.dtype) + 1 + np.arange(len(real), dtype=bits.dtype)


def matrix(real: Array, slot: Slot) -> Array:
    """The matrix that a slot names in a buffer."""
    flat = real[slot.offset :]
    view: Array = np.lib.stride_tricks.as_strided(flat, slot.shape, (slot.stride * flat.itemsize, flat.itemsize))
    return view
