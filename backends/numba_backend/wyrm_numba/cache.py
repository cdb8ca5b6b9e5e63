"""Compiled code on disk.

Numba keeps compiled functions beside the file that defines them and looks at that file alone: it does not notice that a
function which it calls has changed. So what is compiled is written, as small real modules, into a folder whose name holds a
hash of all the sources of this package and of the versions that matter.

Numba trusts what it finds, and the process may die of a damaged file. So each file that was written whole is vouched for by
an empty one, named by the hash of its content; an entry of which a file is not is thrown away and compiled anew.

Processes that begin at the same time need the same code: one compiles it, and the others wait for that.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import hashlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

import llvmlite
import numba
import platformdirs

import wyrm.kernels
import wyrm.leaves
import wyrm.memory
import wyrm.native
import wyrm.native_chains
import wyrm.native_frames
import wyrm.native_runs
import wyrm.philox
import wyrm.turns
from wyrm_numba import ENVIRONMENT_VARIABLE

try:
    import fcntl
except ImportError:  # Windows: each process compiles what it needs
    fcntl = None  # type: ignore[assignment]

__all__ = ["as_if_in", "cached_module"]

_log = logging.getLogger("wyrm.numba")
#: Seconds for which a process waits at most for another one that compiles the same, and between two looks.
_PATIENCE, _INTERVAL = 60.0, 0.02


def _version() -> str:
    """A hash of all that compiled code depends on."""
    package = Path(__file__).parent
    natives = wyrm.native, wyrm.native_chains, wyrm.native_frames, wyrm.native_runs
    modules = wyrm.kernels, wyrm.leaves, wyrm.memory, *natives, wyrm.philox, wyrm.turns
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


class _NoCollection:
    """No garbage collection: it would go through all that Numba makes again and again, an eighth of the time of compiling."""

    def __enter__(self) -> None:
        self._enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *exception: object) -> None:
        if self._enabled:
            gc.enable()


class _Heard:
    """Raises what a signal raised, such as KeyboardInterrupt, in place of what follows from it.

    A signal that comes while LLVM calls back is handled there: what it raises is printed and forgotten, and the code that was
    being compiled is missing later.
    """

    def __enter__(self) -> None:
        self._raised: BaseException | None = None
        self._previous: Any = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._previous = handler
                signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            self._previous(number, frame)
        except BaseException as error:
            self._raised = error
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
        if self._raised is not None and error is not self._raised:
            raise self._raised


_NO_COLLECTION = _NoCollection()
_FOLDER: Path | None = None
_MODULES: dict[str, ModuleType] = {}


def as_if_in(path: str, function: Any) -> Any:
    """A function as if it stood in another file, beside which Numba then keeps it."""
    code = function.__code__.replace(co_filename=path)
    return FunctionType(code, function.__globals__, function.__name__)


def cached_module(name: str, source: str) -> ModuleType:
    """The module of this source, whose functions Numba keeps on disk."""
    global _FOLDER
    key = f"{name}_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    if key in _MODULES:
        return _MODULES[key]
    if _FOLDER is None:
        _FOLDER = _folder()
    path = _FOLDER / f"{key}.py"
    if not path.exists() or path.read_bytes() != source.encode():
        with tempfile.NamedTemporaryFile("w", dir=_FOLDER, suffix=".tmp", delete=False, encoding="utf-8") as file:
            file.write(source)
        os.replace(file.name, path)
    full_name = f"wyrm_numba_cached.{key}"
    spec = importlib.util.spec_from_file_location(full_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module
    with _alone(_FOLDER, key) as found, _NO_COLLECTION, _Heard():
        if not found:
            _discard_damaged(_FOLDER, key)
        spec.loader.exec_module(module)
        _vouch(_FOLDER, key)
    _MODULES[key] = module
    return module


@contextlib.contextmanager
def _alone(folder: Path, key: str) -> Iterator[bool]:
    """Have one process compile a module; another one waits until it has, unless it takes too long, or all is there.

    Says whether all was there at first. A process that is killed holds nothing any more. Who does not get the lock compiles as
    well: that costs time alone.
    """
    if (found := _is_whole(folder, key)) or fcntl is None:
        yield found
        return
    lock = folder / f"{key}.lock"
    with lock.open("w") as file:
        for _ in range(int(_PATIENCE / _INTERVAL)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_INTERVAL)
            except OSError:  # a file system without locks
                break
        try:
            yield False
        finally:
            lock.unlink(missing_ok=True)


def _is_whole(folder: Path, key: str) -> bool:
    """Whether a module has been compiled, and all its files are vouched for."""
    entry = _entry(folder, key)
    try:
        return bool(entry) and all(_mark(folder, file).exists() for file in entry)
    except OSError:  # another process has just removed one
        return False


def _entry(folder: Path, key: str) -> list[Path]:
    """The files that Numba keeps for a module."""
    return sorted((folder / "__pycache__").glob(f"{key}.*.nb[ic]"))


def _mark(folder: Path, file: Path) -> Path:
    """The empty file that vouches for another one as it is."""
    return folder / "whole" / hashlib.sha256(file.name.encode() + file.read_bytes()).hexdigest()


def _discard_damaged(folder: Path, key: str) -> None:
    """Remove what is kept for a module if a file of it is not as it was written, or was not written to its end."""
    entry = _entry(folder, key)
    try:
        damaged = [file for file in entry if not _mark(folder, file).exists()]
    except OSError:  # it cannot be read, or another process has just removed it
        damaged = entry
    if damaged:
        _log.warning("compiled code in %s is damaged or was not written to its end; it is compiled anew", damaged[0])
        for file in entry:
            file.unlink(missing_ok=True)


def _vouch(folder: Path, key: str) -> None:
    """Note that the files of a module are whole."""
    (folder / "whole").mkdir(exist_ok=True)
    for file in _entry(folder, key):
        _mark(folder, file).touch()
