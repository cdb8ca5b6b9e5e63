"""Finds what breaks Wyrm: ``make fuzz SECONDS=60``.

    python -m tests.fuzz --seconds 60 --seed 7 --only feeds,classes
    python -m tests.fuzz --seed 7 --only feeds --case 1234

Cases are written at random, and the same seed writes the same ones. Each finding is made as short as it can be and printed as a
script, which stands in ``out/fuzz`` as well. The second form runs one case again.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz import cases, children
from tests.fuzz.shrinking import shortened

TARGETS = ("checkpoints", "feeds", "classes", "models", "programs")
_OUT = Path("out/fuzz")


def main() -> int:
    """Run, and say what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Finds what breaks Wyrm.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, with commas or spaces between them")
    parser.add_argument("--case", type=int, help="run this one alone, in this process")
    options = parser.parse_args()
    chosen = options.only.replace(",", " ").split()
    unknown = [name for name in chosen if name not in TARGETS]
    if unknown or not chosen:
        parser.error(f"unknown target {unknown}; there are {', '.join(TARGETS)}")
    if options.case is not None:
        return again(load(chosen[0]), options.seed, options.case)
    found = [fuzz(load(name), options.seed, options.seconds / len(chosen)) for name in chosen]
    print(f"seed {options.seed}: {sum(found)} findings" if any(found) else f"seed {options.seed}: no finding")
    return int(any(found))


def load(name: str) -> Any:
    """A target, by its name."""
    return importlib.import_module(f"tests.fuzz.{name}")


def fuzz(module: Any, seed: int, seconds: float) -> int:
    """Run cases of a target; how many findings there are."""
    reason = getattr(module, "missing", lambda: None)()
    if reason:
        print(f"{module.NAME}: left out: {reason}")
        return 0
    began, last = time.monotonic(), 0
    counts: Counter[str] = Counter()
    for number, report in children.run_all(0, sys.maxsize, lambda number: tried(module, seed, number), began + seconds):
        last = number + 1
        if report is None:
            continue
        finding = as_finding(module, seed, number, report)
        counts[finding.key] += 1
        if counts[finding.key] == 1:
            show(module, seed, number, shortened(module, finding), len(counts))
    print(f"{module.NAME}: {last} cases in {time.monotonic() - began:.0f} s, {len(counts)} findings", flush=True)
    for key, count in counts.most_common() if counts else ():
        print(f"  {count:6} times: {key}")
    return len(counts)


def tried(module: Any, seed: int, number: int) -> children.Report | None:
    """Run a case, in this process."""
    finding = cases.run(module, module.write(cases.generator(seed, module.NAME, number)))
    return None if finding is None else {"what": finding.what, "where": finding.where, "ran": finding.ran}


def as_finding(module: Any, seed: int, number: int, report: children.Report) -> cases.Finding:
    """The finding of a report; what ended its process has all lines of the case."""
    lines = report.get("ran") or module.write(cases.generator(seed, module.NAME, number))
    return cases.Finding(report["what"], report["where"], [cases.Line(*line) for line in lines])


def show(module: Any, seed: int, number: int, finding: cases.Finding, count: int) -> None:
    """Print a finding, and keep it."""
    origin = f"python -m tests.fuzz --only {module.NAME} --seed {seed} --case {number}"
    text = cases.script(module, finding, origin)
    _OUT.mkdir(parents=True, exist_ok=True)
    path = _OUT / f"{module.NAME}-{seed}-{number}.py"
    path.write_text(text)
    print(f"\n---- {module.NAME}: finding {count}, {path}\n{finding.key}\n{text}", flush=True)


def again(module: Any, seed: int, number: int) -> int:
    """Run a case in this process, as it was written."""
    lines = module.write(cases.generator(seed, module.NAME, number))
    print(*(f"{line.kind:8}{line.text}" for line in lines), sep="\n", flush=True)
    finding = cases.run(module, lines)
    print("no finding" if finding is None else f"{finding.where}: {finding.what}")
    return int(finding is not None)


if __name__ == "__main__":
    sys.exit(main())
