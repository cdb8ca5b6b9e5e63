"""Runs checks and keeps what came of them."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from typing import NamedTuple

import wyrm
from wyrm.backend import Backend, Declaration
from wyrm_conformance import draws, gradients, layers, optimizers, parallel, schedules, sequences, sparse, training
from wyrm_conformance.check import CHECKS, LEVELS, Check, Context, Failure

__all__ = ["Result", "find_backend", "levels_reached", "run", "select"]

#: The modules that register checks.
FAMILIES = (gradients, layers, sparse, draws, optimizers, training, sequences, parallel, schedules)


class Result(NamedTuple):
    """What came of one check.

    Attributes
    ----------
    failure
        What went wrong; empty where nothing did.
    compared
        How many numbers were compared.
    worst
        The largest error, as a part of what was allowed.
    """

    check: Check
    failure: str
    compared: int
    worst: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing went wrong."""
        return not self.failure


def find_backend(name: str) -> Backend:
    """A backend by name, or by ``module:object``: a backend, a class of one, or a declaration."""
    if ":" not in name:
        return wyrm.get_backend(name)
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, Declaration):
        backend = found.load()
        backend.declaration = found
        return backend
    backend = found() if isinstance(found, type) else found
    if not isinstance(backend, Backend):
        raise TypeError(f"{name} is no backend but {type(backend).__name__}")
    if not hasattr(backend, "declaration"):
        raise TypeError(f"{name} has no declaration; name the declaration instead, or set the backend's attribute")
    return backend


def select(level: str = LEVELS[-1], patterns: Iterable[str] = ()) -> list[Check]:
    """The checks up to a level, in that order, whose names match one of the patterns; where there are none, all of them."""
    levels = LEVELS[: LEVELS.index(level) + 1]
    patterns = list(patterns)
    return [
        check
        for level in levels
        for check in CHECKS.values()
        if check.level == level and (not patterns or any(fnmatch(check.name, pattern) for pattern in patterns))
    ]


def run(backend: Backend, checks: Iterable[Check], seed: int, report: Callable[[Result], None] | None = None) -> list[Result]:
    """Run checks on a backend, each by random numbers of its own."""
    results = []
    for check in checks:
        result = _run_one(backend, check, seed)
        results.append(result)
        if report is not None:
            report(result)
    return results


def _run_one(backend: Backend, check: Check, seed: int) -> Result:
    context = Context(backend, seed, check.name)
    began = time.perf_counter()
    failure = ""
    try:
        check.function(context)
        if not context.compared:
            failure = "the check compared nothing"
    except Failure as error:
        failure = str(error)
    except Exception:
        failure = "raised\n" + traceback.format_exc()
    return Result(check, failure, context.compared, context.worst, time.perf_counter() - began)


def levels_reached(results: Iterable[Result]) -> dict[str, bool]:
    """For each level of which checks were run, whether all of them, and all of the levels before, passed."""
    results = list(results)
    reached: dict[str, bool] = {}
    for level in LEVELS:
        own = [result.passed for result in results if result.check.level == level]
        if own:
            reached[level] = all(own) and all(reached.values())
    return reached
