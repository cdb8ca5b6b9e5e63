"""Run each example of this folder as it stands, on data that it generates, and print what they print as one table.

python run_all.py
"""

import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
#: Examples that are run more than once, by the arguments that they get.
ARGUMENTS = {
    "factorization_recommender": (["--loss", "warp"], ["--loss", "bpr"]),
    "sparse_logistic_regression": (["--model", "linear"], ["--model", "fm"]),
}


def main() -> int:
    """Returns how many have failed."""
    console, failed = Console(width=None if sys.stdout.isatty() else 120), 0
    table = Table("example", "what it says", "seconds", show_lines=True)
    table.columns[-1].justify = "right"
    for path in sorted(HERE.glob("*.py")):
        if path == Path(__file__) or "__main__" not in path.read_text(encoding="utf-8"):
            continue
        for arguments in ARGUMENTS.get(path.stem, ([],)):
            begun = time.perf_counter()
            done = subprocess.run([sys.executable, path, *arguments], capture_output=True, text=True, check=False)
            failed += done.returncode != 0
            said = done.stdout if done.returncode == 0 else f"failed\n{done.stderr[-1000:]}"
            cells = " ".join([path.stem, *arguments]), said.strip(), f"{time.perf_counter() - begun:.1f}"
            table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    console.print(table)
    return failed


if __name__ == "__main__":
    sys.exit(main())
