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
from wyrm.frontend.node import Node
from wyrm.frontend.op import INPUTS, PARAMETER, Op
from wyrm.frontend.origins import Rerun, extremes, infinite
from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, BagSource, GradientBuffer, Memory, Source
from wyrm.training.models import seen_from

__all__ = ["diagnosed"]

Array = npt.NDArray[Any]


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


class _Rerun(Rerun):
    """One run of a loss on the reference backend."""

    def __init__(self, loss: Node, sources: Sequence[Source], examples: Sequence[int], first_step: int) -> None:
        super().__init__(loss._structure)
        self.loss, program = loss, self.program
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
        self.run(leaves, range(len(program.inputs)))

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

    def origin(self) -> tuple[str, str | None, str]:
        """What is not finite, the label of the node where it began, and a sentence about it."""
        root = self.trace.roots[0]
        if not self.status and np.isfinite(self.value(root)).all():
            found = self.of_gradient()
            if found is not None:
                label, story = found
                return "gradient", label, f"The loss is finite. {story}"
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
            culprits = [n for n in operands if not np.isfinite(self.operand(number, n)).all()]
            begins += [] if culprits else [number]
            waiting += [n for n in culprits if n not in seen]
            seen.update(culprits)
        return "loss", *self._told(min(begins))

    def named(self, number: int) -> tuple[str, str]:
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

    def _told(self, number: int) -> tuple[str, str]:
        place, label = self.named(number)
        value = self.value(number)
        what = infinite(value)
        record = self.trace.records[number]
        if record.op is PARAMETER:
            return label, f"It began before: {label} {what}; an earlier update made it so, or its first value"
        if record.op in INPUTS:
            return label, f"It began with the data: {label} {what} in this example"
        assert isinstance(record.op, Op)
        operands = [self.operand(number, n) for n in record.operands]
        found = " and ".join(extremes(operand) for operand in operands if operand.size and operand.dtype.kind == "f")
        return label, f"It began at {label}, {place}, which {what}; its operands are finite: {found}"


def _bags(source: Source, examples: Sequence[int], bag: BagBuffer) -> BagSource:
    """The bags of examples, as a source of their own."""
    assert source.bags is not None
    found = source.bags
    each = (len(bag.offsets) - 1) // len(examples)
    bags = [b for example in examples for b in range(example * each, (example + 1) * each)]
    return BagSource(found.values, found.begins[bags], found.ends[bags], found.weights)
