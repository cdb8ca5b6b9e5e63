"""Runs checks and keeps what came of them."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import wyrm
from wyrm.backend import Backend, Declaration, Exemption
from wyrm.declared import problem
from wyrm_conformance import (
    bounds,
    chains,
    changing,
    contract,
    draws,
    feeds,
    gradients,
    graphs,
    kernels,
    layers,
    long_feeds,
    many,
    missed_rows,
    optimizers,
    outputs,
    own_steps,
    parallel,
    rules,
    schedules,
    sequences,
    sparse,
    special,
    statuses,
    tables,
    teams,
    training,
    turns,
    unsound,
    updates,
)
from wyrm_conformance.check import CHECKS, LEVELS, Check, Context, Failure, declares
from wyrm_conformance.guard import Guard
from wyrm_conformance.refusals import check_refused
from wyrm_conformance.results import Result, levels_reached
from wyrm_conformance.time_limit import time_limit

__all__ = ["FAMILIES", "Result", "check_exemptions", "exempted", "find_backend", "levels_reached", "run", "run_one", "select"]

#: The modules that register checks.
FAMILIES = (
    contract,
    unsound,
    turns,
    statuses,
    bounds,
    kernels,
    chains,
    tables,
    special,
    many,
    updates,
    gradients,
    graphs,
    layers,
    sparse,
    draws,
    optimizers,
    own_steps,
    missed_rows,
    changing,
    rules,
    training,
    feeds,
    long_feeds,
    sequences,
    outputs,
    parallel,
    schedules,
    teams,
)


def find_backend(name: str) -> Backend:
    """A backend by name, or by ``module:object``: a backend, a class of one, or a declaration."""
    if ":" not in name:
        return wyrm.get_backend(name)
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, Declaration):
        wrong = problem(found)
        if wrong:
            raise wyrm.BackendError(f"the declaration {name} is not valid: {wrong}")
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
        if check.level == level and (not patterns or any(check.name == p or fnmatchcase(check.name, p) for p in patterns))
    ]


def run(
    backend: Backend,
    checks: Iterable[Check],
    seed: int,
    report: Callable[[Result], None] | None = None,
    fail_fast: bool = False,
) -> list[Result]:
    """Run checks on a backend, each by random numbers of its own; with ``fail_fast``, up to the first that fails.

    Raises
    ------
    BackendError
        Where the backend's declaration has an exemption from a check that there is not.
    """
    check_exemptions(backend)
    results = []
    for check in checks:
        result = run_one(backend, check, seed)
        results.append(result)
        if report is not None:
            report(result)
        if fail_fast and result.outcome == "failed":
            break
    return results


def check_exemptions(backend: Backend) -> None:
    """Raise as :func:`run` does."""
    unknown = sorted(set(backend.declaration.exemptions) - set(CHECKS))
    if unknown:
        raise wyrm.BackendError(f"backend {backend.name!r} declares exemptions from checks that there are not: {unknown}")


def run_one(backend: Backend, check: Check, seed: int) -> Result:
    """Run one check; where it needs what is not declared, the check that this is refused."""
    exemption = backend.declaration.exemptions.get(check.name)
    refused = next((word for word in check.requires if not declares(backend.capabilities, word)), "")
    began = time.perf_counter()
    with Guard(backend) as guard, wyrm.use_backend(backend):
        factor = 1.0 if exemption is None or exemption.factor is None else exemption.factor
        context = Context(backend, seed, check.name, factor, guard)
        failure, details = "", dict[str, Any]()
        try:
            with time_limit():
                if refused:
                    check_refused(context, refused)
                else:
                    check.function(context)
            needed = 1 if refused else check.at_least
            if not context.compared:
                failure = "the check compared nothing"
            elif context.compared < needed:
                failure = f"the check compared {context.compared} numbers, not the {needed} that there should be at least"
        except Failure as error:
            failure, details = str(error), error.details
        except Exception:
            failure = "raised\n" + traceback.format_exc()
    seconds = time.perf_counter() - began
    outcome: Any = "failed" if failure else "refused" if refused else "passed"
    result = Result(check, outcome, failure, context.compared, context.worst, seconds, refused, factor, details=details)
    return result if exemption is None else exempted(result, exemption)


def exempted(result: Result, exemption: Exemption) -> Result:
    """The result in the light of what the backend declares about this check; an exemption that is of no use is a failure."""
    result = result._replace(reason=exemption.reason)
    if exemption.factor is None:
        if not result.passed:
            return result._replace(outcome="expected failure")
        return result._replace(outcome="failed", failure=f"declared to fail ({exemption.reason}), but it passed")
    if result.passed and result.worst * exemption.factor <= 1:
        failure = f"bounds declared wider by {exemption.factor:g} ({exemption.reason}), but the usual ones were kept"
        return result._replace(outcome="failed", failure=failure)
    return result
