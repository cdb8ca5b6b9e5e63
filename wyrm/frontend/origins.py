"""Where a gradient became NaN or infinite: a graph is run once more on the reference backend, keeping all values and shares.

It is the first node, on the way back, whose derivative makes of a finite gradient one that is not. :func:`origin` finds it for
a gradient that a caller's passes have gathered; :mod:`wyrm.training.diagnosis` for an example of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import WyrmError
from wyrm.frontend.binding import Workspace
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower_shares
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.op import PARAMETER
from wyrm.frontend.ops.lookups import INDEX_MEAN, INDEX_SUM, LOOKUP
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.structure import Structure
from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, GradientBuffer, Memory
from wyrm.program import Slot
from wyrm.selection import get_backend

__all__ = ["Rerun", "extremes", "infinite", "origin"]

Array = npt.NDArray[Any]
#: Ops that read some rows of their first operand, named by their second.
_LOOKUPS = (LOOKUP, INDEX_SUM, INDEX_MEAN)


class Rerun:
    """One run of a structure on the reference backend; a subclass says what memory it has, and calls :meth:`run`."""

    memory: Memory

    def __init__(self, structure: Structure) -> None:
        self.trace, self.structures, _ = trace([structure])
        self.program, self.shares = lower_shares(self.trace)
        self.parameters = [self.structures[n].live_parameter() for n in self.trace.leaves(PARAMETER)]

    def run(self, leaves: Leaves, cells: Sequence[int]) -> None:
        """Run forward and backward for what the cells of leaves hold."""
        buffers = self.memory.buffers
        bags = sum(len(buffer.indices) for buffer in buffers if isinstance(buffer, BagBuffer))
        for buffer, array in zip(self.program.buffers, buffers, strict=True):
            if buffer.kind == "gradient" and self.program.parameters[buffer.number].gradient == "rows":
                array.extend(self.program.parameters[buffer.number].rows_per_pass + bags)
        bound = compiled(self.program, get_backend("reference")).bind(self.memory, cells)
        self.status = bound.forward(leaves) or bound.backward(1.0)

    def value(self, number: int) -> Array:
        """What was computed for a record of the trace; of bags, the weights."""
        return self.at(self.program.values[number])

    def at(self, slot: Slot) -> Array:
        """What stands in a slot; of bags, the weights."""
        buffer = self.memory.buffers[slot.buffer]
        if isinstance(buffer, BagBuffer):
            weights: Array = buffer.weights[: buffer.count].reshape(1, -1)
            return weights
        flat = buffer.reshape(-1)[slot.offset :]
        return np.lib.stride_tricks.as_strided(flat, slot.shape, (slot.stride * flat.itemsize, flat.itemsize))

    def operand(self, number: int, operand: int) -> Array:
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

    def named(self, number: int) -> tuple[str, str]:
        """Where a record's node is in a drawing, if anybody knows, and its label."""
        structure = self.structures[number]
        return (
            "",
            structure.live_parameter()._label() if structure.op is PARAMETER else f"{structure.op.name} {structure.shape}",
        )

    def of_gradient(self) -> tuple[str, str] | None:
        """The label of the node where a gradient began not to be finite, and a sentence about it; ``None``: all are finite."""
        for record, operand, gradient, part in self.shares:
            if np.isfinite(self.at(gradient)).all() and not np.isfinite(self.at(part)).all():
                return self._told_of_gradient(record, operand, self.at(part))
        return None

    def _told_of_gradient(self, record: int, operand: int, part: Array) -> tuple[str, str]:
        records = self.trace.records
        place, label = self.named(record)
        reached = {o for _, o, _, share in self.shares if records[o].op is PARAMETER and not np.isfinite(self.at(share)).all()}
        parameters = " and ".join(self.named(number)[1] for number in sorted(reached)) or "no parameter"
        value = self.operand(record, operand)
        by = self.named(operand)[1]
        return label, (
            f"It began at {label}, {place + ', ' if place else ''}whose derivative by {by} {infinite(part)}; the value there "
            f"is {extremes(value)}. It reaches {parameters}. For a loss that has no derivative there, keep the operand "
            "away from the place, as with maximum or clip"
        )


class _Pass(Rerun):
    """The last pass of a workspace, with inputs and parameters as they are."""

    def __init__(self, structure: Structure, workspace: Workspace, leaves: Leaves) -> None:
        super().__init__(structure)
        of_pass = dict(zip(workspace.binding.program.buffers, workspace.memory.buffers, strict=True))
        buffers: list[Any] = Memory.own(self.program)
        for buffer in self.program.buffers[2:]:
            if buffer.kind == "bag":
                bag = BagBuffer(self.program.inputs[buffer.number].slot.shape[0], self.program.dtype)
                bag.reserve(len(of_pass[buffer].indices))
                buffers.append(bag)
            elif buffer.kind == "gradient":
                gradient = GradientBuffer(self.program.parameters[buffer.number].shape, self.program.dtype)
                gradient.header[10] = self.parameters[buffer.number]._gradient_buffer().header[10]
                buffers.append(gradient)
            else:
                buffers.append(self.parameters[buffer.number].storage.value)
        self.memory = Memory(self.program, buffers)
        self.run(leaves, workspace.binding.cells)


def origin(node: ParameterNode) -> tuple[str, str] | None:
    """Where the gradient that passes have gathered for a parameter began not to be finite: of several, in the earliest pass.

    Returns
    -------
    The label of the node and a sentence about it; ``None`` if it cannot be found: inputs or parameters are no longer what they
    were, it is the weight that was not finite, the gradient was set, or contributions that are finite overflow as they add up.
    """
    for structure, workspace, leaves in _passes(node):
        try:
            found = _Pass(structure, workspace, leaves).of_gradient()
        except (WyrmError, MemoryError):
            continue
        if found is not None and node._label() in found[1]:
            return found
    return None


def _passes(node: ParameterNode) -> list[tuple[Structure, Workspace, Leaves]]:
    """The workspaces of live graphs that a parameter is in, in the order of their last passes."""
    found = []
    for reference in node._bindings:
        binding = reference()
        if binding is not None and not binding.expired and binding.is_alive():
            structure = max(binding.numbers, key=binding.numbers.__getitem__)
            for workspace in list(binding._workspaces):
                if workspace._leaves is not None and workspace not in binding._pool:
                    found.append((structure, workspace, workspace._leaves))
    return sorted(found, key=lambda of_pass: of_pass[1].date)


def infinite(value: Array) -> str:
    """Which element of a value is not finite."""
    row, column = (int(n[0]) for n in np.nonzero(~np.isfinite(value)))
    return f"is {value[row, column]}" if value.size == 1 else f"has {value[row, column]} at ({row}, {column})"


def extremes(values: Array) -> str:
    """The smallest and the largest element, or the only one."""
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
