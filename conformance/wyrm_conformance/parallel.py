"""Threads that share parameters."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD
from wyrm_conformance.check import Context, check


@check(
    "parallel/hogwild",
    "parallel",
    "threads on different rows lose no update; on shared rows training converges",
    requires=("hogwild",),
    at_least=32_000,
)
def check_hogwild(context: Context) -> None:
    """Exact sums on disjoint rows; a factorization that several threads fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # more threads than cores, perhaps
        table, index = wyrm.ParameterNode(np.zeros((2000, 16))), wyrm.IndexInputNode()
        loss = table.index(index).scalar_sum()
        options: dict[str, Any] = {"num_threads": 4, "schedule": "hogwild", "backend": context.backend}
        began, done = time.perf_counter(), 0
        while done < 2 or (time.perf_counter() - began < 0.2 and done < 2**20):  # in native code, many more epochs
            epochs = max(1, done)
            wyrm.fit(loss, {index: np.arange(2000)}, SGD(1.0, [table]), num_epochs=epochs, **options)
            done += epochs
        context.compare("updates of disjoint rows", table.value, np.full((2000, 16), -float(done)), 0)

        truth = context.rng.normal(size=(10, 3)) @ context.rng.normal(size=(3, 15))
        users, items = context.rng.integers(0, 10, 800), context.rng.integers(0, 15, 800)
        tables = [wyrm.ParameterNode(context.rng.uniform(-0.5, 0.5, (rows, 4))) for rows in (10, 15)]
        user, item, rating = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
        loss = (tables[0].index(user).vector_dot(tables[1].index(item)) - rating).square()
        feed = {user: users, item: items, rating: truth[users, items]}
        options["num_threads"] = 3
        history = wyrm.fit(loss, feed, SGD(0.03, tables), num_epochs=12, seed=0, **options)
        ratio = history.losses[-1] / history.losses[0]
        context.require(f"the loss fell to {ratio:.3f} of what it was; expected less than 0.3", ratio < 0.3)


def _turns(work: Callable[[], object]) -> tuple[int, float]:
    """How often another thread gets its turn while this one works, and the seconds of the processor that the work takes.

    The interpreter is told not to make a thread give up its lock. So the other one runs only while this one has left it,
    whatever else the machine is doing.
    """
    turns, done = [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            turns[0] += 1
            time.sleep(1e-5)

    thread = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60.0)
    try:
        thread.start()
        before, began = turns[0], time.thread_time()
        work()
        return turns[0] - before, time.thread_time() - began
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)


@check(
    "parallel/lock",
    "parallel",
    "while native code trains, other Python threads go on",
    requires=("releases_gil",),
    section="wyrm/backend.py: Capabilities.releases_gil",
)
def check_lock(context: Context) -> None:
    """Another thread gets its turn again and again, though the interpreter makes nobody leave its lock."""
    table, index = wyrm.ParameterNode(np.zeros((50, 4096))), wyrm.IndexInputNode()
    feed = {index: np.arange(2000) % 50}
    loss, optimizer = table.index(index).square().scalar_sum(), SGD(0.0, [table])

    def train(epochs: int) -> None:
        # not shuffled: NumPy leaves the lock when it permutes
        options: dict[str, Any] = {"shuffle": False, "progress": False, "backend": context.backend}
        wyrm.fit(loss, feed, optimizer, num_epochs=epochs, num_threads=1, **options)

    train(1)  # whatever is compiled, is now
    epochs, turns, seconds = 1, 0, 0.0
    while seconds < 0.3 and epochs < 1 << 12:
        epochs *= 2
        turns, seconds = _turns(partial(train, epochs))
    wanted = int(300 * seconds)
    context.require(f"another thread had {turns} turns in {seconds:.2f} s; expected {wanted} at least", turns >= wanted)
