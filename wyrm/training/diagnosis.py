"""Where a loss became NaN or infinite: the example is run once more on the reference backend, keeping every node's value.

What is looked for is the first node, in the order of computation, whose value is not finite though its operands are, among
those that the loss owes its value to. Random numbers are the same as in the run: they depend on the example and the
steps made. Nothing that belongs to the user changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import NotFiniteError, WyrmError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.node import Node
from wyrm.frontend.op import INPUTS, PARAMETER, Op
from wyrm.frontend.ops.lookups import INDEX_MEAN, INDEX_SUM, LOOKUP
from wyrm.memory import BagBuffer, BagSource, GradientBuffer, Leaves, Memory, Source
from wyrm.program import Slot
from wyrm.selection import get_backend
from wyrm.training.models import seen_from

__all__ = ["diagnosed"]

Array = npt.NDArray[Any]
#: Ops that read some rows of their first operand, named by their second.
_LOOKUPS = (LOOKUP, INDEX_SUM, INDEX_MEAN)


def diagnosed(
    error: NotFiniteError, epoch: int, loss: Node, sources: Sequence[Source], examples: Sequence[int], first_step: int
) -> NotFiniteError:
    """The same error, with the epoch and, where it can be found, the node where it began.

    Parameters
    ----------
    error
        From the runner.
    loss
        What was trained.
    sources
        Of the inputs of its program, in order.
    examples
        Those of the run: several where they are rows.
    first_step
        That of the runner: random numbers are those of step ``first_step`` plus the first example.
    """
    message, node = f"fit, epoch {epoch}: {error}", None
    if len(examples) > 1:
        message = f"{message} (the first of {len(examples)} examples that share a run, of which the loss is the sum)"
    try:
        node, story = _Rerun(loss, sources, examples, first_step).origin()
        message = f"{message}. {story}"
    except (WyrmError, MemoryError) as failure:
        message = f"{message}. Where it began could not be found out: {failure}"
    return NotFiniteError(message, epoch=epoch, example=error.example, node=node)


class _Rerun:
    """One run on the reference backend."""

    def __init__(self, loss: Node, sources: Sequence[Source], examples: Sequence[int], first_step: int) -> None:
        self.loss = loss
        self.trace, self.structures, _ = trace([loss._structure])
        backend = get_backend("reference")
        self.program = program = lower(self.trace, "interactive", backend.capabilities.kernels)
        self.parameters = [self.structures[n].live_parameter() for n in self.trace.leaves(PARAMETER)]
        buffers: list[Any] = Memory.own(program)
        for buffer in program.buffers[2:]:
            if buffer.kind == "bag":
                bag = BagBuffer(program.inputs[buffer.number].slot.shape[0], program.dtype)
                taken = _bags(sources[buffer.number], examples, bag)
                bag.reserve(max(1, int(np.sum(taken.ends - taken.begins))))
                buffers.append(bag)
            elif buffer.kind == "gradient":
                gradient = GradientBuffer(program.parameters[buffer.number].shape, program.dtype)
                gradient.header[10] = first_step + examples[0]
                buffers.append(gradient)
            else:
                buffers.append(self.parameters[buffer.number].storage.value)
        self.memory = Memory(program, buffers)
        leaves = Leaves(max(1, len(program.inputs)))
        for number, source in zip(range(len(program.inputs)), sources, strict=False):
            self._set(leaves, number, source, examples)
        self.status = compiled(program, backend).bind(self.memory, range(len(program.inputs))).forward(leaves)

    def _set(self, leaves: Leaves, number: int, source: Source, examples: Sequence[int]) -> None:
        """Let a cell hold an input's value for the examples."""
        expected = self.program.inputs[number]
        if source.bags is not None:
            leaves.set_bags(number, _bags(source, examples, self.memory.buffers[expected.slot.buffer]))
            return
        row = (source.array[0] if source.constant else source.rows(list(examples))).reshape(-1)
        if expected.kind == "dense" and expected.slot.shape == (1, 1):
            leaves.reals[number] = float(row[0])
        elif expected.kind == "index" and expected.slot.shape == (1, 1):
            leaves.indices[number] = int(row[0])
        else:
            dtype = self.program.dtype if expected.kind == "dense" else "int64"
            leaves.set_array(number, np.ascontiguousarray(row, dtype))

    def value(self, number: int) -> Array:
        """What was computed for a record of the trace; of bags, the weights."""
        slot: Slot = self.program.values[number]
        buffer = self.memory.buffers[slot.buffer]
        if isinstance(buffer, BagBuffer):
            weights: Array = buffer.weights[: buffer.count].reshape(1, -1)
            return weights
        flat = buffer.reshape(-1)[slot.offset :]
        return np.lib.stride_tricks.as_strided(flat, slot.shape, (slot.stride * flat.itemsize, flat.itemsize))

    def _operand(self, number: int, operand: int) -> Array:
        """What a record reads of an operand: of a table that is looked up, the rows that it names."""
        record = self.trace.records[number]
        table = self.value(operand)
        if record.op not in _LOOKUPS or operand != record.operands[0]:
            return table
        slot = self.program.values[record.operands[1]]
        buffer = self.memory.buffers[slot.buffer]
        rows = buffer.indices[: buffer.count] if isinstance(buffer, BagBuffer) else self.value(record.operands[1])[:, 0]
        result: Array = table[rows]
        return result

    def origin(self) -> tuple[str | None, str]:
        """The label of the node where it began, and a sentence about it."""
        root = self.trace.roots[0]
        if self.status or np.isfinite(self.value(root)).all():
            return None, (
                "Run again on the reference backend, with the parameters as they are now, it is finite: other threads have "
                "changed them, or it is at the edge of what the dtype can hold"
            )
        begins, waiting, seen = [], [root], {root}
        while waiting:
            number = waiting.pop()
            operands = self.trace.records[number].operands
            culprits = [n for n in operands if not np.isfinite(self._operand(number, n)).all()]
            begins += [] if culprits else [number]
            waiting += [n for n in culprits if n not in seen]
            seen.update(culprits)
        return self._told(min(begins))

    def _told(self, number: int) -> tuple[str, str]:
        nodes = self.loss._ancestors()
        structures = [seen_from(self.loss, node) for node in nodes]
        place = structures.index(self.structures[number])
        label, value = nodes[place]._label(), self.value(number)
        row, column = (int(n[0]) for n in np.nonzero(~np.isfinite(value)))
        what = f"is {value[row, column]}" if value.size == 1 else f"has {value[row, column]} at ({row}, {column})"
        record = self.trace.records[number]
        if record.op is PARAMETER:
            return label, f"It began before: {label} {what}; an earlier update made it so, or its first value"
        if record.op in INPUTS:
            return label, f"It began with the data: {label} {what} in this example"
        assert isinstance(record.op, Op)
        operands = [self._operand(number, n) for n in record.operands]
        extremes = " and ".join(_extremes(operand) for operand in operands if operand.size and operand.dtype.kind == "f")
        return label, f"It began at {label}, node {place} in wyrm.draw(loss), which {what}; its operands are finite: {extremes}"


def _extremes(values: Array) -> str:
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _bags(source: Source, examples: Sequence[int], bag: BagBuffer) -> BagSource:
    """The bags of examples, as a source of their own."""
    assert source.bags is not None
    found = source.bags
    each = (len(bag.offsets) - 1) // len(examples)
    bags = [b for example in examples for b in range(example * each, (example + 1) * each)]
    return BagSource(found.values, found.begins[bags], found.ends[bags], found.weights)
