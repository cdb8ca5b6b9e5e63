"""The table and the picture."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from rich.console import Console
from rich.table import Table

from demo.model import NUM_EPOCHS
from demo.runs import BackendRuns, Run

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def by_threads(result: BackendRuns) -> dict[int, list[Run]]:
    """A backend's runs by number of threads."""
    groups: dict[int, list[Run]] = {}
    for run in result.runs:
        groups.setdefault(run.num_threads, []).append(run)
    return groups


def show_table(results: Sequence[BackendRuns], console: Console) -> None:
    """One row for each backend and number of threads; the means of the seeds."""
    best = [run.best_rmse for result in results for run in result.runs if run.best_rmse is not None]
    table = Table(title="Matrix factorization, means over the seeds", title_justify="left")
    table.add_column("backend")
    table.add_column("threads", justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("epochs", justify="right")
    table.add_column(f"RMSE, epoch 1, seed {results[0].runs[0].seed}", justify="right")
    table.add_column("RMSE, last epoch", justify="right")
    if best:
        table.add_column("best possible", justify="right")
    table.add_column("examples / s", justify="right")
    table.add_column("first step after", justify="right")
    partial = False
    for result in results:
        for threads, runs in by_threads(result).items():
            epochs = len(runs[0].losses)
            partial = partial or epochs < NUM_EPOCHS
            row = [
                result.backend,
                str(threads),
                str(len(runs)),
                f"{epochs} of {NUM_EPOCHS}" if epochs < NUM_EPOCHS else str(epochs),
                f"{runs[0].rmses[0]:.5f}",
                f"{statistics.mean(run.rmses[-1] for run in runs):.4f}" if epochs == NUM_EPOCHS else "-",
            ]
            if best:
                row.append(f"{statistics.mean(run.best_rmse or 0 for run in runs):.4f}")
            row.append(f"{statistics.median(rate for run in runs for rate in run.throughput):,.0f}")
            row.append(f"{result.first_step_seconds:.2f} s")
            table.add_row(*row)
    console.print(table)
    if partial:
        console.print(
            "The reference is plain NumPy, a kernel at a time; it does a part of the work: one epoch of the first seed."
        )
    console.print(
        "First step after: from the start of importing Wyrm, in a process of its own, loading and compiling included."
    )


def write_epochs(results: Sequence[BackendRuns], path: Path) -> None:
    """Every epoch of every run, as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["backend", "threads", "seed", "epoch", "seconds", "loss", "held_out_rmse", "examples_per_second"])
        for result in results:
            for run in result.runs:
                columns = (run.seconds, run.losses, run.rmses, run.throughput)
                for epoch, values in enumerate(zip(*columns, strict=True), 1):
                    writer.writerow([result.backend, run.num_threads, run.seed, epoch, *values])


def draw_picture(results: Sequence[BackendRuns], path: Path) -> None:
    """Loss and held-out error against the seconds of training, a line for each backend and number of threads."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for result in results:
        for threads, runs in by_threads(result).items():
            run = runs[0]
            label = f"{result.backend}, {threads} thread{'s' * (threads > 1)}"
            style = {"marker": "o" if len(run.losses) == 1 else "", "linestyle": "-" if threads == 1 else "--"}
            for axis, values in zip(axes, (run.losses, run.rmses), strict=True):
                axis.plot(run.seconds, values, label=label, **style)
    best = results[0].runs[0].best_rmse
    if best is not None:
        axes[1].axhline(best, color="gray", linewidth=1, label="best possible")
    for axis, title in zip(axes, ("mean training loss of the epoch", "RMSE on the ratings held out"), strict=True):
        axis.set_xscale("log")
        axis.set_xlabel("seconds of training")
        axis.set_title(title)
        axis.grid(alpha=0.3)
    axes[1].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
