"""``python -m wyrm``: what is installed, and whether it works."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import wyrm
from wyrm.plugins import CHECK_SECONDS, BackendStatus, check


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wyrm", description=f"Wyrm {wyrm.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("backends", help="list the installed backends and their state")
    listing.add_argument("--check", action="store_true", help="load each in a process of its own and let it train for a step")
    listing.add_argument("--timeout", type=float, default=CHECK_SECONDS, metavar="SECONDS", help="for each check")
    trying = commands.add_parser("try", help="load one backend in this process and let it train for a step")
    trying.add_argument("name")
    options = parser.parse_args(arguments)
    if options.command == "try":
        return _try(options.name)
    statuses = wyrm.backends()
    if options.check:
        statuses = [check(status, options.timeout) for status in statuses]
    print(_table(statuses))
    return int(any(status.state == "broken" for status in statuses))


def _try(name: str) -> int:
    """Train for a step; an error shows itself as a traceback."""
    weight, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1), 2.0)
    loss = (weight * x - 6.0).square()
    loss.forward(backend=name)
    loss.backward(1.0)
    wyrm.optim.SGD(0.125, [weight]).step()
    result = float(weight.value[0, 0])
    if result != 3.0:
        print(f"wyrm: backend {name!r} trained the weight to {result}, not to 3", file=sys.stderr)
        return 1
    print(f"{name}: one step of training gave what it should")
    return 0


def _table(statuses: Sequence[BackendStatus]) -> str:
    """The backends as text, one a line, with what is wrong below."""
    head = ("backend", "version", "state", "priority", "dtypes", "kernels", "schedules", "GIL", "package")
    rows = [head]
    notes = []
    for status in statuses:
        can = status.capabilities
        rows.append(
            (
                status.name,
                status.version or "?",
                status.state,
                str(status.priority),
                ", ".join(sorted(can.dtypes)) if can else "?",
                (", ".join(sorted(can.kernels)) or "-") if can else "?",
                (", ".join(sorted(can.schedules)) or "-") if can else "?",
                ("released" if can.releases_gil else "held") if can else "?",
                status.distribution or "?",
            )
        )
        if status.state == "broken":
            remedy = f"\n  what to do: {status.remedy}" if status.remedy else ""
            notes.append(f"{status.name} is broken: {status.cause}{remedy}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *notes])


if __name__ == "__main__":
    sys.exit(main())
