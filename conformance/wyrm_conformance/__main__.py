"""``python -m wyrm_conformance --backend NAME``: check a backend, and say which levels it reaches."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence

import wyrm
from wyrm_conformance import __version__
from wyrm_conformance.check import LEVELS
from wyrm_conformance.runner import Result, find_backend, levels_reached, run, select


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wyrm_conformance", description=__doc__)
    parser.add_argument("--backend", required=True, metavar="NAME", help="by name, or module:object")
    parser.add_argument("--level", choices=LEVELS, default=LEVELS[-1], help="run the checks up to this level (default: all)")
    parser.add_argument("--select", action="append", default=[], metavar="PATTERN", help="run only checks whose name matches")
    parser.add_argument("--seed", type=int, default=None, help="of all random numbers (default: a new one)")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    try:
        backend = find_backend(options.backend)
    except (wyrm.WyrmError, ImportError, AttributeError, TypeError) as error:
        print(f"wyrm_conformance: {error}", file=sys.stderr)
        return 2
    checks = select(options.level, options.select)
    if not checks:
        print(f"wyrm_conformance: no check matches {', '.join(options.select)}", file=sys.stderr)
        return 2
    print(f"wyrm_conformance {__version__}, wyrm {wyrm.__version__}, backend {backend.name} {backend.declaration.version}")
    print(f"{len(checks)} checks, seed {seed}", flush=True)
    results = run(backend, checks, seed, lambda result: _show(result, options.backend, seed))
    return _summary(results)


def _show(result: Result, backend: str, seed: int) -> None:
    if result.passed:
        detail = f"{result.compared:7d} numbers, worst error {result.worst:8.2g} of what is allowed"
        print(f"ok      {result.check.name:26s} {detail}, {result.seconds:5.2f} s", flush=True)
        return
    print(f"FAILED  {result.check.name}: {result.failure}")
    print(f"        it protects: {result.check.protects}")
    print(f'        repeat with: python -m wyrm_conformance --backend {backend} --select "{result.check.name}" --seed {seed}')
    sys.stdout.flush()


def _summary(results: Sequence[Result]) -> int:
    failed = [result.check.name for result in results if not result.passed]
    for level, reached in levels_reached(results).items():
        own = [result for result in results if result.check.level == level]
        passed = sum(result.passed for result in own)
        print(f"level {level}: {'reached' if reached else 'NOT reached'}, {passed} of {len(own)} checks passed")
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
