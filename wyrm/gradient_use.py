"""Who works on a gradient: a pass, a step or whoever reads or sets it from Python, one at a time.

A parameter's node may stand in graphs of several threads, and a backward pass may leave other threads free to run. So the
gradient's word :attr:`GradientBuffer.busy` is not 0 while somebody is at work; who comes meanwhile is refused. The word is
looked at and set while Python's lock (the GIL) is held: two lines between which nothing is called are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from wyrm.errors import ThreadError
from wyrm.memory import GradientBuffer, Memory

__all__ = ["IN_USE", "gradients_of", "guarded", "in_use", "using"]

#: What a pass returns that found somebody at work on a gradient, beside the statuses of :class:`wyrm.memory.Report`.
IN_USE = -2


def gradients_of(memory: Memory) -> list[GradientBuffer]:
    """The gradients that a bound program works on."""
    return [buffer for buffer in memory.buffers if isinstance(buffer, GradientBuffer)]


def guarded(run: Callable[..., int], gradients: Sequence[GradientBuffer]) -> Callable[..., int]:
    """A pass as one that works on gradients alone, or returns :data:`IN_USE`."""
    words = [gradient.busy for gradient in gradients]
    if not words:
        return run

    def alone(*weight: Any) -> int:
        taken = 0
        try:
            for word in words:
                if word[0]:
                    return IN_USE
                word[0] = 1
                taken += 1
            return run(*weight)
        finally:
            for word in words[:taken]:
                word[0] = 0

    return alone


@contextmanager
def using(gradient: GradientBuffer, label: str) -> Iterator[None]:
    """Work on a gradient alone; messages call its parameter by the label.

    Raises
    ------
    ThreadError
        If another thread is at work on it.
    """
    if gradient.busy[0]:
        raise in_use(label)
    gradient.busy[0] = 1
    try:
        yield
    finally:
        gradient.busy[0] = 0


def in_use(label: str) -> ThreadError:
    """The error that a gradient is being worked on."""
    return ThreadError(
        f"{label}: another thread is at work on its gradient, which it adds to, or reads. Give each thread nodes of its own, "
        f"made by ParameterNode.shared(storage) of the same parameters: each gathers a gradient of its own"
    )
