"""Writes docs/reference.md: every op, kernel and optimizer, from the tables that the code runs by.

    python docs/generate_reference.py            # writes the page
    python docs/generate_reference.py --check    # fails where the page is out of date

The page is the same on every machine: it depends on this repository alone, whatever else is installed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE / "reference.md"
# what stands in this checkout comes before what is installed
SOURCES = [HERE, HERE.parent, HERE.parent / "conformance", *sorted((HERE.parent / "backends").iterdir())]
sys.path[:0] = [str(path) for path in SOURCES]

from reference_generator.kernels import declared, kernels_section  # noqa: E402
from reference_generator.ops import ops_section, recorded  # noqa: E402
from reference_generator.optimizers import optimizers_section  # noqa: E402

INTRODUCTION = """\
# Reference

<!-- Written by docs/generate_reference.py; change the code, then run `make docs`. -->

Every [op](#ops), [kernel](#kernels) and [optimizer](#optimizers) there is. This page is written from the tables by which the
code runs: formulas are printed from what ops and optimizers record, so they are what is computed. [design.md](design.md) says
what the words mean, [adding-an-op.md](adding-an-op.md) how an op is added.
"""


def page() -> str:
    """The page, as it should be."""
    backends = declared()
    lines = [
        *INTRODUCTION.splitlines(),
        "",
        *ops_section(backends),
        *kernels_section(backends, recorded()),
        *optimizers_section(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the page, or say whether it is as it should be."""
    parser = argparse.ArgumentParser(description="Writes docs/reference.md from the tables that the code runs by.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is out of date")
    parser.add_argument("--page", type=Path, default=PAGE, help="another place for the page")
    arguments = parser.parse_args()
    text = page()
    place: Path = arguments.page
    if not arguments.check:
        place.write_text(text, encoding="utf-8")
        return 0
    if place.exists() and place.read_text(encoding="utf-8") == text:
        return 0
    print(f"{place} is out of date; renew it with `make docs` or `python docs/generate_reference.py`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
