"""``python -m benchmarks``: measure, and write the results as JSON and as a page with pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.entrants import backends, entrants
from benchmarks.instructions import count_instructions
from benchmarks.machine import describe
from benchmarks.measuring import Settings, measure
from benchmarks.report import digits, write_report
from benchmarks.results import Entry, Results
from benchmarks.sweeps import SWEEPS, run_sweep
from benchmarks.workloads import WORKLOADS

_ROOT = Path(__file__).parent.parent
#: What is swept and how is not measured as long as the workloads.
_SWEEP_ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status: 1 where a competitor computed something else."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", metavar="'w1 w2'", help="these workloads, or sweeps, or instructions")
    parser.add_argument("--backend", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--peers", action="store_true", help="programs by others, too; they are installed into out/peers")
    parser.add_argument("--rounds", type=int, default=Settings.rounds, help="turns of each competitor (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="length of a turn (default: %(default)s)")
    parser.add_argument(
        "--page", type=Path, help="where the page goes (default: docs/benchmarks.md, with --only out/benchmarks.md)"
    )
    parser.add_argument("--again", action="store_true", help="do not measure: make the page anew from the results beside it")
    options = parser.parse_args(arguments)
    chosen = options.only.lower().split()
    known = [*WORKLOADS, "sweeps", "instructions"]
    if unknown := [key for key in chosen if key not in known]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    page = options.page or _ROOT / ("out" if chosen else "docs") / "benchmarks.md"
    saved = page.with_suffix("") / "results.json"
    if options.again:
        results = Results.load(saved)
    else:
        results = run(chosen or known, options.backend or backends(), Settings(options.rounds, options.seconds), options.peers)
        results.save(saved)
    write_report(results, page)
    print(f"Results: {saved}\nPage: {page}")
    return int(results.wrong)


def run(chosen: Sequence[str], names: Sequence[str], settings: Settings, with_peers: bool = False) -> Results:
    """Measure what is chosen, and say how it goes."""
    results = Results(describe(names), vars(settings))
    for workload in (WORKLOADS[key] for key in WORKLOADS if key in chosen):
        print(f"{workload.key.upper()}: {workload.title}", flush=True)
        entries = measure(workload, entrants(workload, names, with_peers), settings, print)
        results.entries += entries
        _show([entry for entry in entries if entry.seconds], workload.unit)
    for sweep in SWEEPS if "sweeps" in chosen else ():
        print(sweep.title, flush=True)
        fewer = Settings(min(settings.rounds, _SWEEP_ROUNDS), settings.seconds)
        results.points += run_sweep(sweep, [name for name in names if name != "reference"], fewer, print)
    if "instructions" in chosen:
        print("Instructions", flush=True)
        results.instructions, reason = count_instructions(
            [key for key in WORKLOADS if key in chosen or chosen == ["instructions"]]
        )
        print(*(f"  {one.workload.upper()}: {one.count:,.1f}" for one in results.instructions), sep="\n")
        if reason:
            print(f"  left out: {reason}")
    return results


def _show(entries: Sequence[Entry], unit: str) -> None:
    for entry in entries:
        print(
            f"  {entry.label:45} {digits(entry.microseconds):>10} µs a {unit} {digits(entry.ratio(entries[0])):>10} ×",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
