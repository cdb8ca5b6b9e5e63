"""Modules of the benchmark in processes of their own, which print what they found as lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.competitor import NotHereError

__all__ = ["run_fresh"]

_ROOT = Path(__file__).parent.parent


def run_fresh(module: str, *arguments: object, seconds: float = 600.0) -> list[Any]:
    """What ``python -m module arguments`` prints; its own messages go where this process' do."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
    try:
        done = subprocess.run(command, env=environment, cwd=_ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise NotHereError(f"{module} did not end in {seconds:g} s") from None
    if done.returncode:
        raise NotHereError(f"{module} failed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    return [json.loads(line) for line in done.stdout.splitlines()]
