"""Wyrm driven from Python: ``set_value``, ``forward``, ``backward`` and ``step`` for each example, as users write it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import wyrm
from benchmarks import data
from benchmarks.competitor import Competitor
from benchmarks.models import LSTM, MODELS, Model, part
from benchmarks.workloads import Workload

__all__ = ["Driven", "Rebuilt", "competitors", "first_step"]


class Driven(Competitor):
    """A graph that is built once, with values of its inputs set for each example; ``make`` makes the model."""

    def __init__(self, workload: Workload, backend: str, make: Callable[[], Model]) -> None:
        super().__init__(workload, f"{backend}, from Python")
        self._backend, self._make = backend, make
        self._model = self._new()
        self._columns = [_examples(values) for values in self._model.feed.values()]
        self._train = _loop(len(self._columns))

    def _new(self) -> Model:
        model = self._make()
        _set_all(model, 0)
        model.loss.forward(backend=self._backend)  # the graph stays there
        return model

    def first_losses(self) -> float:
        model, total = self._new(), 0.0
        for n in range(self.workload.checked):
            _set_all(model, n)
            model.loss.forward()
            total += model.loss.value.item()
            model.loss.backward(1.0)
            model.optimizer.step()
        return total

    def run(self, start: int, stop: int) -> None:
        examples = zip(*(column[start:stop] for column in self._columns), strict=True)
        self._train(examples, self._model.loss, self._model.optimizer, list(self._model.feed))


@cache
def _loop(inputs: int) -> Callable[..., None]:
    """The loop over examples as one would write it for so many inputs: plain calls, one for each."""
    nodes, values = ([f"{kind}_{n}" for n in range(inputs)] for kind in ("node", "value"))
    lines = [
        "def train(examples, loss, optimizer, nodes):",
        f"    {', '.join(nodes)}, = nodes",
        f"    for {', '.join(values)}, in examples:",
        *(f"        {node}.set_value({value})" for node, value in zip(nodes, values, strict=True)),
        "        loss.forward()",
        "        loss.backward(1.0)",
        "        optimizer.step()",
    ]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    train: Callable[..., None] = names["train"]
    return train


def first_step(model: Model, backend: str) -> None:
    """On the first example."""
    _set_all(model, 0)
    model.loss.forward(backend=backend)
    model.loss.backward(1.0)
    model.optimizer.step()


class Rebuilt(Competitor):
    """W4: a graph of its own for each sequence, whose tokens are one input."""

    def __init__(self, workload: Workload, backend: str) -> None:
        super().__init__(workload, f"{backend}, from Python, rebuilt")
        self._backend = backend
        self._lstm = LSTM()

    def first_losses(self) -> float:
        return self._train(LSTM(), 0, self.workload.checked)

    def run(self, start: int, stop: int) -> None:
        self._train(self._lstm, start, stop)

    def _train(self, lstm: LSTM, start: int, stop: int) -> float:
        first = data.first()
        total = 0.0
        with wyrm.use_backend(self._backend):
            for sequence, length in zip(first.sequences[start:stop].tolist(), first.lengths[start:stop].tolist(), strict=True):
                tokens = wyrm.IndexInputNode(length, sequence[:length])
                loss = lstm.loss_of_sequence(tokens, wyrm.IndexInputNode(1, sequence[length]))
                loss.forward()
                loss.backward(1.0)
                total += loss.value.item()
                lstm.optimizer.step()
        return total


def _set_all(model: Model, number: int) -> None:
    for node, values in model.feed.items():
        node.set_value(_examples(part(values, number, number + 1))[0])


def _examples(values: Any) -> list[Any]:
    """The examples of a feed, one by one, as a Python program would have them."""
    if isinstance(values, wyrm.Bags):
        return values.to_lists()
    return values.tolist() if values.ndim == 1 else list(values)


def competitors(workload: Workload, backends: Sequence[str]) -> list[Callable[[], Competitor]]:
    """Makers of what takes part in a workload."""
    if workload.threads:
        return []
    if workload.key == "w4":
        return [lambda b=b: Rebuilt(workload, b) for b in backends]
    make = MODELS[workload.key]
    return [lambda b=b: Driven(workload, b, make) for b in backends]
