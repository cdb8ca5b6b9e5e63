"""``python -m wyrm_conformance selftest``: shows that the suite catches faults, and that a correct backend passes.

Faults are planted one by one, and the checks that are meant for them are run: each has to fail. With ``--full`` every check is
run on every fault, and the whole matrix is printed; only those are left out, and known to pass, that have been seen to make no
use of what is at fault: a kernel, a function, or an op's derivatives.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

from wyrm_conformance.check import CHECKS
from wyrm_conformance.faults import FAULTS, noted
from wyrm_conformance.runner import run_one, select

__all__ = ["Outcome", "main", "run_selftest"]

#: Of all random numbers.
SEED = 20260101


class Outcome(NamedTuple):
    """What came of one fault, or of one check on the correct backend.

    Attributes
    ----------
    fault
        Empty where the backend is correct.
    failed, run
        Checks that failed, of those that were run.
    message
        Of the first failure.
    seconds
        What it took.
    parts
        Of the correct backend: what the check makes use of, of all that faults are in.
    """

    fault: str
    failed: tuple[str, ...]
    run: tuple[str, ...]
    message: str
    seconds: float
    parts: frozenset[str] = frozenset()


def run_fault(name: str, names: Sequence[str] = (), seed: int = SEED) -> Outcome:
    """Plant a fault and run checks on it: those given, or those that are meant for it."""
    fault, began = FAULTS[name], time.perf_counter()
    names = names or fault.checks
    failed, message = [], ""
    with fault.plant() as backend:
        for check in names:
            result = run_one(backend, CHECKS[check], seed)
            if not result.passed:
                failed.append(check)
                message = message or result.failure.splitlines()[-1]
    return Outcome(name, tuple(failed), tuple(names), message, time.perf_counter() - began)


def run_correct(name: str, seed: int = SEED) -> Outcome:
    """One check on the correct backend."""
    parts = set[str]()
    with noted(parts) as backend:
        result = run_one(backend, CHECKS[name], seed)
    return Outcome("", () if result.passed else (name,), (name,), result.failure, result.seconds, frozenset(parts))


def run_selftest(full: bool = False, processes: int | None = None, passed: Container[str] = ()) -> Iterator[Outcome]:
    """All outcomes, as they come; the correct backend's have no fault's name. Not run on it are checks known to have passed."""
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        # Those that take longest first.
        jobs = [pool.submit(run_correct, check.name) for check in reversed(select()) if full or check.name not in passed]
        if not full:
            jobs += [pool.submit(run_fault, name) for name in FAULTS]
        uses = dict[str, frozenset[str]]()
        for job in jobs:
            outcome = job.result()
            if not outcome.fault:
                uses[outcome.run[0]] = outcome.parts
            yield outcome
        if full:
            for job in [pool.submit(run_fault, name, noticing(name, uses)) for name in FAULTS]:
                yield job.result()


def noticing(name: str, uses: Mapping[str, frozenset[str]]) -> list[str]:
    """The checks that could notice a fault, by what each makes use of, and those that are meant to."""
    fault = FAULTS[name]
    return [c.name for c in select() if not fault.parts or fault.parts & uses[c.name] or c.name in fault.checks]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 where a fault survived, a check killed none, or the correct backend failed."""
    parser = argparse.ArgumentParser(prog="python -m wyrm_conformance selftest", description=__doc__)
    parser.add_argument("--full", action="store_true", help="run every check on every fault; print the matrix")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    killed: dict[str, tuple[str, ...]] = {}
    wrong = []
    for outcome in run_selftest(options.full):
        if not outcome.fault:
            wrong += [f"a correct backend fails {name}: {outcome.message}" for name in outcome.failed]
            continue
        killed[outcome.fault] = outcome.failed
        missed = [check for check in FAULTS[outcome.fault].checks if check not in outcome.failed]
        wrong += [f"{check} does not catch: {outcome.fault}" for check in missed]
        fate, by = "SURVIVED" if missed else "killed  ", ", ".join(outcome.failed) or "by none"
        print(f"{fate} {outcome.seconds:5.2f} s  {outcome.fault}: {by}", flush=True)
    wrong += [f"{name} catches no fault" for name in unused(killed)]
    if options.full:
        print(matrix(killed))
    print("\n".join(wrong) if wrong else "a correct backend passes every check")
    seconds = time.perf_counter() - began
    print(f"{sum(bool(checks) for checks in killed.values())} of {len(FAULTS)} faults killed, {seconds:.1f} s")
    return int(bool(wrong))


def unused(killed: dict[str, tuple[str, ...]]) -> list[str]:
    """The checks that caught nothing."""
    caught = {check for checks in killed.values() for check in checks}
    return [name for name in CHECKS if name not in caught]


def matrix(killed: dict[str, tuple[str, ...]]) -> str:
    """Faults by checks: an x where the check caught the fault."""
    names = list(CHECKS)
    lines = [f"{n:4d} {name}" for n, name in enumerate(names)]
    for fault, checks in killed.items():
        lines.append("".join("x" if name in checks else "." for name in names) + f" {fault}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
