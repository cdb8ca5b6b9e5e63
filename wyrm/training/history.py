"""What a training run leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """One pass over the data.

    Attributes
    ----------
    number
        Counted from 1.
    loss
        The mean loss of the examples, each before its own update.
    examples
        How many there were.
    seconds
        How long the pass took.
    """

    number: int
    loss: float
    examples: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def examples_per_second(self) -> float:
        """The throughput."""
        return self.examples / self.seconds if self.seconds else float("inf")


@dataclass
class History:
    """The epochs of a training run, in order.

    Attributes
    ----------
    backend
        Where it ran.
    num_threads
        On how many threads.
    schedule
        How they shared the parameters, as the option of :func:`wyrm.fit` names it.
    reason
        Why, where nobody asked for it.
    examples_per_thread
        How many examples each of them has run.
    startup_seconds
        From the call to the first step: checking the data, lowering, compiling.
    epochs
        One entry for each pass over the data.
    """

    backend: str
    num_threads: int
    startup_seconds: float
    epochs: list[Epoch] = field(default_factory=list)
    schedule: str = ""
    reason: str = ""
    examples_per_thread: list[int] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        """The mean loss of each epoch."""
        return [epoch.loss for epoch in self.epochs]

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, number: int) -> Epoch:
        return self.epochs[number]
