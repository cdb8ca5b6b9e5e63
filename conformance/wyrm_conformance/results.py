"""What came of checks: results, the levels reached, and both as a report that is written to a file."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

import wyrm
from wyrm.backend import Backend, Capabilities, Exemption
from wyrm_conformance import __version__
from wyrm_conformance.check import LEVELS, REQUIRED, Check, declares

__all__ = [
    "SCHEMA_VERSION",
    "Result",
    "Subject",
    "levels_reached",
    "missing",
    "plain",
    "report_of_run",
    "schema",
    "write_report",
]

#: Of the report's format; a reader that knows 1 can read every 1.
SCHEMA_VERSION = 1

Outcome = Literal["passed", "refused", "failed", "expected failure"]


class Result(NamedTuple):
    """What came of one check.

    Attributes
    ----------
    outcome
        ``passed``; ``refused``: what the check needs is not declared, and it was refused as it should be; ``failed``;
        ``expected failure``: failed, as the backend's declaration says.
    failure
        What went wrong; empty where nothing did.
    compared
        How many numbers were compared.
    worst
        The largest error, as a part of what was allowed.
    not_declared
        The capability that was refused.
    factor, reason
        By how much the bounds were widened, and why, or why a failure is expected: as declared by the backend.
    details
        Of the failure: formula, inputs, values, error.
    """

    check: Check
    outcome: Outcome
    failure: str
    compared: int
    worst: float
    seconds: float
    not_declared: str = ""
    factor: float = 1.0
    reason: str = ""
    details: dict[str, Any] = {}  # noqa: RUF012 - never changed

    @property
    def passed(self) -> bool:
        """Whether the check passed, or what it needs was refused as it should be."""
        return self.outcome in ("passed", "refused")


class Subject(NamedTuple):
    """What there is to say of the backend that was checked, wherever it was loaded."""

    name: str
    version: str
    capabilities: Capabilities
    exemptions: Mapping[str, Exemption]
    details: Mapping[str, str]

    @classmethod
    def of(cls, backend: Backend) -> Subject:
        """The backend's declaration, and how it was loaded."""
        declared, details = backend.declaration, dict(backend.details())
        return cls(declared.name, declared.version, declared.capabilities, dict(declared.exemptions), details)


def missing(backend: Backend | Subject, level: str) -> list[str]:
    """What a backend would have to declare to reach a level."""
    return [word for word in REQUIRED[level] if not declares(backend.capabilities, word)]


def levels_reached(results: Iterable[Result], backend: Backend | Subject | None = None) -> dict[str, bool]:
    """For each level of which checks were run, whether all of them, and all of the levels before, passed.

    With the backend, also whether it declares what the level requires.
    """
    results = list(results)
    reached: dict[str, bool] = {}
    for level in LEVELS:
        own = [result.passed for result in results if result.check.level == level]
        if own:
            declared = backend is None or not missing(backend, level)
            reached[level] = all(own) and all(reached.values()) and declared
    return reached


def report_of_run(
    backend: Subject, variant: str, seed: int, selected: Sequence[str], level: str, results: Sequence[Result], seconds: float
) -> dict[str, Any]:
    """One run of the suite, as it stands in a report."""
    capabilities = backend.capabilities
    reached = levels_reached(results, backend)
    return {
        "backend": backend.name,
        "version": backend.version,
        "variant": variant,
        "details": dict(backend.details),
        "capabilities": {
            "dtypes": sorted(capabilities.dtypes),
            "kernels": sorted(capabilities.kernels),
            "schedules": sorted(capabilities.schedules),
            "releases_gil": capabilities.releases_gil,
        },
        "seed": seed,
        "level": level,
        "selected": list(selected),
        "seconds": round(seconds, 3),
        "levels": {name: {"reached": reached[name], "missing": missing(backend, name)} for name in reached},
        "checks": [_entry(result) for result in results],
    }


def _entry(result: Result) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": result.check.name,
        "level": result.check.level,
        "protects": result.check.protects,
        "section": result.check.section,
        "outcome": result.outcome,
        "compared": result.compared,
        "worst": _number(result.worst),
        "seconds": round(result.seconds, 3),
    }
    if result.not_declared:
        entry["not_declared"] = result.not_declared
    if result.reason:
        entry["reason"] = result.reason
    if result.factor != 1:
        entry["factor"] = result.factor
    if result.failure:
        entry["failure"] = result.failure
        entry["details"] = plain(result.details)
    return entry


def _number(value: float) -> float | str:
    """JSON has no words for these."""
    return value if math.isfinite(value) else str(value)


def plain(value: Any) -> Any:
    """What a report can hold in the place of a value."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return _number(float(value))
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    return str(value)


def write_report(path: Path, runs: Sequence[dict[str, Any]]) -> None:
    """Write runs to a file, with the machine that they were made on."""
    report = {
        "schema": SCHEMA_VERSION,
        "suite": __version__,
        "wyrm": wyrm.__version__,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "runs": list(runs),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the checks run on."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "numpy": np.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on every system
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def schema() -> dict[str, Any]:
    """The JSON schema of reports."""
    found: dict[str, Any] = json.loads(files("wyrm_conformance").joinpath("report.schema.json").read_text())
    return found
