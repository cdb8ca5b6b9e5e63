"""Where a loss or a gradient became NaN or infinite: the example is run once more on the reference backend, keeping all values.

What is looked for is the first node, in the order of computation, whose value is not finite though its operands are, among
those that the loss owes its value to. If the loss is finite, it is the first node, on the way back, whose derivative makes
of a finite gradient one that is not. Random numbers are the same as in the run: they depend on the example and the
steps made. Nothing that belongs to the user changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import NotFiniteError, WyrmError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower_shares
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.node import Node
from wyrm.frontend.op import INPUTS, PARAMETER, Op
from wyrm.frontend.ops.lookups import INDEX_MEAN, INDEX_SUM, LOOKUP
from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, BagSource, GradientBuffer, Memory, Source
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
    what, node, story = "loss, or a gradient,", None, ""
    try:
        what, node, story = _Rerun(loss, sources, examples, first_step).origin()
    except (WyrmError, MemoryError) as failure:
        story = f"Where it began could not be found out: {failure}"
    message = f"fit, epoch {epoch}: the {what} of example {error.example} is NaN or infinite; its update was not applied"
    if len(examples) > 1:
        message = f"{message} (the first of {len(examples)} examples that share a run, of which the loss is the sum)"
    return NotFiniteError(f"{message}. {story}", epoch=epoch, example=error.example, node=node)


class _Rerun:
    """One run on the reference backend."""

    def __init__(self, loss: Node, sources: Sequence[Source], examples: Sequence[int], first_step: int) -> None:
        self.loss = loss
        self.trace, self.structures, _ = trace([loss._structure])
        backend = get_backend("reference")
        self.program, self.shares = lower_shares(self.trace)
        program = self.program
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
                buffers.append(self.parameters[buffer.number].storage.read())
        self.memory = Memory(program, buffers)
        leaves = Leaves(max(1, len(program.inputs)))
        for number, source in zip(range(len(program.inputs)), sources, strict=False):
            self._set(leaves, number, source, examples)
        bags = sum(len(buffer.indices) for buffer in buffers if isinstance(buffer, BagBuffer))
        for buffer, array in zip(program.buffers, buffers, strict=True):
            if buffer.kind == "gradient" and program.parameters[buffer.number].gradient == "rows":
                array.extend(program.parameters[buffer.number].rows_per_pass + bags)
        bound = compiled(program, backend).bind(self.memory, range(len(program.inputs)))
        self.status = bound.forward(leaves) or bound.backward(1.0)

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
        return self._at(self.program.values[number])

    def _at(self, slot: Slot) -> Array:
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

    def origin(self) -> tuple[str, str | None, str]:
        """What is not finite, the label of the node where it began, and a sentence about it."""
        root = self.trace.roots[0]
        if not self.status and np.isfinite(self.value(root)).all():
            for record, operand, gradient, part in self.shares:
                if np.isfinite(self._at(gradient)).all() and not np.isfinite(self._at(part)).all():
                    return "gradient", *self._told_of_gradient(record, operand, self._at(part))
        if self.status or np.isfinite(self.value(root)).all():
            return (
                "loss, or a gradient,",
                None,
                (
                    "Run again on the reference backend, with the parameters as they are now, it is finite: other threads have "
                    "changed them, or it is at the edge of what the dtype can hold"
                ),
            )
        begins, waiting, seen = [], [root], {root}
        while waiting:
            number = waiting.pop()
            operands = self.trace.records[number].operands
            culprits = [n for n in operands if not np.isfinite(self._operand(number, n)).all()]
            begins += [] if culprits else [number]
            waiting += [n for n in culprits if n not in seen]
            seen.update(culprits)
        return "loss", *self._told(min(begins))

    def _named(self, number: int) -> tuple[str, str]:
        """Where a record's node is in a drawing, and its label; of what a composition has made, where its result is."""
        nodes = self.loss._ancestors()
        places = {seen_from(self.loss, node): place for place, node in enumerate(nodes)}
        structure = self.structures[number]
        if structure in places:
            return f"node {places[structure]} in wyrm.draw(loss)", nodes[places[structure]]._label()
        dependent = {number}
        for later in range(number + 1, len(self.trace.records)):
            if not dependent.isdisjoint(self.trace.records[later].operands):
                dependent.add(later)
        place = min(places[self.structures[n]] for n in dependent if self.structures[n] in places)
        return f"which is part of node {place} in wyrm.draw(loss)", f"{structure.op.name} {structure.shape}"

    def _told_of_gradient(self, record: int, operand: int, part: Array) -> tuple[str, str]:
        records = self.trace.records
        place, label = self._named(record)
        reached = {o for _, o, _, share in self.shares if records[o].op is PARAMETER and not np.isfinite(self._at(share)).all()}
        parameters = " and ".join(self._named(number)[1] for number in sorted(reached)) or "no parameter"
        value = self._operand(record, operand)
        by = self._named(operand)[1]
        return label, (
            f"The loss is finite. It began at {label}, {place}, whose derivative by {by} "
            f"{_infinite(part)}; the value there is {_extremes(value)}. It reaches {parameters}. For a loss that has no "
            f"derivative there, keep the operand away from the place, as with maximum or clip"
        )

    def _told(self, number: int) -> tuple[str, str]:
        place, label = self._named(number)
        value = self.value(number)
        what = _infinite(value)
        record = self.trace.records[number]
        if record.op is PARAMETER:
            return label, f"It began before: {label} {what}; an earlier update made it so, or its first value"
        if record.op in INPUTS:
            return label, f"It began with the data: {label} {what} in this example"
        assert isinstance(record.op, Op)
        operands = [self._operand(number, n) for n in record.operands]
        extremes = " and ".join(_extremes(operand) for operand in operands if operand.size and operand.dtype.kind == "f")
        return label, f"It began at {label}, {place}, which {what}; its operands are finite: {extremes}"


def _infinite(value: Array) -> str:
    """Which element of a value is not finite."""
    row, column = (int(n[0]) for n in np.nonzero(~np.isfinite(value)))
    return f"is {value[row, column]}" if value.size == 1 else f"has {value[row, column]} at ({row}, {column})"


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
