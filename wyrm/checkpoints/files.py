"""Checkpoint files: arrays by name and a document in JSON, in the format safetensors. Nothing in a file is ever executed.

A file is written beside its place under another name, brought to the disk, and then put in its place, which the operating
system does at once: whenever a process is killed, the old file is there, or the new one, whole. What a killed process may
leave behind are unfinished files, ``.NAME.*.partial`` or ``.tmp*``, which nobody reads.

The document stands in the header's metadata under ``wyrm``, and beside it a checksum over document and arrays: files are
read back as they were written or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import CheckpointError

__all__ = ["read_file", "write_file"]

Array = npt.NDArray[Any]
Document = dict[str, Any]
#: Of the document; files of a later one are refused.
FORMAT = 1


def write_file(path: str | os.PathLike[str], arrays: Mapping[str, Array], document: Document) -> None:
    """Write a file, or leave what is there as it is.

    Parameters
    ----------
    arrays
        C-contiguous; they must not change meanwhile.
    document
        What JSON can hold.

    Raises
    ------
    OSError
        Where the folder cannot be written to.
    CheckpointError
        Where the file cannot be written, for want of room on the disk for instance.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    place = Path(os.path.realpath(path))
    text = json.dumps({"format": FORMAT, **document}, allow_nan=False)
    metadata = {"wyrm": text, "checksum": _checksum(text, arrays)}
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    partial.touch(exist_ok=False)  # what the operating system has to say about it; and who may read it
    mode = partial.stat().st_mode
    try:
        save_file(dict(arrays), partial, metadata)  # puts a file of its own in the place, readable by its owner alone
        partial.chmod(mode)
        _sync(partial)
        os.replace(partial, place)
    except SafetensorError as error:
        raise CheckpointError(f"{place}: could not be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # elsewhere folders cannot be opened
        _sync(place.parent)


def _sync(place: Path) -> None:
    """Wait until a file, or what a folder says of its files, is on the disk."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Array], Document]:
    """The arrays and the document of a file.

    Raises
    ------
    OSError
        Where it cannot be opened.
    CheckpointError
        Where it is no file that :func:`write_file` wrote, or has been changed since.
    """
    from safetensors import SafetensorError, safe_open

    place = os.fspath(path)
    if not stat.S_ISREG(os.stat(place).st_mode):  # to open a pipe would wait for ever
        raise CheckpointError(f"{place}: expected a file, and this is none")
    with open(place, "rb"):  # what the operating system has to say about it
        pass
    try:
        with safe_open(place, framework="np", backend="pread") as file:
            metadata = file.metadata() or {}
            arrays = {name: np.asarray(file.get_tensor(name)) for name in sorted(file.keys())}
    except (SafetensorError, AttributeError, KeyError, MemoryError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{place}: this is no safetensors file, or no whole one ({type(error).__name__}: {error})"
        ) from None
    if not {"wyrm", "checksum"} <= set(metadata):
        raise CheckpointError(
            f"{place}: a safetensors file, but none that wyrm.save wrote; read it with the package safetensors"
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
