"""Schedules by which threads train, for the thread sanitizer: ``python tests/races.py SCHEDULE``.

``tests/sanitize.py`` runs them on a library that was built with ``WYRM_SANITIZE=thread``. By the schedules of :data:`ORDERED`,
no two threads may reach the same memory at once, unless they only read it. By ``hogwild``, they do: that has to be found.
"""

from __future__ import annotations

import sys

import numpy as np

import wyrm
from wyrm.optim import SGD, Adam

#: Those in which there is no race.
ORDERED = ("synchronized", "conflict_free", "evaluation", "graphs")
ROWS, COUNT = 64, 400


def model(seed: int) -> tuple[wyrm.Node, list[wyrm.ParameterNode], list[wyrm.Node]]:
    """A loss over two tables, the tables and the inputs."""
    rng = np.random.default_rng(seed)
    users, items = (wyrm.ParameterNode(rng.random((ROWS, 8))) for _ in range(2))
    user, item, y = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    loss = (users.index(user).vector_dot(items.index(item)) - y).square()
    return loss, [users, items], [user, item, y]


def feed(inputs: list[wyrm.Node], seed: int) -> dict[wyrm.Node, np.ndarray]:
    """Examples, of which many have the same rows."""
    rng = np.random.default_rng(seed)
    return dict(zip(inputs, [*rng.integers(0, ROWS, (2, COUNT)), rng.random(COUNT)], strict=True))


def trained(schedule: str) -> None:
    """By a schedule, with and without states; one run a step, and several."""
    for make in (lambda nodes: SGD(0.01, nodes), lambda nodes: Adam(0.01, nodes)):
        for batch_size in {"synchronized": (16,), "conflict_free": (1,)}.get(schedule, (1, 16)):
            loss, tables, inputs = model(0)
            options = {"num_epochs": 3, "batch_size": batch_size, "num_threads": 2, "schedule": schedule, "seed": 0}
            wyrm.fit(loss, feed(inputs, 1), make(tables), **options)


def evaluation() -> None:
    """Several threads read the same parameters and write values of their own examples."""
    loss, _, inputs = model(0)
    wyrm.evaluate(loss, feed(inputs, 1), num_threads=2)


def graphs() -> None:
    """Threads of one's own, each with a graph, parameters and an optimizer of its own."""
    from concurrent.futures import ThreadPoolExecutor

    def work(seed: int) -> None:
        loss, tables, inputs = model(seed)
        optimizer = SGD(0.01, tables)
        for values in zip(*feed(inputs, seed).values(), strict=True):
            for node, value in zip(inputs, values, strict=True):
                node.set_value(value)
            loss.forward()
            loss.backward(1.0)
            optimizer.step()
        wyrm.fit(loss, feed(inputs, seed), optimizer, num_threads=1)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [1, 2]))


if __name__ == "__main__":
    chosen = sys.argv[1]
    {"evaluation": evaluation, "graphs": graphs}.get(chosen, lambda: trained(chosen))()
