"""``python -m wyrm_conformance --backend NAME``: check a backend, and say which levels it reaches.

``compare A.json B.json …`` shows reports side by side; ``selftest`` shows that the suite catches faults.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wyrm
from wyrm_conformance import __version__
from wyrm_conformance.check import LEVELS
from wyrm_conformance.compare import comparison, read_runs
from wyrm_conformance.context import as_text
from wyrm_conformance.results import Result, Subject, levels_reached, missing, report_of_run, write_report
from wyrm_conformance.runner import select
from wyrm_conformance.variants import UNAVAILABLE, chosen_variants, declaration_of, run_variant
from wyrm_conformance.worker import Unusable, Worker


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 where a check failed, 2 where nothing could be run."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["compare"]:
            return _compare(arguments[1:])
        if arguments[:1] == ["selftest"]:
            from wyrm_conformance.selftest import main as selftest

            return selftest(arguments[1:])
        return _check(arguments)
    except (wyrm.WyrmError, Unusable, ImportError, AttributeError, TypeError) as error:
        print(f"wyrm_conformance: {error}", file=sys.stderr)
        unavailable = isinstance(error, Unusable) and error.here
        return UNAVAILABLE if "--as-variant" in arguments and unavailable else 2


def _compare(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m wyrm_conformance compare", description="Reports side by side, in Markdown."
    )
    parser.add_argument("report", type=Path, nargs="+", help="written by --report")
    print(comparison(read_runs(parser.parse_args(arguments).report)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m wyrm_conformance", description=__doc__)
    parser.add_argument("--backend", required=True, metavar="NAME", help="by name, or module:object")
    parser.add_argument("--variant", metavar="NAME", help="run a variant that the backend declares, or all of them")
    parser.add_argument("--level", choices=LEVELS, default=LEVELS[-1], help="run the checks up to this level (default: all)")
    parser.add_argument("--select", action="append", default=[], metavar="PATTERN", help="run only checks whose name matches")
    parser.add_argument("--seed", type=int, default=None, help="of all random numbers (default: a new one)")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write what was found to a file")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first check that fails")
    parser.add_argument("--list", action="store_true", help="say what the checks are, and run none")
    parser.add_argument("--as-variant", default="", help=argparse.SUPPRESS)
    return parser


def _check(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    checks = select(options.level, options.select)
    if not checks:
        raise wyrm.OptionError(f"no check matches {', '.join(options.select)}")
    if options.list:
        for check in checks:
            print(f"{check.name} ({check.level}; {check.section}): {check.protects}")
        return 0
    if options.variant is not None:
        return _run_variants(options, seed)
    with Worker(options.backend, seed) as worker:
        backend = worker.subject
        title = f"{backend.name} {backend.version}"
        if options.as_variant:
            title += f", variant {options.as_variant}"
        print(f"wyrm_conformance {__version__}, wyrm {wyrm.__version__}, backend {title}")
        print(f"{len(checks)} checks, seed {seed}", *(f"{k} {v}" for k, v in backend.details.items()), sep=", ", flush=True)
        began, report, results = time.perf_counter(), _Progress(len(checks), options, seed), list[Result]()
        for check in checks:
            results.append(worker.run(check))
            report(results[-1])
            if options.fail_fast and results[-1].outcome == "failed":
                break
        seconds = time.perf_counter() - began
    if options.report is not None:
        entry = report_of_run(backend, options.as_variant, seed, options.select, options.level, results, seconds)
        write_report(options.report, [entry])
    return _summary(results, backend, seconds)


def _run_variants(options: argparse.Namespace, seed: int) -> int:
    common = ["--backend", options.backend, "--level", options.level, "--seed", str(seed)]
    common += [f"--select={pattern}" for pattern in options.select]
    runs: list[dict[str, Any]] = []
    worst = 0
    outcomes = {}
    for variant, environment in chosen_variants(declaration_of(options.backend), options.variant).items():
        status, found = run_variant(variant, environment, common)
        print(flush=True)
        runs += found
        outcomes[variant] = {0: "passed", UNAVAILABLE: "not run: the backend says that it cannot run here"}.get(
            status, "FAILED"
        )
        worst = max(worst, status if status != UNAVAILABLE or options.variant != "all" else 0)
    if options.report is not None:
        write_report(options.report, runs)
    for variant, outcome in outcomes.items():
        print(f"variant {variant or '(none declared)'}: {outcome}")
    return worst if runs else max(worst, 2)


class _Progress:
    """Shows each result as it comes."""

    def __init__(self, count: int, options: argparse.Namespace, seed: int) -> None:
        self.count, self.options, self.seed, self.done = count, options, seed, 0

    def __call__(self, result: Result) -> None:
        self.done += 1
        head = f"[{self.done:{len(str(self.count))}d}/{self.count}]"
        name = result.check.name
        if result.passed:
            detail = f"{result.compared:7d} numbers, worst error {result.worst:8.2g} of what is allowed"
            if result.not_declared:
                detail = f"{result.not_declared} is not declared, and refused"
            if result.factor != 1:
                detail += f", bounds wider by {result.factor:g}: {result.reason}"
            print(f"{head} ok      {name:30s} {detail}, {result.seconds:5.2f} s", flush=True)
            return
        if result.outcome == "expected failure":
            print(f"{head} expected failure {name}: {result.reason}", flush=True)
            return
        print(f"{head} FAILED  {name}: {result.failure}")
        for line in as_text(result.details):
            print(f"        {line}")
        print(f"        it protects: {result.check.protects} ({result.check.section})")
        variant = f" --variant {self.options.as_variant}" if self.options.as_variant else ""
        replay = f'--backend {self.options.backend}{variant} --select "{name}" --seed {self.seed}'
        print(f"        repeat with: python -m wyrm_conformance {replay}", flush=True)


def _summary(results: Sequence[Result], backend: Subject, seconds: float) -> int:
    failed = [result.check.name for result in results if result.outcome == "failed"]
    expected = [result.check.name for result in results if result.outcome == "expected failure"]
    below = ""
    for level, reached in levels_reached(results, backend).items():
        own = [result for result in results if result.check.level == level]
        passed = sum(result.passed for result in own)
        lacks = f"; it requires {', '.join(missing(backend, level))}" if missing(backend, level) else ""
        if not reached and below:
            lacks += f"; it needs level {below}, which is not reached"
        print(f"level {level}: {'reached' if reached else 'NOT reached'}, {passed} of {len(own)} checks passed{lacks}")
        below = below or ("" if reached else level)
    if expected:
        print(f"expected failures, as declared: {', '.join(expected)}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    else:
        print("no other check failed" if expected else "all checks passed")
    print(f"{seconds:.1f} s")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
