"""Training on one backend, in a process of its own, so that its start is timed and nothing is shared with the others."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

BEGAN = time.perf_counter()

from linear_regression import regression  # noqa: E402

import wyrm  # noqa: E402
from demo.model import Factorization  # noqa: E402 - the imports are a part of what is timed
from demo.ratings import Ratings  # noqa: E402


@dataclass
class Run:
    """One training run.

    Attributes
    ----------
    seconds, losses, rmses
        After each epoch: the time since training began, the mean loss, the error on the ratings held out.
    best_rmse
        The error of the best possible predictions on the same ratings, where it is known.
    """

    seed: int
    num_threads: int
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rmses: list[float] = field(default_factory=list)
    throughput: list[float] = field(default_factory=list)
    best_rmse: float | None = None


@dataclass
class BackendRuns:
    """What one backend did.

    Attributes
    ----------
    line
        Slope and intercept that the regression found.
    first_step_seconds
        From the start of importing Wyrm to the end of the first step of the factorization.
    """

    backend: str
    version: str
    line: tuple[float, float]
    first_step_seconds: float
    runs: list[Run]


def run_backend(backend: str, ratings: Ratings, seeds: list[int], threads: list[int], num_epochs: int) -> BackendRuns:
    """Train on one backend, for each seed and number of threads."""
    first = Factorization(ratings, 0)
    one = Ratings(ratings.users[:1], ratings.items[:1], ratings.values[:1], ratings.num_users, ratings.num_items)
    wyrm.fit(first.loss, first.feed(one), first.optimizer, backend=backend)
    first_step = time.perf_counter() - BEGAN
    line = regression(backend)
    runs = [_train(backend, ratings, seed, count, num_epochs) for count in threads for seed in seeds]
    version = wyrm.get_backend(backend).declaration.version
    return BackendRuns(backend, version, line, first_step, runs)


def _train(backend: str, ratings: Ratings, seed: int, num_threads: int, num_epochs: int) -> Run:
    training, held_out = ratings.split(seed)
    model = Factorization(training, seed)
    run = Run(seed, num_threads, best_rmse=held_out.best_rmse)
    trained = 0.0

    def after(epoch: wyrm.Epoch) -> None:
        nonlocal trained
        trained += epoch.seconds
        run.seconds.append(trained)
        run.losses.append(epoch.loss)
        run.throughput.append(epoch.examples_per_second)
        run.rmses.append(held_out.rmse(model.predict(held_out, backend)))

    wyrm.fit(
        model.loss,
        model.feed(training),
        model.optimizer,
        num_epochs=num_epochs,
        num_threads=num_threads,
        seed=seed,
        backend=backend,
        callbacks=[after],
    )
    marks = [n for n in range(num_epochs) if n == 0 or (n + 1) % 10 == 0 or n == num_epochs - 1]
    course = ", ".join(f"{run.rmses[n]:.4f} ({n + 1})" for n in marks)
    threads = f"{num_threads} thread{'s' * (num_threads > 1)}"
    print(f"{backend:9s} {threads:9s} seed {seed}: held-out RMSE (after epoch) {course}", flush=True)
    return run
