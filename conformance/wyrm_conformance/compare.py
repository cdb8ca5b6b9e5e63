"""Reports side by side: ``python -m wyrm_conformance compare A.json B.json …`` prints a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wyrm
from wyrm_conformance.check import LEVELS
from wyrm_conformance.results import SCHEMA_VERSION

__all__ = ["comparison", "read_runs"]


def read_runs(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The runs of several reports.

    Raises
    ------
    OptionError
        Where a file is no report of this version, naming it.
    """
    runs: list[dict[str, Any]] = []
    for path in paths:
        try:
            report = json.loads(path.read_text())
            version = report["schema"]
            found = report["runs"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise wyrm.OptionError(f"{path} is no report of the conformance suite: {type(error).__name__}: {error}") from None
        if version != SCHEMA_VERSION:
            raise wyrm.OptionError(f"{path} has version {version} of the report's format; this suite reads {SCHEMA_VERSION}")
        runs += [{**run, "machine": report["machine"], "suite": report["suite"]} for run in found]
    return runs


def comparison(runs: Sequence[dict[str, Any]]) -> str:
    """Runs as the columns of a Markdown table: what they are, the levels, then each check with its worst error."""
    rows = [["", *(_title(run) for run in runs)]]
    rows.append(["version", *(run["version"] or "?" for run in runs)])
    rows.append(["details", *(", ".join(f"{k} {v}" for k, v in run["details"].items()) or "-" for run in runs)])
    rows.append(["processor", *(run["machine"]["processor"] for run in runs)])
    rows.append(["dtypes", *(", ".join(run["capabilities"]["dtypes"]) for run in runs)])
    rows.append(["optional kernels", *(", ".join(run["capabilities"]["kernels"]) or "-" for run in runs)])
    rows.append(["schedules", *(", ".join(run["capabilities"]["schedules"]) or "-" for run in runs)])
    rows.append(["GIL", *("released" if run["capabilities"]["releases_gil"] else "held" for run in runs)])
    for level in LEVELS:
        rows.append([f"**level {level}**", *(_level(run["levels"].get(level)) for run in runs)])
    rows.append(["seed", *(str(run["seed"]) for run in runs)])
    rows.append(["seconds", *(f"{run['seconds']:.0f}" for run in runs)])
    names = list(dict.fromkeys(check["name"] for run in runs for check in run["checks"]))
    by_name = [{check["name"]: check for check in run["checks"]} for run in runs]
    rows += [[name, *(_cell(checks.get(name)) for checks in by_name)] for name in names]
    table = [f"| {' | '.join(row)} |" for row in rows]
    table.insert(1, "|---" * len(rows[0]) + "|")
    notes = [
        f"* {_title(run)}, {check['name']}: {check['reason']}" for run in runs for check in run["checks"] if "reason" in check
    ]
    legend = "Numbers are the worst error of a check as a part of what is allowed."
    return "\n".join([*table, "", legend, *([""] * bool(notes)), *notes])


def _title(run: dict[str, Any]) -> str:
    return f"{run['backend']}, {run['variant']}" if run["variant"] else str(run["backend"])


def _level(level: dict[str, Any] | None) -> str:
    if level is None:
        return "-"
    return (
        "reached"
        if level["reached"]
        else "not reached" + (f" (lacks {', '.join(level['missing'])})" if level["missing"] else "")
    )


def _cell(check: dict[str, Any] | None) -> str:
    if check is None:
        return "-"
    if check["outcome"] == "refused":
        return f"refused ({check['not_declared']})"
    if check["outcome"] != "passed":
        return f"**{check['outcome']}**"
    wider = f", bounds × {check['factor']:g}" if "factor" in check else ""
    return f"{float(check['worst']):.2g}{wider}"
