"""Findings made short: lines that a finding does not need are left out, one by one, as long as it stays the same."""

from __future__ import annotations

import time
from typing import Any

from tests.fuzz import cases, children


def shortened(module: Any, finding: cases.Finding, most: int = 40, seconds: float = 5.0) -> cases.Finding:
    """The same finding with fewer lines; ``most`` and ``seconds``: after how many runs, and when, that is given up."""
    best, runs, changed, until = finding, 0, True, time.monotonic() + seconds
    while changed and runs < most:
        changed = False
        for place in reversed(range(len(best.ran))):
            if place + 2 == len(best.ran) and best.ran[-1].kind in ("then", "unless"):
                continue  # which says what this line should have done
            lines = [cases.Line("attempt" if kind == "raised" else kind, text) for kind, text in best.ran]
            runs += 1
            found = _found(module, lines[:place] + lines[place + 1 :])
            if found is not None and found.key == finding.key:
                best, changed = found, True
                break
            if runs >= most or time.monotonic() > until:
                return best
    return best


def _found(module: Any, lines: list[cases.Line]) -> cases.Finding | None:
    """What a case finds, in a child."""

    def work() -> children.Report | None:
        finding = cases.run(module, lines)
        return None if finding is None else {"what": finding.what, "where": finding.where, "ran": finding.ran}

    report = children.run_one(work)
    if report is None:
        return None
    return cases.Finding(report["what"], report["where"], [cases.Line(*line) for line in report.get("ran", lines)])
