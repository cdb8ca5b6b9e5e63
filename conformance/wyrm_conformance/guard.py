"""No vacuous pass: while a check runs, the reference does not compute, and memory that nobody has written holds NaN.

A backend that hands its work to the reference, or reports what it never wrote, would agree with every oracle. So, while a
check runs, the reference's kernels raise; they work only in the blocks in which a check computes what it expects
(:meth:`wyrm_conformance.context.Context.oracle`). Working memory begins as NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm import memory
from wyrm.backend import Backend
from wyrm.kernel_backend import KernelFunction
from wyrm.program import Program
from wyrm.reference import ReferenceBackend
from wyrm.training import evaluation

__all__ = ["Guard", "GuardError"]

Array = npt.NDArray[Any]


class GuardError(AssertionError):
    """The reference was asked to compute while another backend was the subject."""


def _refusing(name: str) -> KernelFunction:
    def refuse(*operands: Array, **attributes: Any) -> Array:
        raise GuardError(f"the reference's kernel {name!r} was called while the backend should have computed by itself")

    return refuse


class Guard:
    """Both precautions, for one backend, as a context manager.

    The reference itself, and backends that are made of its very table of kernels, may use it.
    """

    def __init__(self, backend: Backend) -> None:
        self.subject = getattr(backend, "kernels", None) is ReferenceBackend.kernels
        self._kernels: dict[str, KernelFunction] = ReferenceBackend.kernels  # type: ignore[assignment]
        self._working = dict(self._kernels)
        self._refusing = {name: _refusing(name) for name in self._working}
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Guard:
        if not self.subject:
            self._kernels.update(self._refusing)
        own, aligned = memory.Memory.own, memory.aligned

        def poisoned(program: Program) -> list[Array]:
            real, index = own(program)
            real[:] = np.nan
            for value, slot in program.literals:
                real[slot.offset] = value
            return [real, index]

        def poisoned_array(shape: int | tuple[int, ...], dtype: npt.DTypeLike, fill: float | None = 0) -> Array:
            array = aligned(shape, dtype, fill)
            if fill is None and array.dtype.kind == "f":
                array.fill(np.nan)
            return array

        memory.Memory.own = staticmethod(poisoned)  # type: ignore[method-assign]
        for module in (memory, evaluation):
            self._replace(module, "aligned", poisoned_array)
        self._undo.append(lambda: setattr(memory.Memory, "own", staticmethod(own)))
        return self

    def __exit__(self, *error: object) -> None:
        self._kernels.update(self._working)
        while self._undo:
            self._undo.pop()()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """A block in which the reference works."""
        self._kernels.update(self._working)
        try:
            yield
        finally:
            if not self.subject:
                self._kernels.update(self._refusing)

    def _replace(self, module: Any, name: str, value: Any) -> None:
        previous = getattr(module, name)
        setattr(module, name, value)
        self._undo.append(lambda: setattr(module, name, previous))
