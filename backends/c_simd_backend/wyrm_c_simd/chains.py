"""Which function of the native library makes a chain."""

from __future__ import annotations

from wyrm.backend import Instruction
from wyrm.program import Chain

__all__ = ["chain_kernel"]

#: How many sums one function makes at most; see csrc/kernels/chains.h.
_MOST_SUMS = 4


def chain_kernel(instruction: Instruction) -> str:
    """Its name: there are functions for chains of one element and for chains of sums, and one for any."""
    chain: Chain = dict(instruction.attributes)["chain"]
    if instruction.out.shape == (1, 1):
        return "fused_single"
    return f"fused_sums_{len(chain.steps)}" if _are_sums(instruction, chain) else "fused"


def _are_sums(instruction: Instruction, chain: Chain) -> bool:
    """Whether every step is a sum z + s x or z - s x of what is read, s a number, and every step is a result."""
    first = len(chain.results)
    read = [slot.shape for slot in (instruction.out, *instruction.operands)][first:]
    if chain.results != tuple(range(chain.operands, chain.operands + len(chain.steps))) or len(chain.steps) > _MOST_SUMS:
        return False
    shape = instruction.out.shape
    return all(
        kernel in ("multiply_add", "multiply_subtract")
        and max(operands) < chain.operands
        and [read[o] for o in operands] == [(1, 1), shape, shape]
        for kernel, operands in chain.steps
    )
