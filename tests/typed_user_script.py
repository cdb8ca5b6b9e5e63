"""What a user might write, over the whole public API; ``mypy --strict`` passes over it in test_typing, and it runs."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

import wyrm
from wyrm import nn, optim
from wyrm.nn import losses
from wyrm.optim import schedules


class Tower(nn.Module):
    def __init__(self, rng: np.random.Generator) -> None:
        self.words = nn.EmbeddingBag(50, 8, rng=rng)
        self.hidden = nn.Linear(8, 8, rng=rng)
        self.out = nn.Linear(8, 3, rng=rng)

    def forward(self, bag: wyrm.BagInputNode) -> wyrm.Node:
        hidden = self.hidden.forward(self.words.pool(bag, mean=True)).relu().dropout(0.1, seed=1)
        return self.out.forward(hidden)


class Halve(wyrm.Callback):
    def end_epoch(self, run: wyrm.Run) -> None:
        if run.epoch == 100:
            run.optimizers[0].learning_rate *= 0.5


def main() -> None:
    seen: list[wyrm.Epoch] = []
    rng = np.random.default_rng(1)
    tower = Tower(rng)
    bag, label = wyrm.BagInputNode(1, name="words"), wyrm.IndexInputNode(name="label")
    logits: wyrm.Node = tower.forward(bag)
    loss = losses.sparse_categorical_crossentropy(logits, label)
    optimizer: optim.Optimizer = optim.AdamW(
        schedules.warmup(schedules.cosine(0.01, 200), 10),
        [optim.Group(tower.words.parameters(), l2=0.0), *tower.hidden.parameters(), *tower.out.parameters()],
        clip_norm=1.0,
    )
    bags = wyrm.Bags.from_lists([rng.integers(0, 50, 4) for _ in range(100)])
    labels: npt.NDArray[np.int64] = rng.integers(0, 3, 100)
    path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    history: wyrm.History = wyrm.fit(
        loss,
        {bag: bags, label: labels},
        optimizer,
        num_epochs=2,
        seed=1,
        callbacks=[seen.append, wyrm.EarlyStopping("loss"), wyrm.Checkpoint(path), Halve()],
    )
    saved: wyrm.Saved = wyrm.load(path, loss, optimizer)
    wyrm.save(path, tower, optimizer, metadata={"classes": 3})
    assert len(seen) == 2 and saved.parameters and history.rows() and wyrm.History.from_json(history.to_json()).losses
    mean: float = history[0].loss
    values: npt.NDArray[Any] = wyrm.evaluate(logits, {bag: bags})
    with wyrm.evaluating(), wyrm.use_backend("reference"):
        bag.set_value([1, 2, 3])
        label.set_value(2)
        loss.forward()
        probabilities: npt.NDArray[Any] = loss.predictions()
        loss.backward(1.0)
    gradient = tower.words.table.gradient
    if isinstance(gradient, wyrm.RowSparseGradient):
        rows: npt.NDArray[np.int64] = gradient.rows
        assert rows.tolist() == [1, 2, 3]
    tower.words.table.set_gradient(0.5 * gradient + gradient)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.learning_rate = 0.1
    node = (2.0 * logits[:, 0] ** 2 + wyrm.where(np.ones((1, 1)), logits[:, 1], 0.0)).maximum(0.0)
    sequence = nn.lstm.Parameters(3, 3, rng=1).build().forward([logits, logits])
    both = wyrm.stack([node, sequence[-1]], axis=1)

    def step(state: wyrm.Node, row: wyrm.Node) -> tuple[wyrm.Node, wyrm.Node]:
        return 0.5 * state + row, state

    items = wyrm.IndexInputNode(4, [1, 2, 3, 4])
    last, states = wyrm.scan(step, np.zeros((1, 8)), tower.words.table.index(items[1:]))
    margins: wyrm.Node = wyrm.each(lambda state, item: state - tower.words.table.index(item), states, items[:-1])
    hidden: wyrm.Node = nn.GRU(8, 2, rng=1).forward(states)
    assert last.shape == (1, 8) and margins.shape == (3, 8) and hidden.shape == (3, 2)
    assert both.shape == (1, 4)
    assert values.shape == (100, 1, 3) and probabilities.shape == (1, 3) and mean > 0
    difference, by_backward = wyrm.finite_difference(tower.out.parameters()[0], logits)
    assert difference.shape == by_backward.shape
    names: list[str] = [status.name for status in wyrm.backends()]
    assert "reference" in names


if __name__ == "__main__":
    main()
