"""What a peer's program says and hears, on its standard input and output: it trains when it is told to.

``first N`` is answered by the sum of the first N losses of a model of its own, or by ``unknown`` where it does not compute
them; ``run START STOP`` trains on these examples and is answered by ``done``. The process lives as long as the benchmark.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["Model", "serve"]


class Model(ABC):
    """A peer's model of a workload."""

    @abstractmethod
    def run(self, start: int, stop: int) -> float | None:
        """Train on the examples from ``start`` to ``stop``; returns the sum of the losses, where they are known."""


def serve(make: type[Model]) -> None:
    """Obey lines until there are no more."""
    model = make()
    while True:
        try:
            command, *numbers = input().split()
        except EOFError:
            return
        if command == "first":
            total = make().run(0, int(numbers[0]))
            print("unknown" if total is None else total, flush=True)
        else:
            model.run(int(numbers[0]), int(numbers[1]))
            print("done", flush=True)
