"""Wyrm by ``wyrm.fit``: whole calls, which check the data, trace, lower, compile and train."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import wyrm
from benchmarks.competitor import Competitor
from benchmarks.models import MODELS, Model, part, skip_gram
from benchmarks.workloads import Workload

__all__ = ["Fit", "competitors"]

#: How threads share the work, and whether the examples are shuffled, as ``conflict_free`` demands; with ``auto`` on one, too.
_SCHEDULES = (("hogwild", False), ("hogwild", True), ("conflict_free", True), ("auto", True))


class Fit(Competitor):
    """A backend, by ``fit``, over the examples in order; ``make`` makes the model, ``kind`` says what is particular."""

    whole_epochs = True

    def __init__(
        self,
        workload: Workload,
        backend: str,
        make: Callable[[], Model],
        threads: int = 1,
        schedule: str = "auto",
        kind: str = "",
        shuffle: bool = False,
    ) -> None:
        particular = ", ".join(filter(None, [kind, schedule if threads > 1 else "", "shuffled" if shuffle else ""]))
        super().__init__(workload, f"{backend}, fit" + (f", {particular}" if particular else ""), threads)
        self._backend, self._make, self._schedule, self._shuffle = backend, make, schedule, shuffle
        if shuffle:  # the first losses are those of the same examples in another order
            self.tolerance = max(self.tolerance, 1e-2)
        self._model = make()

    def first_losses(self) -> float:
        count = self.workload.checked
        return self._fit(self._make(), 0, count).losses[0] * count

    def run(self, start: int, stop: int) -> None:
        self._fit(self._model, start, stop)

    def repeat(self, times: int) -> None:
        if self.workload.threads:  # what a schedule needs to get going, it needs once
            self._fit(self._model, 0, self.workload.epoch, times)
        else:
            super().repeat(times)

    def _fit(self, model: Model, start: int, stop: int, num_epochs: int = 1) -> wyrm.History:
        return wyrm.fit(
            model.loss,
            {node: part(values, start, stop) for node, values in model.feed.items()},
            model.optimizer,
            num_epochs=num_epochs,
            num_threads=self.threads,
            schedule=self._schedule,
            shuffle=self._shuffle,
            progress=False,
            backend=self._backend,
        )


def competitors(workload: Workload, backends: Sequence[str], threads: Sequence[int]) -> list[Callable[[], Competitor]]:
    """Makers of what takes part in a workload."""
    make = MODELS[workload.key]
    found: list[Callable[[], Competitor]] = [lambda b=b: Fit(workload, b, make) for b in backends]
    if workload.threads:
        found += [
            lambda b=b, t=t, s=schedule, shuffle=shuffle: Fit(workload, b, make, t, s, shuffle=shuffle)
            for b in backends
            for schedule, shuffle in _SCHEDULES
            for t in threads
            if (t > 1 or schedule == "auto") and wyrm.get_backend(b).capabilities.releases_gil
        ]
    if workload.key == "w6":
        found += [lambda b=b: _drawn(workload, b) for b in backends]
    return found


def _drawn(workload: Workload, backend: str) -> Fit:
    """Negatives drawn as it trains, not fed: so its first losses are near the others', not the same."""
    drawn = Fit(workload, backend, lambda: skip_gram(drawn=True), kind="negatives drawn")
    drawn.tolerance = 0.02
    return drawn
