"""Recommenders of sequences: the models of the crate sbr by ``fit``, as ``examples/sequence_recommender.py`` has them.

What comes before the first epoch of a call, tracing and compiling for each length, is told apart from training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import wyrm
from benchmarks.competitor import Competitor
from benchmarks.interactions import interactions
from benchmarks.workloads import Workload

__all__ = ["RECOMMENDERS", "Kind", "Recommend", "competitors"]


@dataclass(frozen=True)
class Kind:
    """A model, its loss, and how long the pieces of sequences are at most."""

    model: str
    loss: str
    length: int


#: By workload.
RECOMMENDERS = {
    "lstm-hinge": Kind("lstm", "hinge", 128),
    "lstm-warp": Kind("lstm", "warp", 32),
    "ewma-hinge": Kind("ewma", "hinge", 128),
    "ewma-warp": Kind("ewma", "warp", 128),
}


@cache
def _example() -> ModuleType:
    """The example, which is a program in a folder of programs, not in a package."""
    sys.path.append(str(Path(__file__).parent.parent / "examples"))
    import sequence_recommender

    return sequence_recommender


class _Beginning(wyrm.Callback):
    """Calls a function before the first epoch, when everything is ready."""

    def __init__(self, note: Callable[[wyrm.Run], None]) -> None:
        self._note = note

    def begin(self, run: wyrm.Run) -> None:
        self._note(run)


class Recommend(Competitor):
    """A backend, by ``fit``: ten epochs a call."""

    whole_epochs = True

    def __init__(self, workload: Workload, backend: str) -> None:
        super().__init__(workload, f"{backend}, fit")
        self.at_least = workload.epoch
        #: Of a sum over an epoch. To multiply one table by 1 + 1e-7 changes that of an LSTM by up to 8 %, as small differences
        #: grow from step to step; where losses are nearly equal, WARP decides by rounding.
        self.tolerance = 0.25
        self._backend = backend
        self._kind = RECOMMENDERS[workload.key]
        self._sequences = interactions().sequences()
        self._model = self._new()

    def first_losses(self) -> float:
        return float(self._fit(self._new(), self.workload.checked).losses[0])

    def run(self, start: int, stop: int) -> None:
        began = self.clock()

        def ready(run: wyrm.Run) -> None:
            self.getting_ready += self.clock() - began

        self._fit(self._model, stop - start, ready)

    def trace(self) -> None:
        """Make ready for training, and end there."""
        self._fit(self._model, 1, lambda run: run.stop("everything is ready"))

    def _new(self) -> Any:
        return _example().Recommender(interactions().num_items, self._kind.model, self._kind.length)

    def _fit(self, model: Any, epochs: int, ready: Callable[[wyrm.Run], None] = lambda run: None) -> wyrm.History:
        options = {"num_threads": 1, "backend": self._backend, "progress": False, "callbacks": [_Beginning(ready)]}
        history: wyrm.History = model.fit(self._sequences, self._kind.loss, epochs, **options)
        return history


def competitors(workload: Workload, backends: Sequence[str]) -> list[Callable[[], Competitor]]:
    """Makers of what takes part in a workload: the native backends."""
    native = [name for name in backends if wyrm.get_backend(name).capabilities.releases_gil]
    return [lambda b=b: Recommend(workload, b) for b in native]
