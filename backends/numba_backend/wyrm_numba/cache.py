"""Compiled code on disk.

Numba keeps compiled functions beside the file that defines them and looks at that file alone: it does not notice that a
function which it calls has changed. So what is compiled is written, as small real modules, into a folder whose name holds a
hash of all the sources of this package and of the versions that matter.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

import llvmlite
import numba
import platformdirs

import wyrm.native
import wyrm.native_runs
import wyrm.philox
from wyrm_numba import ENVIRONMENT_VARIABLE

__all__ = ["cached_module"]


def _version() -> str:
    """A hash of all that compiled code depends on."""
    package = Path(__file__).parent
    modules = wyrm.native, wyrm.native_runs, wyrm.philox
    sources = [*sorted(package.rglob("*.py")), *(Path(str(module.__file__)) for module in modules)]
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="wyrm-numba-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _folder() -> Path:
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named == "cold":
        return _temporary()
    base = Path(named) if named else Path(platformdirs.user_cache_dir("wyrm-numba"))
    folder = base / _version()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(f"compiled code cannot be kept in {folder} ({error}); set {ENVIRONMENT_VARIABLE}", stacklevel=2)
        return _temporary()
    return folder


_FOLDER: Path | None = None
_MODULES: dict[str, ModuleType] = {}


def cached_module(name: str, source: str) -> ModuleType:
    """The module of this source, whose functions Numba keeps on disk."""
    global _FOLDER
    key = f"{name}_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    if key in _MODULES:
        return _MODULES[key]
    if _FOLDER is None:
        _FOLDER = _folder()
    path = _FOLDER / f"{key}.py"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=_FOLDER, suffix=".tmp", delete=False) as file:
            file.write(source)
        os.replace(file.name, path)
    full_name = f"wyrm_numba_cached.{key}"
    spec = importlib.util.spec_from_file_location(full_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module
    spec.loader.exec_module(module)
    _MODULES[key] = module
    return module
