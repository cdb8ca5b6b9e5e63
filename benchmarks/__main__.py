"""``python -m benchmarks``: measure, and write the results as JSON and as a page with pictures."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import interactions, large_table
from benchmarks.entrants import backends, entrants
from benchmarks.instructions import count_instructions
from benchmarks.machine import describe
from benchmarks.measuring import Settings, measure
from benchmarks.pages import write_pages
from benchmarks.results import Entry, Results
from benchmarks.starting import measure_starts
from benchmarks.sweeps import SWEEPS, run_sweep
from benchmarks.tables import digits
from benchmarks.workloads import WORKLOADS

_ROOT = Path(__file__).parent.parent
#: What is swept and how is not measured as long as the workloads.
_SWEEP_ROUNDS = 3
#: What there is besides workloads, in the order in which it is measured.
_OTHERS = ("large", "starts", "sweeps", "instructions")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status: 1 where a competitor computed something else."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", metavar="'w1 w2'", help=f"these workloads, or {', '.join(_OTHERS)}")
    parser.add_argument("--backend", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--peers", action="store_true", help="programs by others, too; they are installed into out/peers")
    parser.add_argument("--rounds", type=int, default=Settings.rounds, help="turns of each competitor (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="length of a turn (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=large_table.ROWS, help="of the large table (default: %(default)s)")
    parser.add_argument(
        "--ratings", metavar="CSV", help="what recommenders of sequences train on: columns user_id, item_id, timestamp"
    )
    parser.add_argument(
        "--page", type=Path, help="where the page goes (default: docs/benchmarks.md, with --only out/benchmarks.md)"
    )
    parser.add_argument("--again", action="store_true", help="do not measure: make the page anew from the results beside it")
    options = parser.parse_args(arguments)
    chosen = options.only.lower().split()
    known = [*WORKLOADS, *_OTHERS]
    if unknown := [key for key in chosen if key not in known]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    if options.ratings:
        os.environ[interactions.VARIABLE] = options.ratings
    page = options.page or _ROOT / ("out" if chosen else "docs") / "benchmarks.md"
    saved = page.with_suffix("") / "results.json"
    if options.again:
        if not saved.exists():
            parser.error(f"there are no results in {saved}; measure first")
        results = Results.load(saved)
    else:
        settings = Settings(options.rounds, options.seconds)
        names = options.backend or backends()
        results = run(chosen or known, names, settings, options.peers, options.rows, lambda results: results.save(saved))
    write_pages(results, page)
    print(f"Results: {saved}\nPage: {page}")
    return int(results.wrong)


def run(
    chosen: Sequence[str],
    names: Sequence[str],
    settings: Settings,
    with_peers: bool = False,
    rows: int = large_table.ROWS,
    keep: Callable[[Results], None] = lambda results: None,
) -> Results:
    """Measure what is chosen, and say how it goes; what fails is noted, and does not end the others' run.

    ``keep`` is called with the results so far after each part, so that a run that is interrupted leaves what it has found.
    """
    results = Results(describe(names), {**vars(settings), "ratings": bool(os.environ.get(interactions.VARIABLE))})
    native = [name for name in names if name != "reference"]
    workloads = [key for key in WORKLOADS if key in chosen]
    began = time.perf_counter()

    def stage(title: str, work: Callable[[], object]) -> None:
        print(title, flush=True)
        try:
            work()
        except Exception as error:
            results.failures.append(f"{title}: {error}")
            print(f"  left out: {error}", flush=True)
        results.settings["took"] = time.perf_counter() - began
        keep(results)

    def run_workload(key: str) -> None:
        workload = WORKLOADS[key]
        entries = measure(workload, entrants(workload, names, with_peers), settings, print)
        results.entries += entries
        _show(results.of(key), workload.unit)

    def run_large() -> None:
        results.memory += large_table.measure_memory(rows, native)
        for one in results.memory:
            print(f"  {one.backend}, {one.optimizer}, threads: {one.threads}: {one.ratio:.3f} × the table")
        large = large_table.workload(rows)
        entries = measure(large, large_table.competitors(rows, native), settings, print)
        results.entries += entries
        _show(results.of(large.key), large.unit)

    def run_starts() -> None:
        for start in measure_starts([key for key in workloads or WORKLOADS if not WORKLOADS[key].threads], native):
            if math.isnan(sum(start.seconds)):
                results.failures.append(f"Starting: {start.backend}, {start.what} {start.way}: its process failed")
            else:
                results.starts.append(start)
        for start in results.starts:
            print(f"  {start.backend} {start.what} {start.way}: {digits(start.cold)} ms, then {digits(start.warm)}")

    def run_sweeps() -> None:
        fewer = Settings(min(settings.rounds, _SWEEP_ROUNDS), settings.seconds)
        for sweep in SWEEPS:
            print(f"  {sweep.title}", flush=True)
            results.points += run_sweep(sweep, native, fewer, print)

    def run_instructions() -> None:
        results.instructions, reason = count_instructions(workloads or list(WORKLOADS))
        print(*(f"  {one.workload.upper()}: {one.count:,.1f}" for one in results.instructions), sep="\n")
        if reason:
            results.failures.append(f"Instructions: {reason}")
            print(f"  left out: {reason}")

    for key in workloads:
        stage(f"{key.upper()}: {WORKLOADS[key].title}", lambda key=key: run_workload(key))
    others = {"large": ("A large table", run_large), "starts": ("Starting", run_starts)}
    others |= {"sweeps": ("By size", run_sweeps), "instructions": ("Instructions", run_instructions)}
    for key in _OTHERS:
        if key in chosen:
            stage(*others[key])
    return results


def _show(entries: Sequence[Entry], unit: str) -> None:
    for entry in entries:
        ratio = digits(entry.ratio(entries[0]))
        print(f"  {entry.label:45} {digits(entry.microseconds):>10} µs per {unit} {ratio:>10} ×", flush=True)


if __name__ == "__main__":
    sys.exit(main())
