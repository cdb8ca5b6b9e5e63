"""Writes the fingerprint of the layout of programs into the native backends: ``make layout``.

Run it when the native code of each backend has been adapted to a change of :mod:`wyrm.native_layout`, and not before: the
fingerprint says that it has been.

    python backends/write_layout.py            # writes the files
    python backends/write_layout.py --check    # fails if one of them has another fingerprint
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wyrm.native_layout import fingerprint

HERE = Path(__file__).resolve().parent
#: The files, and what they hold.
FILES = {
    "c_simd_backend/csrc/layout.h": (
        "// The layout of tables and headers that this code is written for; see wyrm/native_layout.py. Written by `make "
        "layout`.\n"
        '#define LAYOUT "{fingerprint}"\n'
    ),
    "numba_backend/wyrm_numba/layout.py": (
        '"""The layout of tables and headers that this code is written for; see :mod:`wyrm.native_layout`. Written by '
        '``make layout``."""\n\n'
        '__all__ = ["LAYOUT"]\n\n'
        'LAYOUT = "{fingerprint}"\n'
    ),
}


def main() -> int:
    """Write the files, or say which is out of date."""
    parser = argparse.ArgumentParser(description="Writes the fingerprint of the layout of programs into the native backends.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file has another fingerprint")
    check = parser.parse_args().check
    outdated = [name for name, text in FILES.items() if not _holds(HERE / name, text.format(fingerprint=fingerprint()))]
    for name in outdated:
        if check:
            print(
                f"{name} is for another layout: adapt the native code of this backend, then run `make layout`", file=sys.stderr
            )
        else:
            (HERE / name).write_text(FILES[name].format(fingerprint=fingerprint()), encoding="utf-8")
    return int(check and bool(outdated))


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
