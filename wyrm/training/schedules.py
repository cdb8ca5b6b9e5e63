"""Schedules: which crew an option stands for, and what a backend or a model refuses."""

from __future__ import annotations

import warnings
from typing import Any

from wyrm.backend import Backend
from wyrm.errors import CapabilityError, DTypeError, OptionError
from wyrm.training.auto import Auto, Trial
from wyrm.training.conflict_free import BLOCKS, ConflictFree, refuse_conflict_free
from wyrm.training.crews import Crew, Hogwild, Work, available_cores
from wyrm.training.feed import check_integer
from wyrm.training.synchronized import Synchronized, refuse_synchronized

__all__ = ["SCHEDULES", "check_schedule", "make_crew", "resolve_threads"]

SCHEDULES = ("auto", "sequential", "hogwild", "synchronized", "conflict_free")
#: What a backend has to declare for a schedule on several threads.
_NEEDS = {"hogwild": "hogwild", "synchronized": "synchronized", "conflict_free": "hogwild"}


def resolve_threads(num_threads: int | None, caller: str) -> int | None:
    """The number of threads that an option asks for; ``None`` where it asks for none.

    Raises
    ------
    DTypeError, OptionError
        Where it is no number of threads.
    """
    if num_threads is None:
        return None
    threads = check_integer(num_threads, f"{caller}: num_threads")
    if threads < 1:
        raise OptionError(f"{caller}: expected num_threads of at least 1, got {threads}")
    if threads > available_cores():
        message = f"{caller}: {threads} threads on {available_cores()} cores will get in each other's way"
        warnings.warn(message, RuntimeWarning, stacklevel=4)
    return threads


def check_schedule(schedule: Any, caller: str) -> str:
    """A schedule by its name.

    Raises
    ------
    DTypeError, OptionError
        If it is none of :data:`SCHEDULES`.
    """
    if not isinstance(schedule, str):
        raise DTypeError(f"{caller}: expected schedule as a string, got {schedule!r}")
    if schedule not in SCHEDULES:
        raise OptionError(f"{caller}: expected schedule to be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    return schedule


def make_crew(
    work: Work,
    schedule: str,
    num_threads: int | None,
    reproducible: bool,
    caller: str,
    trial: Trial | None = None,
) -> Crew:
    """The crew for a schedule.

    Parameters
    ----------
    schedule
        One of :data:`SCHEDULES`.
    num_threads
        How many threads; ``None``: as many as there are cores, or one where there is a reason.
    reproducible
        Whether ``auto`` may only choose what gives the same bits again, on any machine.
    trial
        What ``auto`` has found out over other data.

    Raises
    ------
    OptionError
        Where the model cannot have the schedule.
    CapabilityError
        Where the backend does not declare it.
    """
    if schedule == "auto":
        return _auto(work, num_threads, reproducible, caller, trial or Trial())
    if schedule == "sequential":
        if num_threads not in (None, 1):
            raise OptionError(f"{caller}: schedule='sequential' is one thread; got num_threads={num_threads}")
        return _build(work, "hogwild", 1)
    threads = num_threads or available_cores()
    if num_threads is None and _NEEDS[schedule] not in work.backend.capabilities.schedules:
        threads = 1
    _require(work.backend, schedule, threads, caller)
    refused = refusal(work, schedule, threads)
    if refused:
        raise OptionError(f"{caller}: schedule={schedule!r} is not possible here: {refused}")
    return _build(work, schedule, threads)


def refusal(work: Work, schedule: str, num_threads: int) -> str:
    """Why a model cannot have a schedule; empty where it can."""
    if schedule == "synchronized":
        return refuse_synchronized(work, num_threads)
    return refuse_conflict_free(work) if schedule == "conflict_free" else ""


def _require(backend: Backend, schedule: str, threads: int, caller: str) -> None:
    if threads > 1 and _NEEDS[schedule] not in backend.capabilities.schedules:
        raise CapabilityError(
            f"{caller}: backend {backend.name!r} does not declare the schedule {_NEEDS[schedule]!r}, so it runs on one thread; "
            f"got num_threads={threads}"
        )


def _build(work: Work, schedule: str, threads: int) -> Crew:
    if schedule == "synchronized":
        return Synchronized(work, threads)
    if schedule == "conflict_free":
        return ConflictFree(work, [work.worker() for _ in range(min(threads, BLOCKS))])
    return Hogwild([work.worker() for _ in range(threads)])


def _auto(work: Work, num_threads: int | None, reproducible: bool, caller: str, trial: Trial) -> Crew:
    """One thread, or what promises to be faster and changes no update."""
    backend = work.backend
    if num_threads is not None:
        _require(backend, "hogwild", num_threads, caller)
    threads = num_threads or available_cores()
    alone = ""
    if threads == 1:
        alone = "one thread was asked for" if num_threads else "there is one core"
    elif "hogwild" not in backend.capabilities.schedules:
        alone = f"backend {backend.name!r} does not declare several threads"
    elif num_threads is None and not backend.capabilities.releases_gil:
        alone = f"backend {backend.name!r} holds the interpreter's lock"
    if alone:
        threads = 1
    if reproducible:
        return _by_rule(work, threads, trial)
    if not alone and backend.capabilities.releases_gil:
        workers = [work.worker() for _ in range(threads)]
        several = [] if refusal(work, "conflict_free", threads) else [ConflictFree(work, workers)]
        return Auto([Hogwild(workers[:1]), *several, Hogwild(workers)], trial)
    crew = _build(work, "hogwild", threads)
    crew.reason = alone or f"backend {backend.name!r} holds the interpreter's lock: nothing to measure"
    return crew


def _by_rule(work: Work, threads: int, trial: Trial) -> Crew:
    """What gives the same bits on any number of threads; so it is the model that decides on the schedule, not the machine."""
    if work.batch_size == 1:
        crew = _build(work, "hogwild", 1)
        crew.reason = "with seed= and batch_size=1, one thread"
        return crew
    backend = work.backend
    if "synchronized" not in backend.capabilities.schedules or refusal(work, "synchronized", threads):
        threads = 1
    team = Synchronized(work, threads)
    if threads > 1 and backend.capabilities.releases_gil:
        return Auto([Synchronized(team, 1), team], trial)
    team.reason = "with seed= and batch_size > 1"
    return team
