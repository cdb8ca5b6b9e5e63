"""``python -m benchmarks``: measure, and write what was measured as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.entrants import backends, entrants
from benchmarks.machine import describe
from benchmarks.measuring import Settings, measure
from benchmarks.workloads import WORKLOADS

_ROOT = Path(__file__).parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status: 1 where a competitor computed something else."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", metavar="W1 W2", help="these workloads (default: all)")
    parser.add_argument("--backend", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=Settings.rounds, help="turns of each competitor (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="length of a turn (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=_ROOT / "out" / "benchmarks.json", help="where the results go")
    options = parser.parse_args(arguments)
    keys = options.only.lower().split() or list(WORKLOADS)
    unknown = [key for key in keys if key not in WORKLOADS]
    if unknown:
        parser.error(f"there is no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    names = options.backend or backends()
    settings = Settings(options.rounds, options.seconds)
    results = {"machine": describe(names), "settings": vars(settings), "entries": []}
    for key in keys:
        workload = WORKLOADS[key]
        print(f"{key.upper()}: {workload.title}", flush=True)
        entries = measure(workload, entrants(workload, names), settings, print)
        results["entries"] += [entry.as_json() for entry in entries]
        first = next((entry.seconds for entry in entries if entry.seconds), None)
        for entry in entries:
            if entry.seconds and first:
                ratio = median(own / other for own, other in zip(entry.seconds, first, strict=True))
                label = entry.name + (f" × {entry.threads}" if entry.threads > 1 else "")
                print(f"  {label:40} {median(entry.seconds) * 1e6:12.4f} µs a {workload.unit} {ratio:10.2f} ×", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"Results: {options.json}")
    return int(any(entry["wrong"] for entry in results["entries"]))


if __name__ == "__main__":
    sys.exit(main())
