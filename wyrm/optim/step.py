"""The step of an optimizer: one native call over the gradients that its parameters have gathered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wyrm.borrowed import watched
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.updates import Training, lower_update
from wyrm.gradient_use import gradients_of, guarded
from wyrm.leaves import Leaves
from wyrm.memory import Memory
from wyrm.optim.group import RunningGroup
from wyrm.selection import get_backend

__all__ = ["bind_step"]


def bind_step(groups: Sequence[RunningGroup], checked: bool) -> tuple[Any, Callable[[], int]]:
    """Compile the step, over the parameters that are trainable, for the backend on which their graphs have run.

    Parameters
    ----------
    checked
        Whether the step looks for gradients that are not finite before it changes anything.

    Returns
    -------
    What has to be kept as long as the step is called, and the step, which returns a status.
    """
    every = [node for group in groups for node in group.parameters]
    backend = next((node._backend for node in every if node._backend is not None), None) or get_backend()
    trained = [(n, group, node) for n, group in enumerate(groups) for node in group.parameters if node.trainable]
    nodes = [node for _, _, node in trained]
    training = [Training(group.rule_of(node), number) for number, group, node in trained]
    for how, node in zip(training, nodes, strict=True):
        node.storage.follow(how.rule, groups[how.scalars].scalars)
        if node._gradient_buffer().dense is not None:
            node.storage.keep_up()
    shapes, kernels = [node.shape for node in nodes], backend.capabilities.kernels
    program = lower_update(shapes, training, every[0].dtype, kernels, checked=checked)
    buffers: list[Any] = Memory.own(program)
    for buffer in program.buffers[2:]:
        if buffer.kind == "scalars":
            buffers.append(groups[buffer.number].scalars)
        elif buffer.kind == "gradient":
            buffers.append(nodes[buffer.number]._gradient_buffer())
        else:
            buffers.append(nodes[buffer.number].storage.buffer(buffer))
    adopted = [node.storage.adopted for node in nodes if node.storage.adopted is not None]
    memory = Memory(program, buffers, adopted=adopted)
    bound = compiled(program, backend).bind(memory)
    leaves = Leaves(1)
    step = bound.attached(leaves)[0]
    if not bound.guards_memory:
        step = watched(guarded(step, gradients_of(memory)), adopted)
    return (bound, leaves), step
