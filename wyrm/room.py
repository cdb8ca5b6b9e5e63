"""Whether memory is what a program wants: no array is shorter than what is read and written of it.

A sound program (:mod:`wyrm.sound`) stays within its buffers. How long these are, for states, scalars and the like, only their
arrays say, and only what is fed says how long its rows are. So backends look at both as they bind, by :func:`require_room`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import numpy as np

from wyrm.clocks import Clock
from wyrm.errors import ProgramError
from wyrm.memory import SOURCE_DTYPES, BagBuffer, BagSource, GradientBuffer, Memory, Sink, Source
from wyrm.program import Program

__all__ = ["require_room"]

#: The dtypes of row numbers.
_WHOLE = ("int32", "int64")


class _Reach:
    """How far a program goes in the buffers of which it does not say how long they are.

    Attributes
    ----------
    ends
        For states and scalars, by the number of the buffer: how many elements are used.
    widths
        For tables of which rows are read where they stand: how many elements of a row.
    tables
        The buffers that are alias tables, each with its entries.
    written
        The buffers that instructions write.
    """

    def __init__(self, program: Program) -> None:
        self.ends: dict[int, int] = {}
        self.widths: dict[int, int] = {}
        self.tables: dict[int, int] = {}
        self.written: set[int] = set()
        open_ended = {n for n, buffer in enumerate(program.buffers) if buffer.kind in ("state", "scalars", "row")}
        for instruction in program.instructions:
            kernel, out, operands, attributes, _, _ = instruction
            self.written.add(out.buffer)
            if attributes and kernel != "matmul":
                named = dict(attributes)
                if kernel == "fused" or "rule" in named:
                    self.written.update(slot.buffer for slot in operands)
                elif named.get("weighted"):
                    self.tables[operands[2].buffer] = named["rows"]
            elif kernel == "tick":
                self.written.add(operands[0].buffer)
            if not open_ended:
                continue
            for number, offset, (rows, cols), stride in (out, *operands):
                if number in open_ended:
                    end = offset + (rows - 1) * stride + cols if rows and cols else 0
                    self.ends[number] = max(end, self.ends.get(number, 0))
        for number, buffer in enumerate(program.buffers):
            if buffer.table is not None:
                table = program.buffers.index(buffer.table)
                self.widths[table] = max(self.ends.pop(number, 0), self.widths.get(table, 0))


_REACHES: WeakKeyDictionary[Program, _Reach] = WeakKeyDictionary()


def require_room(
    program: Program,
    memory: Memory,
    sources: Sequence[Source] | None = None,
    sinks: Sequence[Sink] = (),
    examples: int = 1,
) -> None:
    """Refuse memory in which a program would not stay, and a feed whose values do not fit.

    To be called as a program is bound, by :meth:`wyrm.backend.Executable.bind` with its memory alone, by
    :meth:`wyrm.backend.Executable.bind_feed` with all that it was given.

    Raises
    ------
    ProgramError
        Naming the buffer, source or sink, what was expected and what came.
    """
    reach = _REACHES.get(program)
    if reach is None:
        reach = _REACHES[program] = _Reach(program)
    if len(memory.buffers) != len(program.buffers):
        _fail("memory", f"{len(program.buffers)} buffers", len(memory.buffers))
    for number in range(len(program.buffers)):
        _look_at_buffer(program, reach, number, memory.buffers[number])
    if sources is not None:
        if len(sources) != len(program.inputs):
            _fail("feed", f"{len(program.inputs)} sources", len(sources))
        if examples < 1:
            _fail("feed", "at least one example", examples)
        for number, source in enumerate(sources):
            _look_at_source(program, number, source, examples)
    if sinks and len(sinks) != len(program.outputs):
        _fail("feed", f"{len(program.outputs)} sinks, or none", len(sinks))
    for number, sink in enumerate(sinks):
        rows, cols = program.outputs[number].shape
        _look_at_rows(f"sink {number}", sink.array, (program.dtype,), rows * cols, examples)
        if not sink.array.flags.writeable:
            _fail(f"sink {number}", "an array that may be written", "one that is read-only")


def _look_at_buffer(program: Program, reach: _Reach, number: int, given: Any) -> None:
    buffer = program.buffers[number]
    kind, dtype = buffer.kind, program.dtype
    if kind == "row":
        return
    where = f"buffer {number} ({kind}) of the memory"
    if kind == "bag":
        count = program.inputs[buffer.number].slot.shape[0] if buffer.number < len(program.inputs) else 0
        if not isinstance(given, BagBuffer) or len(given.offsets) <= count or given.weights.dtype != dtype:
            _fail(where, f"a BagBuffer for {count} bags, of {dtype}", given)
        return
    if kind in ("real", "index", "scalars"):
        shape = None
        length = {"real": program.real_length, "index": program.index_length}.get(kind, reach.ends.get(number, 0))
    else:
        shape = program.parameters[buffer.number].shape
        length = reach.ends.get(number, 0)
    if kind == "gradient":
        if not isinstance(given, GradientBuffer) or tuple(given.shape) != shape or given.dtype != dtype:
            _fail(where, f"a GradientBuffer of shape {shape} and {dtype}", given)
        return
    if kind == "clock":
        assert shape is not None
        if not isinstance(given, Clock) or len(given.last) < shape[0]:
            _fail(where, f"a Clock of {shape[0]} rows", given)
        return
    if number in reach.tables:
        dtype, length = "int64", max(length, reach.tables[number])
    elif kind == "index":
        dtype = "int64"
    if not isinstance(given, np.ndarray):
        _fail(where, "an array", given)
    flags = given.flags
    if given.dtype != dtype or not flags.c_contiguous or not flags.aligned:
        _fail(where, f"an array of {dtype} without gaps", _described(given))
    if kind == "value" and given.shape != shape:
        _fail(where, f"the shape {shape} of the parameter", given.shape)
    if given.size < length:
        _fail(where, f"at least {length} elements", given.size)
    if number in reach.widths:
        assert shape is not None
        if given.ndim != 2 or given.shape[0] < shape[0] or given.shape[1] < reach.widths[number]:
            _fail(where, f"{shape[0]} rows of at least {reach.widths[number]} elements", given.shape)
    if not flags.writeable and (number < 2 or number in reach.written):
        _fail(where, "an array that may be written", "one that is read-only")


def _look_at_source(program: Program, number: int, source: Source, examples: int) -> None:
    where, expected = f"source {number}", program.inputs[number]
    rows, cols = expected.slot.shape
    if expected.kind == "bag":
        if not isinstance(source.bags, BagSource) or rows % examples:
            _fail(where, f"bags, {rows} for {examples} examples", source)
        return
    if source.bags is not None:
        _fail(where, f"an array for an input of kind {expected.kind!r}", source)
    parts = 1 if source.constant or source.by_position or expected.kind == "random" else examples
    count = 2 if expected.kind == "random" else rows * cols
    dtypes = _WHOLE if expected.kind == "index" else ("int64",) if expected.kind == "random" else SOURCE_DTYPES
    _look_at_rows(where, source.array, dtypes, count, parts)
    if (source.constant or expected.kind == "random") and not len(source.array):
        _fail(where, "a row", source.array.shape)
    starts = source.starts
    if starts is not None and (type(starts) is not np.ndarray or starts.dtype != np.int64 or not starts.flags.c_contiguous):
        _fail(where, "starts as an array of int64 without gaps", _described(starts))


def _look_at_rows(where: str, array: Any, dtypes: Sequence[str], count: int, parts: int) -> None:
    """Rows that have the values of one of so many parts each."""
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype not in dtypes:
        _fail(where, f"a matrix of {' or '.join(dtypes)}", _described(array))
    if count % parts or array.shape[1] != count // parts:
        _fail(where, f"rows of {count} values of {parts} examples" if parts > 1 else f"rows of {count} values", array.shape)
    if array.shape[1] > 1 and array.strides[1] != array.itemsize:
        _fail(where, "rows without gaps", _described(array))


def _described(array: Any) -> object:
    """An array in words: its values may be many."""
    return f"{array.dtype} of shape {array.shape} and strides {array.strides}" if isinstance(array, np.ndarray) else array


def _fail(where: str, expected: str, came: object) -> NoReturn:
    raise ProgramError(f"{where}: expected {expected}, got {came!s:.200}")
