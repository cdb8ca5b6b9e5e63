"""Faulty chains, and rows that are read where they stand: of a subject that declares both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wyrm.backend import Executable, Order, Pass, Runner
from wyrm.kernel_steps import KernelFunction
from wyrm.memory import Memory, Sink, Source
from wyrm.program import Chain, Program
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import CAPABILITIES, KERNELS, Subject, backend_fault, correct_backend

__all__ = ["with_chains"]

_STEPS: dict[str, KernelFunction] = {
    **KERNELS,
    "copy": lambda a: a.copy(),
    "multiply_add": lambda a, b, c: a * b + c,
    "multiply_subtract": lambda a, b, c: c - a * b,
}


def _registers(chain: Chain, read: Sequence[Array], shape: tuple[int, ...]) -> list[Array]:
    registers = [np.broadcast_to(operand, shape) for operand in read]
    for kernel, operands in chain.steps:
        registers.append(np.asarray(_STEPS[kernel](*(registers[n] for n in operands)), read[0].dtype))
    return registers


def fused(*operands: Array, chain: Chain) -> Array:
    """Correct: results are stored when all has been read, and behind a guard only where the loss is finite."""
    further, read = operands[: len(chain.results) - 1], operands[len(chain.results) - 1 :]
    registers = _registers(chain, read, np.broadcast_shapes(*(operand.shape for operand in read)))
    if chain.guard is None or np.isfinite(registers[chain.guard]).all():
        for target, register in zip(further, chain.results[1:], strict=True):
            target[...] = registers[register]
    return registers[chain.results[0]]


class _Rows(Executable):
    """Rows are copied to where the program reads them before each run, and back after it."""

    def __init__(self, inner: Executable, copies: Callable[[Array, Array, int], None], back: Callable[..., None]) -> None:
        super().__init__(inner.program)
        self.inner, self.copies, self.back = inner, copies, back

    def bind(self, memory: Memory, cells: Sequence[int] = ()) -> Pass:
        return self.inner.bind(memory, cells)

    def bind_feed(self, memory: Memory, sources: Sequence[Source], sinks: Sequence[Sink] = (), examples: int = 1) -> Runner:
        buffers = list(memory.buffers)
        rows = []
        for n, buffer in enumerate(self.program.buffers):
            if buffer.table is not None:
                table = buffers[self.program.buffers.index(buffer.table)]
                buffers[n] = np.zeros((1, table.shape[1]), table.dtype)
                rows.append((table, buffers[n], sources[buffer.number]))
        bound = replace(memory, buffers=buffers)
        return _RowRunner(self, self.inner.bind_feed(bound, sources, sinks, examples), rows)


class _RowRunner(Runner):
    def __init__(self, executable: _Rows, inner: Runner, rows: list[tuple[Array, Array, Source]]) -> None:
        self.executable, self.inner, self.rows = executable, inner, rows

    def run(self, order: Order, start: int, stop: int) -> int:
        self.inner.first_step, self.inner.loss, status = self.first_step, self.loss, 0
        for position in range(start, stop):
            numbers = [int(source.rows(order[position, 0])[0]) for _, _, source in self.rows]
            for (table, row, _), number in zip(self.rows, numbers, strict=True):
                self.executable.copies(row, table, number)
            status = status or self.inner.run(order, position, position + 1)
            for (table, row, _), number in zip(self.rows, numbers, strict=True):
                self.executable.back(table, row, number)
        self.loss = self.inner.loss
        return status


def _copy(row: Array, table: Array, number: int) -> None:
    row[0] = table[number]


def _back(table: Array, row: Array, number: int) -> None:
    table[number] = row[0]


def with_chains(
    copies: Callable[[Array, Array, int], None] = _copy, back: Callable[..., None] = _back, **kernels: KernelFunction
) -> Any:
    """The subject with chains and with rows where they stand; correct, unless something else is given."""

    class Chaining(Subject):
        def compile(self, program: Program) -> Executable:
            return _Rows(super().compile(program), copies, back)

    capabilities = replace(CAPABILITIES, kernels=CAPABILITIES.kernels | {"fused", "lookup"})
    brought: dict[str, KernelFunction] = {"fused": fused, "lookup": np.copy, **kernels}
    return correct_backend(Chaining, capabilities, **brought)


def _too_early(*operands: Array, chain: Chain) -> Array:
    """Stores each result as soon as it is known."""
    further, read = operands[: len(chain.results) - 1], operands[len(chain.results) - 1 :]
    registers = list(read)
    for n, (kernel, places) in enumerate(chain.steps, chain.operands):
        registers.append(np.asarray(_STEPS[kernel](*(registers[p] for p in places)), read[0].dtype))
        if n in chain.results[1:]:
            further[chain.results.index(n) - 1][...] = registers[n]
    return registers[chain.results[0]]


def _in_vectors(*operands: Array, chain: Chain) -> Array:
    """The last element of long rows is left out."""
    result = np.array(fused(*operands, chain=chain))
    result[:, 64:] = 0
    return result


backend_fault("a chain stores results before all is read", "kernels/fused", make=lambda: with_chains(fused=_too_early))
backend_fault("chains end after 64 columns", "kernels/fused", make=lambda: with_chains(fused=_in_vectors))
backend_fault(
    "the guard of a chain is not heeded",
    "kernels/fused",
    make=lambda: with_chains(fused=lambda *operands, chain: fused(*operands, chain=replace(chain, guard=None))),
)
backend_fault(
    "a row's address is that of the first example's",
    "kernels/lookup",
    make=lambda: with_chains(lambda row, table, number: None if row.any() else _copy(row, table, number)),
)
backend_fault(
    "a row is changed at the place after its own",
    "kernels/lookup",
    make=lambda: with_chains(back=lambda table, row, number: _back(table, row, (number + 1) % len(table))),
)
