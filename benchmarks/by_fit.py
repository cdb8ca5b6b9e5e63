"""Wyrm by ``wyrm.fit``: whole calls, which check the data, trace, lower, compile and train."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import wyrm
from benchmarks.competitor import Competitor
from benchmarks.models import MODELS, Model, part
from benchmarks.workloads import Workload

__all__ = ["Fit", "competitors"]


class Fit(Competitor):
    """A backend, by ``fit``, over the examples in order; ``make`` makes the model."""

    def __init__(self, workload: Workload, backend: str, make: Callable[[], Model], threads: int = 1) -> None:
        super().__init__(workload, f"{backend}, fit", threads)
        self._backend, self._make = backend, make
        self._model = make()

    def first_losses(self) -> float:
        count = self.workload.checked
        return self._fit(self._make(), 0, count).losses[0] * count

    def run(self, start: int, stop: int) -> None:
        self._fit(self._model, start, stop)

    def _fit(self, model: Model, start: int, stop: int) -> wyrm.History:
        feed = {node: part(values, start, stop) for node, values in model.feed.items()}
        options = {"shuffle": False, "progress": False, "num_threads": self.threads, "backend": self._backend}
        return wyrm.fit(model.loss, feed, model.optimizer, **options)


def competitors(workload: Workload, backends: Sequence[str], threads: list[int]) -> list[Callable[[], Competitor]]:
    """Makers of what takes part in a workload."""
    if workload.key not in MODELS:
        return []
    make, counts = MODELS[workload.key], threads if workload.threads else [1]
    return [lambda b=b, t=t: Fit(workload, b, make, t) for b in backends for t in counts]
