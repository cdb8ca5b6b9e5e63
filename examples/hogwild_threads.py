"""Threads of one's own that train one model without locks: each has a graph and an optimizer, and they share the parameters.

`wyrm.fit(..., schedule="hogwild")` does this in native code. By hand, each thread can take its examples from where it likes,
here from a queue: an online model, which learns ratings as they come in (Niu, Recht, Ré and Wright, NIPS 2011). Passes leave
the GIL in native code, but such small ones spend most of their time in Python; threads of one's own are for this freedom,
`fit` for speed.

    python hogwild_threads.py [--threads 4]
"""

import argparse
import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import wyrm

USERS, ITEMS, DIMENSIONS, NOISE = 60, 40, 4, 0.1


def ratings(number: int, seed: int = 0) -> list[tuple[int, int, float]]:
    """Products of true factors, and noise of a known variance: the least possible mean squared error."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((USERS, DIMENSIONS)) @ rng.standard_normal((ITEMS, DIMENSIONS)).T / 2
    users, items = rng.integers(0, USERS, number), rng.integers(0, ITEMS, number)
    values = truth[users, items] + NOISE * rng.standard_normal(number)
    return list(zip(users.tolist(), items.tolist(), values.tolist(), strict=True))


class Worker:
    """A thread's graph over the shared tables."""

    def __init__(self, users: wyrm.HogwildParameter, items: wyrm.HogwildParameter) -> None:
        self.user, self.item, self.rating = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
        tables = [wyrm.ParameterNode.shared(storage) for storage in (users, items)]
        self.loss = (tables[0].index(self.user).vector_dot(tables[1].index(self.item)) - self.rating).square()
        self.optimizer = wyrm.optim.SGD(0.05, tables)

    def learn(self, user: int, item: int, rating: float) -> float:
        """Make one step; returns the squared error before it."""
        self.user.set_value(user)
        self.item.set_value(item)
        self.rating.set_value(rating)
        self.loss.forward()
        self.loss.backward(1.0)
        self.optimizer.step()
        return float(self.loss.value[0, 0])


def train(threads: int = 4, number: int = 30_000) -> list[float]:
    """Returns the squared error of each rating before it was learned from, about in the order of the queue."""
    rng = np.random.default_rng(1)
    users, items = (wyrm.HogwildParameter(rng.normal(0, 0.5, (rows, DIMENSIONS))) for rows in (USERS, ITEMS))
    incoming: queue.SimpleQueue[tuple[int, int, float]] = queue.SimpleQueue()
    for rating in ratings(number):
        incoming.put(rating)
    errors: list[float] = []

    def work() -> None:
        worker = Worker(users, items)
        while True:
            try:
                rating = incoming.get_nowait()
            except queue.Empty:
                return
            errors.append(worker.learn(*rating))

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()  # raises what a thread raised
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One model trained by threads of one's own.")
    parser.add_argument("--threads", type=int, default=4)
    errors = train(parser.parse_args().threads)
    for name, part in {"first": errors[:1000], "last": errors[-1000:]}.items():
        print(f"mean squared error of the {name} thousand ratings: {np.mean(part):.4f}")
    print(f"the least possible: {NOISE**2:.4f}")
