"""An environment for each peer: made at first, kept in ``out/peers``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.competitor import NotHereError

__all__ = ["cargo_program", "python_with"]

_ROOT = Path(__file__).parent.parent.parent
#: Seconds that making one may take.
_LONGEST = 900.0
_FOLDER = _ROOT / "out" / "peers"


@cache
def python_with(name: str, packages: Sequence[str], *options: str) -> Path:
    """The Python of a virtual environment that has these packages."""
    folder = _FOLDER / name
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", *options, *packages])
        ready.write_text(" ".join(packages))
    return python


@cache
def cargo_program(project: Path, *features: str) -> Path:
    """The program of a Cargo project, built for this machine."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise NotHereError("there is no cargo")
    target = _FOLDER / "-".join([project.name, *features])
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUSTFLAGS": "-C target-cpu=native"}
    command = [cargo, "build", "--release", "--quiet", "--manifest-path", str(project / "Cargo.toml")]
    _run([*command, *(["--features", ",".join(features)] if features else [])], environment)
    return next(
        path for path in (target / "release").iterdir() if path.is_file() and not path.suffix and os.access(path, os.X_OK)
    )


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=_ROOT, timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        raise NotHereError(f"it cannot be made in {_LONGEST:g} s") from None
    if done.returncode:
        errors = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
        raise NotHereError(f"it cannot be made: {(errors or ['no reason given'])[0]}")
