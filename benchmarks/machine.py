"""Where the benchmark ran, and with what."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.c_loops import compiler
from benchmarks.competitor import NotHereError
from wyrm import get_backend

__all__ = ["describe"]

_PACKAGES = ("wyrm-autodiff", "wyrm-c-simd", "wyrm-numba", "numpy", "numba")
#: Of the flags by which Linux describes a processor: those that matter here.
_INSTRUCTION_SETS = ("avx", "avx2", "fma", "avx512f", "asimd", "sve")


def describe(backends: Sequence[str]) -> dict[str, Any]:
    """The machine, the versions and what the backends chose, as plain values."""
    cpu = _cpuinfo()
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}, {platform.machine()}",
        "processor": cpu.get("model name") or platform.processor() or platform.machine(),
        "family": " ".join(f"{key} {cpu[key]}" for key in ("cpu family", "model") if key in cpu),
        "cores": os.cpu_count(),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in cpu.get("flags", "").split()],
        "compiler": _compiler_version(),
        "versions": {"python": platform.python_version(), **{name: v for name in _PACKAGES if (v := _version(name))}},
        "backends": {name: getattr(get_backend(name), "instruction_set", "") for name in backends},
    }


def _cpuinfo() -> dict[str, str]:
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line.split(":", 1) for line in file if ":" in line]
    except OSError:  # not on Linux
        return {}
    return {key.strip(): value.strip() for key, value in reversed(lines)}


def _compiler_version() -> str:
    try:
        return subprocess.run([compiler(), "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    except NotHereError:
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
