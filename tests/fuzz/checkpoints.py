"""Checkpoints: files that were changed, with their checksum put right again.

A file is refused by name, and nothing has changed; or the model is then what the file says, and can be trained further.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

import wyrm
from tests import checkpointed_model
from tests.checkpointed_model import OPTIMIZERS
from tests.fuzz.cases import Line, expressions

NAME = "checkpoints"
#: In the folder that each child has.
PATH = "model.safetensors"
_DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
    "int32": "I32",
    "bool": "BOOL",
    "uint8": "U8",
    "float16": "F16",
    "uint64": "U64",
}


# --- what the cases use ---------------------------------------------------------------------------------------


class Model(checkpointed_model.Model):
    """That of the tests of checkpoints, with fewer examples."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.feed = {node: values[:8] for node, values in self.feed.items()}


@functools.cache
def _written(kind: str, by_fit: bool) -> bytes:
    """What a checkpoint of a small model holds."""
    model, path = Model(kind), os.path.join(tempfile.gettempdir(), f"wyrm-fuzz-{os.getpid()}")
    stopping = wyrm.EarlyStopping("loss", 5, restore_best=True)
    model.fit(2, seed=1, callbacks=[stopping, wyrm.Checkpoint(path)])
    if not by_fit:
        wyrm.save(path, model.loss, model.optimizer, metadata={"note": [1, "two"]})
    try:
        with open(path, "rb") as file:
            return file.read()
    finally:
        os.unlink(path)


class File:
    """A checkpoint taken apart: arrays by name, and the document. Both may be changed before it is written."""

    def __init__(self, kind: str, by_fit: bool) -> None:
        data = _written(kind, by_fit)
        end = 8 + struct.unpack("<Q", data[:8])[0]
        table = json.loads(data[8:end])
        self.document = json.loads(table.pop("__metadata__")["wyrm"])
        dtypes = {code: name for name, code in _DTYPES.items()}
        self.arrays = {}
        for name, entry in table.items():
            begin, stop = entry["data_offsets"]
            self.arrays[name] = (
                np.frombuffer(data[end + begin : end + stop], dtypes[entry["dtype"]]).reshape(entry["shape"]).copy()
            )

    def write(self, text: Any = lambda text: text, table: Any = None, body: Any = lambda body: body) -> None:
        """Write it, with its checksum; functions may change the document's text, the table of arrays, and what follows it."""
        document = text(json.dumps(self.document))
        names = sorted(self.arrays, key=lambda name: (-self.arrays[name].itemsize, name))
        value, entries, place = zlib.crc32(document.encode("utf-8", "surrogatepass")), {}, 0
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            value = zlib.crc32(f"{name}:{array.dtype.str}:{array.shape}".encode("utf-8", "surrogatepass"), value)
            value = zlib.crc32(array.tobytes(), value)
        for name in names:
            array = self.arrays[name]
            shape, places = list(array.shape), [place, place + array.nbytes]
            entries[name] = {"dtype": _DTYPES[array.dtype.name], "shape": shape, "data_offsets": places}
            place += array.nbytes
        header = {"__metadata__": {"wyrm": document, "checksum": f"{value:08x}"}, **entries}
        if table is not None:
            table(header)
        packed = json.dumps(header).encode("utf-8", "surrogatepass")
        packed += b" " * (-len(packed) % 8)
        content = struct.pack("<Q", len(packed)) + packed + b"".join(self.arrays[name].tobytes() for name in names)
        with open(PATH, "wb") as file:
            file.write(body(content))


def unchanged(before: list[Any], model: Model, error: BaseException) -> None:
    """Nothing has changed, and the message names the file."""
    if isinstance(error, wyrm.NotFiniteError):  # it was read, and training began
        return
    for a, b in zip(before, model.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert PATH in str(error), f"the message does not name the file: {type(error).__name__}: {error}"


def loaded(file: File, model: Model, optimizer: bool = True) -> None:
    """The model is what the file says."""
    names = wyrm.checkpoints.state.Model(model.loss, [model.optimizer]).names
    for storage, name in names.items():
        np.testing.assert_array_equal(storage.value, file.arrays[name])
        assert np.isfinite(storage.value).all() or not np.isfinite(file.arrays[name]).all()
    if optimizer:
        (entry,) = file.document["optimizers"]
        assert model.optimizer.steps == entry["steps"]
        for group, found in zip(model.optimizer.groups, entry["groups"], strict=True):
            assert group.options["learning_rate"] == float(found["options"]["learning_rate"])  # the nearest float64


# --- how cases are written ------------------------------------------------------------------------------------

_PARTS = expressions(__file__)


def put(array: Any, place: int, value: Any) -> Any:
    """A copy with another element."""
    array = array.copy()
    array.reshape(-1)[place] = value
    return array


def _chosen(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _places(value: Any, path: str) -> Iterator[str]:
    """Where something stands in a document, as Python writes it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inner:
        yield f"{path}[{key!r}]"
        yield from _places(entry, f"{path}[{key!r}]")


def _change(rng: np.random.Generator, file: File, places: list[str]) -> str:
    """A statement that changes a file."""
    kind, names = rng.random(), sorted(file.arrays)
    if kind < 0.45:
        return f"file.document{_chosen(rng, places)} = {_chosen(rng, _PARTS['values'])}"
    if kind < 0.55:
        return f"del file.document{_chosen(rng, places)}"
    if kind < 0.6:
        first, second = (f"file.document{_chosen(rng, places)}" for _ in range(2))
        return f"{first}, {second} = copy.deepcopy({second}), copy.deepcopy({first})"
    name, other = (f"file.arrays[{_chosen(rng, names)!r}]" for _ in range(2))
    if kind < 0.65:
        return f"{name}, {other} = {other}, {name}"
    if kind < 0.7:
        return f"del {name}"
    if kind < 0.73:
        return f"file.arrays[{_chosen(rng, ('x', '', 'users/', 'best/x', '__metadata__', 'é', 'a' * 300))!r}] = {name}"
    return f"{name} = np.ascontiguousarray({_chosen(rng, _PARTS['arrays']).format(a=name, b=other)})"


def write(rng: np.random.Generator) -> list[Line]:
    """A case: a file that is changed, and a model that it is loaded into."""
    kind, by_fit = str(_chosen(rng, list(OPTIMIZERS))), bool(rng.random() < 0.7)
    file = File(kind, by_fit)
    places = list(_places(file.document, ""))
    lines = [Line("setup", f"file = File({kind!r}, {by_fit})")]
    lines += [Line("data", _change(rng, file, places)) for _ in range(int(rng.choice([0, 1, 1, 1, 2, 3])))]
    whole = len(lines) > 1 and rng.random() < 0.85
    how = (
        ""
        if whole
        else _chosen(
            rng,
            (
                "text=" + _chosen(rng, _PARTS["texts"]),
                "table=" + _chosen(rng, _PARTS["tables"]),
                "body=" + _chosen(rng, _PARTS["bodies"]),
            ),
        )
    )
    how = (
        how.replace("{n}", str(int(rng.integers(4000))))
        .replace("{bit}", str(1 << int(rng.integers(8))))
        .replace("{k}", str(int(rng.integers(64))))
    )
    lines += [Line("data", f"file.write({how})"), Line("setup", f"model = Model({kind!r})")]
    trained, models = (
        rng.random() < 0.5,
        ("model.loss, model.optimizer", "model.loss", "model.loss, strict=False", "model.loss, cast=True"),
    )
    if trained:
        lines.append(Line("setup", "model.fit(1, backend='c_simd', seed=3)"))
    lines.append(Line("setup", "before = model.values()"))
    if by_fit and rng.random() < 0.4:
        lines += [Line("attempt", f"model.fit(3, resume=PATH, backend={_chosen(rng, ('reference', *['c_simd'] * 4))!r})")]
        return [*lines, Line("unless", "unchanged(before, model, error)")]
    given = str(_chosen(rng, models))
    lines += [
        Line("attempt", f"wyrm.load(PATH, {given})"),
        Line("unless", "unchanged(before, model, error)"),
    ]
    if whole and given in models[:2]:
        lines.append(Line("then", f"loaded(file, model, {given == models[0]})"))
    return [
        *lines,
        Line("attempt", "model.fit(1, backend='c_simd', seed=2)"),
        Line("attempt", "wyrm.save(PATH, model.loss, model.optimizer)"),
    ]


def permits(error: BaseException, line: Line) -> bool:
    """Training may end for numbers that are not finite; else a file is refused."""
    return isinstance(error, (wyrm.CheckpointError, wyrm.NotFiniteError))


@contextlib.contextmanager
def planted() -> Iterator[None]:
    """Values are put back before it is known whether the rest fits."""
    from wyrm.checkpoints.state import Model as Restored

    kept = Restored.compare

    def hasty(self: Any, state: Any, source: str) -> None:
        for name, node in self.nodes.items():
            if name in state.arrays and state.arrays[name].shape == node.shape:
                node.storage.set_value(state.arrays[name])
        kept(self, state, source)

    Restored.compare = hasty  # type: ignore[method-assign]
    try:
        yield
    finally:
        Restored.compare = kept  # type: ignore[method-assign]


_ = copy
