"""Which function of the native library makes a chain."""

from __future__ import annotations

from wyrm.backend import Instruction
from wyrm.native import are_sums
from wyrm.program import Chain

__all__ = ["chain_kernel"]


def chain_kernel(instruction: Instruction) -> str:
    """Its name: there are functions for chains of one element and for chains of sums, and one for any."""
    chain: Chain = dict(instruction.attributes)["chain"]
    if instruction.out.shape == (1, 1):
        return "fused_single"
    return f"fused_sums_{len(chain.steps)}" if are_sums(instruction) else "fused"
