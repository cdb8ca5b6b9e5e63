"""Schedules: which crew an option stands for, and what a backend or a model refuses."""

from __future__ import annotations

import warnings

from wyrm.backend import Backend
from wyrm.errors import CapabilityError, DTypeError, OptionError
from wyrm.training.auto import Auto, Trial
from wyrm.training.conflict_free import ConflictFree, refuse_conflict_free
from wyrm.training.crews import Crew, Hogwild, Work, available_cores
from wyrm.training.feed import check_integer
from wyrm.training.synchronized import Synchronized, refuse_synchronized

__all__ = ["SCHEDULES", "make_crew", "resolve_threads"]

SCHEDULES = ("auto", "hogwild", "synchronized", "conflict_free")
#: Examples in an epoch below which a second thread is not worth its start, where nothing is measured.
_WORTH_THREADS = 20_000
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


def make_crew(
    work: Work,
    schedule: str,
    num_threads: int | None,
    length: int,
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
    length
        How many examples there are in an epoch.
    reproducible
        Whether ``auto`` may only choose what gives the same bits again.
    trial
        What ``auto`` has found out over other data.

    Raises
    ------
    OptionError
        Where the schedule is not known, or the model cannot have it.
    CapabilityError
        Where the backend does not declare it.
    """
    if not isinstance(schedule, str):
        raise DTypeError(f"{caller}: expected schedule as a string, got {schedule!r}")
    if schedule not in SCHEDULES:
        raise OptionError(f"{caller}: expected schedule to be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if schedule == "auto":
        return _auto(work, num_threads, length, reproducible, caller, trial or Trial())
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
    workers = [work.worker() for _ in range(threads)]
    return ConflictFree(work, workers) if schedule == "conflict_free" else Hogwild(workers)


def _auto(work: Work, num_threads: int | None, length: int, reproducible: bool, caller: str, trial: Trial) -> Crew:
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
    if alone or (length < _WORTH_THREADS and reproducible and work.batch_size == 1):
        threads = 1
    refused = refusal(work, "conflict_free", threads)
    if not reproducible:
        if not alone and backend.capabilities.releases_gil:
            workers = [work.worker() for _ in range(threads)]
            several = [ConflictFree(work, workers)] if not refused else []
            return Auto([Hogwild(workers[:1]), *several, Hogwild(workers)], trial)
        schedule, reason = "hogwild", alone or f"backend {backend.name!r} holds the interpreter's lock: nothing to measure"
    elif threads > 1 and not refused:
        schedule, reason = "conflict_free", "with seed=, where every parameter is looked up by one of two inputs"
    elif work.batch_size > 1:
        schedule, reason = "synchronized", "with seed= and batch_size > 1"
        if alone or "synchronized" not in backend.capabilities.schedules or refusal(work, schedule, threads):
            threads = 1
        if threads > 1 and backend.capabilities.releases_gil:
            team = Synchronized(work, threads)
            return Auto([Synchronized(team, 1), team], trial)
    else:
        why = alone or ("there are too few examples for more" if threads == 1 else f"conflict_free is not possible: {refused}")
        schedule, threads, reason = "hogwild", 1, f"with seed=, one thread: {why}"
    crew = _build(work, schedule, threads)
    crew.reason = reason
    return crew
