"""Batches and schedules: steps of several examples, and what each schedule promises on several threads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD, Adagrad, Optimizer
from wyrm.training.history import History
from wyrm_conformance.check import Context, Failure, check
from wyrm_conformance.training import Model


def _data(rng: np.random.Generator, model: Model, examples: int) -> dict[Any, Any]:
    values = rng.integers(0, 11, examples), rng.integers(0, 13, examples), rng.uniform(-1, 1, examples)
    return dict(zip([*model.keys, model.target], values, strict=True))


def _fit(loss: wyrm.Node, feed: Mapping[Any, Any], optimizer: Optimizer, context: Context, **options: Any) -> History:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # more threads than cores, perhaps
        return wyrm.fit(loss, feed, optimizer, backend=context.backend, **options)


@check(
    "training/batches", "training", "a step after each batch is one by the mean gradient of its examples; the last is shorter"
)
def check_batches(context: Context) -> None:
    """Dense and row-sparse gradients, a norm that is clipped over all of them, and a learning rate for each step; shuffled."""
    for dtype in context.dtypes:
        seed = int(context.rng.integers(2**31))
        fitted, stepped = (Model(np.random.default_rng(seed), dtype) for _ in range(2))
        rate = lambda step: 0.1 / (1 + step)
        optimizers = [SGD(rate, model.parameters, clip_norm=2.0) for model in (fitted, stepped)]  # of some batches
        feed = _data(context.rng, fitted, 41)
        history = _fit(fitted.loss, feed, optimizers[0], context, batch_size=8, num_threads=1, schedule="hogwild", seed=3)
        inputs: list[Any] = [*stepped.keys, stepped.target]
        total = 0.0
        for n, example in enumerate(np.random.default_rng([3, 0, 1]).permutation(41)):
            for node, values in zip(inputs, feed.values(), strict=True):
                node.set_value(values[example])
            stepped.loss.forward(backend=context.backend)
            total += float(stepped.loss.value[0, 0])
            stepped.loss.backward(1 / 8 if n < 40 else 1.0)
            if n % 8 == 7 or n == 40:
                optimizers[1].step()
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        context.compare("mean loss", np.array(history.losses), np.array([total / 41]), tolerance)
        for a, b in zip(fitted.parameters, stepped.parameters, strict=True):
            context.compare(f"parameter in {dtype}", a.value, b.value, tolerance)


@check(
    "parallel/synchronized",
    "parallel",
    "any number of threads computes the same bits; a failing batch is not applied",
    requires=("synchronized",),
)
def check_synchronized(context: Context) -> None:
    """One thread, two and four; and a batch in which a loss is infinite."""
    ends: list[list[Any]] = []
    for threads in (1, 2, 4):
        model = Model(np.random.default_rng(1), "float32")
        feed = _data(np.random.default_rng(2), model, 500)
        optimizer = Adagrad(0.1, model.parameters, clip_norm=2.0)
        options: dict[str, Any] = {"batch_size": 32, "schedule": "synchronized", "seed": 0, "num_epochs": 2}
        history = _fit(model.loss, feed, optimizer, context, num_threads=threads, **options)
        context.require("every example was run once", sum(history.examples_per_thread) == 1000)
        ends.append([np.array(history.losses), *(parameter.value.copy() for parameter in model.parameters)])
        for first, other in zip(ends[0], ends[-1], strict=True):
            context.identical(f"on {threads} threads", other, first)
        feed[model.target] = np.where(np.arange(500) == 17, 1e30, feed[model.target])
        kept = [parameter.value.copy() for parameter in model.parameters]
        try:
            with context.oracle():  # which explains the infinite loss by computing the example again
                _fit(model.loss, feed, SGD(0.1, model.parameters), context, num_threads=threads, shuffle=False, **options)
        except wyrm.NotFiniteError as error:
            context.require(f"the message names example 17: {error}", "example 17" in str(error))
        else:
            raise Failure("an infinite loss was not noticed")
        for parameter, before in zip(model.parameters, kept, strict=True):
            context.identical("a parameter", parameter.value, before)


@check(
    "parallel/conflict_free",
    "parallel",
    "the same bits in every run with the same number of threads; every example once",
    requires=("hogwild",),
)
def check_conflict_free(context: Context) -> None:
    """Whole numbers that every example changes, and a factorization twice."""
    options: dict[str, Any] = {"schedule": "conflict_free", "num_threads": 3, "seed": 0, "num_epochs": 2}
    tables = [wyrm.ParameterNode(np.zeros((rows, 2))) for rows in (20, 30)]
    keys = [wyrm.IndexInputNode(), wyrm.IndexInputNode()]
    loss = (tables[0].index(keys[0]) + tables[1].index(keys[1])).scalar_sum()
    indices = [context.rng.integers(0, rows, 900) for rows in (20, 30)]
    _fit(loss, dict(zip(keys, indices, strict=True)), SGD(1.0, tables), context, **options)
    for table, index in zip(tables, indices, strict=True):
        counts = np.bincount(index, minlength=len(table.value)).reshape(-1, 1)
        context.compare("visits of rows", table.value, np.repeat(-2.0 * counts, 2, axis=1), 0)
    ends = []
    for _ in range(2):
        rng = np.random.default_rng(4)
        tables = [wyrm.ParameterNode(rng.uniform(-1, 1, (rows, 9))) for rows in (20, 30)]
        target = wyrm.InputNode((1, 1))
        loss = (tables[0].index(keys[0]).vector_dot(tables[1].index(keys[1])) - target).square()
        feed = {keys[0]: indices[0], keys[1]: indices[1], target: rng.uniform(-1, 1, 900)}
        history = _fit(loss, feed, Adagrad(0.05, tables), context, **options)
        ends.append([np.array(history.losses), *(table.value.copy() for table in tables)])
    for first, second in zip(*ends, strict=True):
        context.identical("the second run", second, first)
