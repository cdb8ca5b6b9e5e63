"""Threads that share parameters."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD
from wyrm_conformance.check import Context, Failure, check


@check("parallel/hogwild", "parallel", "threads on different rows lose no update; on shared rows training converges")
def check_hogwild(context: Context) -> None:
    """Exact sums on disjoint rows; a factorization that several threads fit."""
    if "hogwild" not in context.backend.capabilities.schedules:
        check_refused(context)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # more threads than cores, perhaps
        table, index = wyrm.ParameterNode(np.zeros((2000, 16))), wyrm.IndexInputNode()
        loss = table.index(index).scalar_sum()
        options: dict[str, Any] = {"num_threads": 4, "schedule": "hogwild", "backend": context.backend}
        wyrm.fit(loss, {index: np.arange(2000)}, SGD(1.0, [table]), num_epochs=5, **options)
        context.compare("updates of disjoint rows", table.value, np.full((2000, 16), -5.0), 0)

        truth = context.rng.normal(size=(20, 3)) @ context.rng.normal(size=(3, 30))
        users, items = context.rng.integers(0, 20, 2000), context.rng.integers(0, 30, 2000)
        tables = [wyrm.ParameterNode(context.rng.uniform(-0.5, 0.5, (rows, 4))) for rows in (20, 30)]
        user, item, rating = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
        loss = (tables[0].index(user).vector_dot(tables[1].index(item)) - rating).square()
        feed = {user: users, item: items, rating: truth[users, items]}
        options["num_threads"] = 3
        history = wyrm.fit(loss, feed, SGD(0.03, tables), num_epochs=12, seed=0, **options)
        ratio = history.losses[-1] / history.losses[0]
        context.require(f"the loss fell to {ratio:.3f} of what it was; expected less than 0.3", ratio < 0.3)


def check_refused(context: Context) -> None:
    """Where it is not declared, more than one thread is refused before anything runs."""
    w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
    try:
        wyrm.fit(w * x, {x: [1.0]}, SGD(0.1, [w]), num_threads=2, backend=context.backend)
    except wyrm.CapabilityError as error:
        context.require(f"the message names the schedule: {error}", "hogwild" in str(error))
        context.compare("the parameter", w.value, np.ones((1, 1)), 0)
    else:
        raise Failure("two threads were accepted, though the schedule hogwild is not declared")
