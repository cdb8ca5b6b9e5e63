"""Variants: ways to run one backend, such as instruction sets, each in a process of its own with its environment.

The suite knows none by name: a backend's declaration says which there are, and what environment makes each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wyrm
from wyrm import plugins
from wyrm.backend import Declaration

__all__ = ["UNAVAILABLE", "chosen_variants", "declaration_of", "run_variant"]

#: The exit status of a run whose backend says that it cannot run here.
UNAVAILABLE = 3


def declaration_of(name: str) -> Declaration:
    """The declaration of a backend, without loading it where that can be helped."""
    if ":" in name:
        from wyrm_conformance.runner import find_backend

        return find_backend(name).declaration
    return plugins.declaration(name)


def chosen_variants(declaration: Declaration, choice: str) -> Mapping[str, Mapping[str, str]]:
    """The variants that ``--variant`` stands for.

    Raises
    ------
    OptionError
        Where the declaration has none of that name.
    """
    if choice == "all":
        return declaration.variants or {"": {}}
    if choice not in declaration.variants:
        known = ", ".join(declaration.variants) or "none"
        raise wyrm.OptionError(f"backend {declaration.name!r} declares no variant {choice!r}; it declares {known}")
    return {choice: declaration.variants[choice]}


def run_variant(variant: str, environment: Mapping[str, str], arguments: Sequence[str]) -> tuple[int, list[dict[str, Any]]]:
    """Run the command in a process of its own; its exit status, and the runs of its report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, "-m", "wyrm_conformance", *arguments, "--as-variant", variant, "--report", str(path)]
        status = subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
        return status, json.loads(path.read_text())["runs"] if path.exists() else []
