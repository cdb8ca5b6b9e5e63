"""``python -m demo``, run in ``examples/``: the regression and the factorization on every backend, a table and a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

import wyrm
from demo.model import DIMENSION, L2, LEARNING_RATE, NUM_EPOCHS
from demo.ratings import Ratings, RatingsError, generate_ratings, read_ratings
from demo.report import draw_picture, show_table, write_epochs
from demo.runs import BackendRuns, run_backend

#: The backend that is plain NumPy: it does a part of the work.
SLOW = "reference"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--ratings", metavar="FILE.csv", help="with the columns user_id, item_id and rating")
    parser.add_argument("--backend", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--epochs", type=int, default=NUM_EPOCHS, help=f"default: {NUM_EPOCHS}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the split and the model (default: 0 1 2)")
    parser.add_argument("--output", type=Path, default=Path("out"), help="where the picture goes (default: out)")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    try:
        ratings = read_ratings(options.ratings) if options.ratings else generate_ratings()
        names = _backends(options.backend)
    except (RatingsError, wyrm.WyrmError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    kind = f"from {options.ratings}" if options.ratings else "generated, with noise of 0.5"
    console.print(f"{len(ratings):,} ratings by {ratings.num_users:,} users of {ratings.num_items:,} items, {kind}.")
    console.print(f"Dimension {DIMENSION}, learning rate {LEARNING_RATE}, L2 {L2}; one tenth of the ratings is held out.")
    results = [_in_a_process_of_its_own(name, ratings, options.seeds, options.epochs) for name in names]
    for result in results:
        slope, intercept = result.line
        console.print(
            f"{result.backend} {result.version}: linear regression found y = {slope:.3f} x + {intercept:.3f} (3 x + 5)"
        )
    show_table(results, console)
    picture, epochs = options.output / "demo.png", options.output / "demo.csv"
    draw_picture(results, picture)
    write_epochs(results, epochs)
    console.print(f"Picture: {picture.resolve()}", f"Every epoch: {epochs.resolve()}", sep="\n", soft_wrap=True)
    return 0


def _backends(wanted: Sequence[str] | None) -> list[str]:
    """The backends to run, the fastest first."""
    if wanted:
        for name in wanted:
            wyrm.get_backend(name)
        return list(wanted)
    return [status.name for status in wyrm.backends() if status.state != "broken" and status.priority >= 0]


def _in_a_process_of_its_own(name: str, ratings: Ratings, seeds: list[int], epochs: int) -> BackendRuns:
    slow = name == SLOW
    job = (name, ratings, seeds[:1] if slow else seeds, [1] if slow else [1, 2], min(epochs, 1) if slow else epochs)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run_backend, *job).result()


if __name__ == "__main__":
    sys.exit(main())
