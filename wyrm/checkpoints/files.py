"""Checkpoint files: arrays by name and a document in JSON, in the format safetensors. Nothing in a file is ever executed.

A file is written beside its place under another name, brought to the disk, and then put in its place, which the operating
system does at once: whenever a process is killed, the old file is there, or the new one, whole. What a killed process leaves
behind are unfinished files, ``.NAME.*.partial``, which nobody reads. The writer holds a lock on its unfinished file, which ends
with its process; so the next save to the same place can tell those that are left over, and removes them.

The new file has the mode of the old one, and its owner if the system allows that. A link stays, and the file that it names is
replaced. Nothing but files is replaced.

The document stands in the header's metadata under ``wyrm``, and beside it a checksum over document and arrays: files are
read back as they were written or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import CheckpointError, DTypeError, OptionError

try:
    import fcntl
except ImportError:  # not on every system; then nothing is locked, and left over files stay
    fcntl = None  # type: ignore[assignment]

__all__ = ["StoredPath", "path_name", "place_of", "read_file", "write_file"]

Array = npt.NDArray[Any]
Document = dict[str, Any]
#: In which forms users give paths.
StoredPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
#: Of the document; files of a later one are refused.
FORMAT = 1
#: What safetensors calls the dtypes of parameters and states.
_DTYPES = {"float32": "F32", "float64": "F64", "int64": "I64"}
#: Bytes that are written by one call: systems take less than 2 GiB.
_MOST = 1 << 30
#: What is no file, by a function of its mode.
_OTHERS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def path_name(path: StoredPath) -> str:
    """A path as text.

    Raises
    ------
    DTypeError
        If it is no path.
    OptionError
        If it is empty, or holds a NUL, or what the system's encoding of paths does not have.
    """
    try:
        name = os.fsdecode(path)
        encoded = os.fsencode(name)
    except TypeError:
        raise DTypeError(f"checkpoint: expected a path, got {path!r}") from None
    except UnicodeError:
        raise OptionError(f"checkpoint: {path!r} cannot be the path of a file: the system cannot encode it") from None
    if not encoded or b"\0" in encoded:
        raise OptionError(f"checkpoint: expected the path of a file, got {name!r}")
    return name


def write_file(path: StoredPath, arrays: Mapping[str, Array], document: Document) -> None:
    """Write a file, or leave what is there as it is.

    Parameters
    ----------
    arrays
        Of float32, float64 or int64, C-contiguous; they must not change meanwhile.
    document
        What JSON can hold.

    Raises
    ------
    OSError
        If the file cannot be written: there is no such folder, it is read-only, the disk is full.
    CheckpointError
        If the path names something that is no file, such as a device.
    """
    name = path_name(path)
    text = json.dumps({"format": FORMAT, **document}, allow_nan=False)
    header = _header(arrays, {"wyrm": text, "checksum": _checksum(text, arrays)})
    place, replaced = place_of(name)
    with _unfinished(place, 0o600 if replaced else 0o666) as (partial, descriptor), _telling(place):
        if replaced:
            _make_alike(descriptor, replaced)
        for part in (header, *(array.reshape(-1).view(np.uint8).data for array in _stored_order(arrays))):
            _write(descriptor, part)
        os.fsync(descriptor)
        os.replace(partial, place)
    _bring_to_disk(place)
    _remove_left_over(place)


def place_of(name: str) -> tuple[Path, os.stat_result | None]:
    """Where a file is to stand, behind all links, and what is there already, if anything is.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    CheckpointError
        If the name is that of something that is no file, such as a device.
    """
    replaced = _replaced(name)
    place = Path(os.path.realpath(name))
    if not place.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder to write a file to; make it first", str(place.parent))
    return place, replaced


def _replaced(name: str) -> os.stat_result | None:
    """What is there already; ``None``: nothing."""
    try:
        there = os.stat(name)
    except FileNotFoundError:
        if name.endswith((os.sep, os.altsep or os.sep)):
            raise CheckpointError(f"{name}: this is the name of a folder; name a file") from None
        return None
    if not stat.S_ISREG(there.st_mode):
        raise CheckpointError(f"{name}: this is {_kind(there)}, and only files are replaced; choose another path")
    return there


def _kind(there: os.stat_result) -> str:
    return next((kind for test, kind in _OTHERS.items() if test(there.st_mode)), "no file")


@contextlib.contextmanager
def _telling(place: Path) -> Iterator[None]:
    """Let what the system has to say of writing name the file that is written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


@contextlib.contextmanager
def _unfinished(place: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """An unfinished file beside a place, locked; it is removed in the end, if it is still there."""
    while True:
        partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        except OSError as error:
            message = f"{error.strerror}: a new file cannot be made in the folder of this one, which is how it is written"
            raise OSError(error.errno, message, str(place)) from None
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # some file systems have no locks
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            with _telling(place):
                there = os.fstat(descriptor).st_nlink
            if there:  # else another process took it for left over before it was locked
                yield partial, descriptor
                return
        finally:
            with contextlib.suppress(OSError):  # gone, if it is in its place; else the next save removes it
                os.unlink(partial)
            with contextlib.suppress(OSError):  # what it holds is on the disk, or not wanted
                os.close(descriptor)


def _write(descriptor: int, data: Any) -> None:
    """Write all of some bytes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest[:_MOST]) :]


def _bring_to_disk(place: Path) -> None:
    """Have the folder remember the file that it has been given, also if the power fails.

    Raises
    ------
    OSError
        If it cannot be written. The new file is there and whole.
    """
    if not hasattr(os, "O_DIRECTORY"):  # folders cannot be opened
        return
    try:
        folder = os.open(place.parent, os.O_RDONLY)
    except PermissionError:  # one may write into it, and not read it
        return
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that have no such thing
            message = f"{error.strerror}: the new file is there and whole, but its folder could not be brought to the disk"
            raise OSError(error.errno, message, str(place)) from error
    finally:
        with contextlib.suppress(OSError):
            os.close(folder)


def _make_alike(descriptor: int, replaced: os.stat_result) -> None:
    """Give a file the owner, where that is allowed, and the mode of the one that it replaces."""
    own = os.fstat(descriptor)
    if hasattr(os, "fchown") and (own.st_uid, own.st_gid) != (replaced.st_uid, replaced.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(replaced.st_mode))


def _remove_left_over(place: Path) -> None:
    """Remove the unfinished files of processes that were killed as they wrote to the same place."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(place.parent) as entries:
        left = [
            entry.path
            for entry in entries
            if entry.name.startswith(f".{place.name}.")
            and entry.name.endswith(".partial")
            and len(entry.name) == len(place.name) + len("..01234567.partial")
            and entry.is_file(follow_symlinks=False)
        ]
        for path in left:
            with contextlib.suppress(OSError), open(path, "rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails as long as somebody writes
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    os.unlink(path)


def _stored_order(arrays: Mapping[str, Array]) -> list[Array]:
    """The arrays as they follow each other in a file: the widest numbers first, so that all are aligned."""
    return [arrays[name] for name in _stored_names(arrays)]


def _stored_names(arrays: Mapping[str, Array]) -> list[str]:
    return sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))


def _header(arrays: Mapping[str, Array], metadata: dict[str, str]) -> bytes:
    """What a file begins with: the length of a table in JSON, and the table."""
    table: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in _stored_names(arrays):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise OptionError(f"checkpoint: the name {name!r} cannot be written as UTF-8") from None
        array = arrays[name]
        begin, end = end, end + array.nbytes
        table[name] = {"dtype": _DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(table, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def read_file(path: StoredPath, foreign: bool = False) -> tuple[dict[str, Array], Document]:
    """The arrays and the document of a file; of one that others wrote, if that is asked for, a document of its names.

    Raises
    ------
    OSError
        Where it cannot be opened.
    CheckpointError
        Where it is no file that :func:`write_file` wrote, or has been changed since.
    """
    from safetensors import SafetensorError, safe_open

    place = path_name(path)
    there = os.stat(place)
    if not stat.S_ISREG(there.st_mode):  # to open a pipe would wait for ever
        raise CheckpointError(f"{place}: expected a file, and this is {_kind(there)}")
    with open(place, "rb"):  # what the operating system has to say about it
        pass
    try:
        with safe_open(place, framework="np", backend="pread") as file:
            metadata = file.metadata() or {}
            arrays = {name: np.asarray(file.get_tensor(name)) for name in sorted(file.keys())}
    except (SafetensorError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{place}: this is no safetensors file, or no whole one ({type(error).__name__}: {error})"
        ) from None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":  # where the reader, which is in Rust, gave up
            raise
        raise CheckpointError(f"{place}: could not be read: {error}") from error
    if not {"wyrm", "checksum"} <= set(metadata):
        if foreign and "wyrm" not in metadata:
            return arrays, {"format": FORMAT, "parameters": list(arrays), "optimizers": []}
        raise CheckpointError(
            f"{place}: a safetensors file, but none that wyrm.save wrote; wyrm.load reads it with foreign=True"
        )
    text = metadata["wyrm"]
    if _checksum(text, arrays) != metadata["checksum"]:
        raise CheckpointError(f"{place}: the file is damaged: its checksum is not that of its contents")
    try:
        document = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{place}: the file's document is no JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise CheckpointError(
            f"{place}: expected a document of format {FORMAT}, got {found!r}; another version of Wyrm wrote it"
        )
    return arrays, document


def _checksum(text: str, arrays: Mapping[str, Array]) -> str:
    """CRC-32 over the document, and over name, dtype, shape and elements of every array."""
    value = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    for name, array in sorted(arrays.items()):
        value = zlib.crc32(f"{name}:{array.dtype.str}:{array.shape}".encode("utf-8", "surrogatepass"), value)
        value = zlib.crc32(array.reshape(-1).view(np.uint8).data, value)
    return f"{value:08x}"
