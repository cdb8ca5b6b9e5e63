"""Elementwise instructions as code: chains, and single kernels as chains of one step.

An instruction of one element becomes a few lines of numbers; any other a loop over vectors, whose last one is a part. All
operands are read before any result is stored, because results may stand where operands do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from wyrm.backend import Instruction
from wyrm.program import Chain

__all__ = ["as_chain", "as_fused", "chain_source", "step_source"]


def as_fused(instruction: Instruction) -> Instruction:
    """The chain that does what an elementwise instruction does."""
    kernel, out, operands, _, accumulate, _ = instruction
    if kernel == "fused":
        return instruction
    chain = _chain(kernel, len(operands), accumulate)
    return Instruction("fused", out, (*operands, out) if accumulate else operands, (("chain", chain),))


@lru_cache(None)
def _chain(kernel: str, operands: int, accumulate: bool) -> Chain:
    """A single step; what is there is one more operand, if it is to be added to that."""
    step = kernel, tuple(range(operands))
    if accumulate:
        return Chain(operands + 1, (step, ("add", (operands, operands + 1))), (operands + 2,))
    return Chain(operands, (step,), (operands,))


def as_chain(instruction: Instruction) -> Chain:
    """What an elementwise instruction computes."""
    chain: Chain | None = dict(instruction.attributes).get("chain")
    return _chain(instruction.kernel, len(instruction.operands), False) if chain is None else chain


def chain_source(instruction: Instruction) -> str:
    """The body of a kernel ``kernel(p)`` for an instruction, in a module that defines ``ZERO``."""
    chain = as_chain(instruction)
    lines = _single(chain, instruction) if instruction.out.shape == (1, 1) else _rows(chain, instruction)
    return "\n".join(f"    {line}" for line in lines)


def step_source(kernel: str, operands: Iterable[str]) -> str:
    """What a step computes, of operands by name."""
    return f"elements.{kernel}({', '.join(operands)})"


def _steps(chain: Chain) -> Iterator[str]:
    for n, (kernel, operands) in enumerate(chain.steps, chain.operands):
        yield f"r{n} = {step_source(kernel, map('r{}'.format, operands))}"


def _single(chain: Chain, instruction: Instruction) -> Iterator[str]:
    results = len(chain.results)
    for n in range(chain.operands):
        yield f"r{n} = load(word(p, {4 + 4 * (results + n)}), 0, ZERO)"
    guard = chain.guard
    for n, line in enumerate(_steps(chain), chain.operands):
        yield line
        if n == guard:
            yield f"store(word(p, {4 + 4 * chain.results.index(n)}), 0, r{n})"
            yield f"if not math.isfinite(r{n}):"
            yield "    return"
    for n, register in enumerate(chain.results):
        if register != guard:
            target = f"word(p, {4 + 4 * n})"
            value = f"elements.add(load({target}, 0, ZERO), r{register})" if instruction.accumulate else f"r{register}"
            yield f"store({target}, 0, {value})"


def _rows(chain: Chain, instruction: Instruction) -> Iterator[str]:
    results, shape = len(chain.results), instruction.out.shape
    read = instruction.operands[results - 1 :]
    single = [n for n, slot in enumerate(read) if slot.shape == (1, 1) or (slot.shape[1] == 1 and shape[1] != 1)]
    yield "n, vector = word(p, 6), many(ZERO)"
    yield "for i in range(word(p, 5)):"
    for n in range(results):
        yield f"    to{n} = row(p, {n}, i, ZERO)"
    for n in range(chain.operands):
        if n in single:
            yield f"    r{n} = many(load(row(p, {results + n}, i, ZERO), 0, ZERO))"
        else:
            yield f"    from{n} = row(p, {results + n}, i, ZERO)"
    whole = [n for n in range(chain.operands) if n not in single]
    yield "    j = 0"
    yield "    while j + lanes(vector) <= n:"
    for line in _vector(chain, instruction, whole, "load({}, j, vector)", "store({}, j, {})"):
        yield f"        {line}"
    yield "        j += lanes(vector)"
    yield "    if j < n:"
    for line in _vector(chain, instruction, whole, "load_part({}, j, n - j, vector)", "store_part({}, j, n - j, {})"):
        yield f"        {line}"


def _vector(chain: Chain, instruction: Instruction, whole: list[int], load: str, store: str) -> Iterator[str]:
    for n in whole:
        yield f"r{n} = {load.format(f'from{n}')}"
    yield from _steps(chain)
    for n, register in enumerate(chain.results):
        value = f"elements.add({load.format(f'to{n}')}, r{register})" if instruction.accumulate else f"r{register}"
        yield store.format(f"to{n}", value)
