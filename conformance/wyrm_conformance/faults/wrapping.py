"""How faults of execution are planted: executables whose passes are changed on their way out, and wrong declarations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from wyrm.backend import Backend, Executable, Order, Pass, Runner
from wyrm.memory import Memory, Sink, Source
from wyrm.program import Program
from wyrm_conformance.faults.subject import CAPABILITIES, Subject, backend_fault, correct_backend

__all__ = ["Wrapped", "WrappedRunner", "declaring", "wrapping"]


class Wrapped(Executable):
    """An executable whose passes and runners are changed on their way out."""

    def __init__(self, inner: Executable, **wrappers: Callable[..., Any]) -> None:
        super().__init__(inner.program)
        self.inner, self.wrappers = inner, wrappers

    def bind(self, memory: Memory, cells: Sequence[int] = ()) -> Pass:
        """A pass, changed."""
        bound = self.inner.bind(memory, cells)
        result: Pass = self.wrappers["bind"](self, bound) if "bind" in self.wrappers else bound
        return result

    def bind_feed(self, memory: Memory, sources: Sequence[Source], sinks: Sequence[Sink] = (), examples: int = 1) -> Runner:
        """A runner, over sources that are changed; or a runner that is changed."""
        if "sources" in self.wrappers:
            sources = self.wrappers["sources"](sources)
        runner = self.inner.bind_feed(memory, sources, sinks, examples)
        result: Runner = self.wrappers["runner"](self, runner) if "runner" in self.wrappers else runner
        return result


class WrappedRunner(Runner):
    """What the runners of a faulty backend begin with: it runs as the one that it is made of."""

    def __init__(self, executable: Wrapped, inner: Any) -> None:
        self.inner = inner

    @property
    def loss(self) -> float:
        """As the inner one's."""
        return float(self.inner.loss)

    @loss.setter
    def loss(self, value: float) -> None:
        self.inner.loss = value

    def run(self, order: Order, start: int, stop: int) -> int:
        """As the inner one."""
        self.inner.first_step = self.first_step
        return int(self.inner.run(order, start, stop))


def wrapping(name: str, *checks: str, **wrappers: Callable[..., Any]) -> None:
    """Plant a fault in passes (``bind``), runners (``runner``) or the sources of a feed (``sources``)."""

    class Wrapping(Subject):
        def compile(self, program: Program) -> Executable:
            return Wrapped(super().compile(program), **wrappers)

    backend_fault(name, *checks, make=lambda: correct_backend(Wrapping))


def declaring(name: str, *checks: str, subject: type[Subject] = Subject, **changes: Any) -> None:
    """Plant a fault in what a backend declares: capabilities that are changed, kernels that it is without."""
    kernels = changes.pop("without", ())

    def make() -> Backend:
        backend = correct_backend(subject, replace(CAPABILITIES, **changes))
        backend.kernels = {n: k for n, k in backend.kernels.items() if n not in kernels}  # type: ignore[attr-defined]
        return backend

    backend_fault(name, *checks, make=make)
