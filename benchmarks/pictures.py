"""The pictures of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.results import Results
from benchmarks.sweeps import SWEEPS
from benchmarks.workloads import WORKLOADS

__all__ = ["draw_sweeps", "draw_threads", "draw_throughput"]


def _color(name: str) -> str:
    """By family, the same in all pictures."""
    families = {"C by hand": "C7", "Numba by hand": "C8", "NumPy": "C9", "c_simd": "C0", "numba": "C1", "reference": "C2"}
    return next((color for family, color in families.items() if name.startswith(family)), "C3")


def _save(figure: Figure, path: Path) -> None:
    with matplotlib.rc_context({"svg.hashsalt": "wyrm", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def draw_throughput(results: Results, path: Path) -> bool:
    """Bars for each workload: how much is done in a second on one thread; returns whether there is anything to draw."""
    shown = [workload for workload in WORKLOADS.values() if results.of(workload.key)]
    if not shown:
        return False
    counts = [sum(entry.threads == 1 for entry in results.of(workload.key)) for workload in shown]
    figure = Figure(figsize=(9, 0.8 * len(shown) + 0.24 * sum(counts)), layout="constrained")
    axes: Any = figure.subplots(len(shown), 1, squeeze=False, height_ratios=[count + 1 for count in counts])[:, 0]
    for axis, workload in zip(axes, shown, strict=True):
        entries = [entry for entry in results.of(workload.key) if entry.threads == 1][::-1]
        rates = [1e6 / entry.microseconds for entry in entries]
        axis.barh([entry.name for entry in entries], rates, color=[_color(entry.name) for entry in entries])
        axis.set_xscale("log")
        axis.set_title(f"{workload.key.upper()}: {workload.title}", fontsize=9, loc="left")
        axis.set_xlabel(f"{workload.unit}s a second", fontsize=8)
        axis.tick_params(labelsize=8)
    _save(figure, path)
    return True


def draw_threads(results: Results, path: Path) -> bool:
    """Lines for each workload on several threads: throughput by threads."""
    shown = [w for w in WORKLOADS.values() if w.threads and any(entry.threads > 1 for entry in results.of(w.key))]
    if not shown:
        return False
    figure = Figure(figsize=(4.5 * len(shown), 3.6), layout="constrained")
    for axis, workload in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        entries = results.of(workload.key)
        for name in dict.fromkeys(entry.name for entry in entries):
            own = sorted((entry.threads, 1 / entry.microseconds) for entry in entries if entry.name == name)
            style = "--" if "prefetching" in name else "-"
            axis.plot(*zip(*own, strict=True), style, marker="o", label=name, color=_color(name))
        axis.set(title=workload.title, xlabel="threads", ylabel=f"million {workload.unit}s a second", yscale="log")
        axis.set_xticks(sorted({entry.threads for entry in entries}))
        axis.title.set_fontsize(9)
        axis.legend(fontsize=7)
    _save(figure, path)
    return True


def draw_sweeps(results: Results, path: Path) -> bool:
    """Lines for each sweep: the time of a step by size."""
    shown = [sweep for sweep in SWEEPS if any(p.sweep == sweep.key and p.entry.seconds for p in results.points)]
    if not shown:
        return False
    figure = Figure(figsize=(4.2 * len(shown), 3.8), layout="constrained")
    for axis, sweep in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        points = [point for point in results.points if point.sweep == sweep.key and point.entry.seconds]
        for name in dict.fromkeys(point.entry.label for point in points):
            own = sorted((point.at, point.entry.microseconds) for point in points if point.entry.label == name)
            style = "--" if "Python" in name else "-"
            axis.plot(*zip(*own, strict=True), style, marker="o", label=name, color=_color(name))
        axis.set(title=sweep.title, xlabel=sweep.axis, ylabel=f"µs per {sweep.unit}", xscale="log", yscale="log")
        axis.title.set_fontsize(9)
        axis.legend(fontsize=7)
    _save(figure, path)
    return True
