"""Which programs are short: a pass takes no longer than it takes to let other threads of Python work meanwhile, and to go on.

Native backends keep Python's lock (the GIL) in such passes, and then nobody can meet them at work.
"""

from __future__ import annotations

from math import prod

from wyrm.program import Instruction, Program

__all__ = ["is_short"]

#: Of a short program, the elements that it handles at most; they take a few microseconds.
_MOST_ELEMENTS = 20_000
#: How many multiply-adds of a product count as one element: their operands are in registers, or near.
_PRODUCTS = 8
#: Which of a kernel's result and operands are tables, or gradients, of which some rows are touched.
_TABLES = {"gather": (1,), "accumulate_rows": (0,), "current_rows": (1, 2), "tick": (0, 1)}


def is_short(program: Program) -> bool:
    """Whether passes of a program take so short a time that other threads need not wait less.

    How long draws and bags take is not known before.
    """
    if any(buffer.kind == "bag" for buffer in program.buffers):
        return False
    elements = 0
    for instruction in program.instructions:
        if instruction.kernel == "draw":
            return False
        elements += _elements(instruction)
        if elements > _MOST_ELEMENTS:
            return False
    return True


def _elements(instruction: Instruction) -> int:
    sizes = [prod(slot.shape) for slot in (instruction.out, *instruction.operands)]
    for table in _TABLES.get(instruction.kernel, ()):
        sizes[table] = 0
    attributes = dict(instruction.attributes)
    if instruction.kernel == "matmul":
        depth = instruction.operands[0].shape[0 if attributes["transpose_a"] else 1]
        return sizes[0] * depth // _PRODUCTS
    chain = attributes.get("chain")
    return sum(sizes) * (1 if chain is None else len(chain.steps))
