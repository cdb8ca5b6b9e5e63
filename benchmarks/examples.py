"""The example applications on one thread and on two, in turn: where a second thread pays, and whether it ever costs.

    python -m benchmarks.examples [--rounds 7] [--seconds 2] [--backend NAME]

Each is trained on the data that it generates, under ``auto`` and, where all examples change the same dense weights (the LSTM),
under the schedules that are offered for that. A run goes on for as many epochs as take ``--seconds`` on one thread; what is
printed are medians of ``--rounds`` ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import wyrm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import factorization_recommender
import sequence_recommender
import sequences
import skip_gram
import sparse_logistic_regression
from demo.model import Factorization
from demo.ratings import generate_ratings

#: Trains for so many epochs with options of ``fit``.
Train = Callable[..., object]


def _demo() -> Train:
    ratings = generate_ratings()
    model = Factorization(ratings, 0)
    return lambda epochs, **options: wyrm.fit(model.loss, model.feed(ratings), model.optimizer, num_epochs=epochs, **options)


def _factorization(loss: str) -> Train:
    model = factorization_recommender.Recommender(factorization_recommender.generated(), loss)
    return model.fit


def _sequences(model: str, loss: str) -> Train:
    walks, _ = sequences.generated(1000)
    recommender = sequence_recommender.Recommender(100, model)
    return lambda epochs, **options: recommender.fit(walks, loss, epochs, **options)


def _clicks(dimensions: int) -> Train:
    data = sparse_logistic_regression.Generated(pairs=dimensions > 0)
    model = sparse_logistic_regression.Clicks(data.rows, data.fields, dimensions)
    chunks = list(data)

    def train(epochs: int, **options: object) -> None:
        stream = ({model.features: rows, model.clicked: clicked} for _ in range(epochs) for rows, clicked in chunks)
        wyrm.fit(model.loss, stream, model.optimizers, **options)

    return train


def _skip_gram() -> Train:
    model = skip_gram.SkipGram(skip_gram.generated()[0])
    chunks = list(model.chunks())
    return lambda epochs, **options: wyrm.fit(
        model.loss, (c for _ in range(epochs) for c in chunks), model.optimizer, **options
    )


EXAMPLES: dict[str, tuple[Callable[[], Train], dict[str, object]]] = {
    "demo": (_demo, {}),
    "factorization, WARP": (lambda: _factorization("warp"), {}),
    "factorization, BPR": (lambda: _factorization("bpr"), {}),
    "logistic regression, FTRL": (lambda: _clicks(0), {}),
    "factorization machine": (lambda: _clicks(8), {}),
    "skip-gram with subwords": (_skip_gram, {}),
    "sequences, EWMA, hinge": (lambda: _sequences("ewma", "hinge"), {}),
    "sequences, LSTM, WARP": (lambda: _sequences("lstm", "warp"), {}),
    "sequences, LSTM, batches of 64": (lambda: _sequences("lstm", "warp"), {"batch_size": 64}),
    "sequences, LSTM, hogwild": (lambda: _sequences("lstm", "warp"), {"schedule": "hogwild"}),
}


def _seconds(train: Train, epochs: int, threads: int, options: dict[str, object]) -> float:
    began = time.perf_counter()
    train(epochs, num_threads=threads, **options)
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each example, as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one thread's run, at least")
    parser.add_argument("--backend", default=wyrm.get_backend().name)
    parser.add_argument("--only", default="", help="a part of the examples' names")
    given = parser.parse_args(arguments)
    with warnings.catch_warnings(), wyrm.use_backend(given.backend):
        warnings.simplefilter("ignore")
        _compare(given)


def _compare(given: argparse.Namespace) -> None:
    for name, (make, options) in EXAMPLES.items():
        if given.only not in name:
            continue
        train = make()
        epochs, took = 1, _seconds(train, 1, 1, options)
        while took < given.seconds:
            epochs = max(epochs + 1, math.ceil(epochs * min(10.0, 1.1 * given.seconds / took)))
            took = _seconds(train, epochs, 1, options)
        pairs = [[_seconds(train, epochs, threads, options) for threads in (1, 2)] for _ in range(given.rounds)]
        factors = [one / two for one, two in pairs]
        low, high = np.quantile(factors, [0.25, 0.75])
        said = (
            f"{given.backend}  {name:32} {epochs:5} epochs, {statistics.median(one for one, _ in pairs):5.2f} s on one thread;"
        )
        print(said, f"two are {statistics.median(factors):.2f} times as fast ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    main()
