"""Programs bound to memory, for native code: frames, whose words are explained in :mod:`wyrm.native`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.clocks import Clock
from wyrm.errors import BackendError
from wyrm.leaves import Leaves
from wyrm.memory import SOURCE_DTYPES, BagBuffer, GradientBuffer, Memory, Sink, Source, address, aligned
from wyrm.native_code import Code, Encoder
from wyrm.native_loops import Loop
from wyrm.program import Program, Slot

__all__ = ["FRAME", "INPUT", "INPUT_KINDS", "Frame", "Origin", "feed_frame", "set_inputs"]

Array = npt.NDArray[Any]

#: The kinds of inputs, by code; ``schedule`` is loaded as ``dense`` is.
INPUT_KINDS = ("dense", "index", "bag", "random")
#: The number of words that describe an input.
INPUT = 9
#: The words of a frame, in order. ``real`` is the program's dtype code; ``loss`` the address of the loss or 0; ``look`` that of
#: the number that says whether gradients are finite, or 0, and ``doubts`` a table of the addresses of the gradients' words of
#: that name; ``skip`` the address of the number that has to be positive for a run to go on after its forward section, or 0;
#: ``losses`` the running sum of losses, a float64; ``seed`` the address of the backward pass's weight or 0; ``report`` that of
#: the report. For passes: ``leaves`` is the address of the cells, ``date`` that of the date of the last forward pass, ``time``
#: that of the time (:mod:`wyrm.turns`). For runs: how many ``examples`` each takes, and what every example (``length``) and
#: every position (``positions``) is below.
FRAME = (
    "forward",
    "forward_end",
    "backward",
    "backward_end",
    "update",
    "update_end",
    "inputs",
    "inputs_end",
    "claims",
    "claims_end",
    "sinks",
    "sinks_end",
    "rows",
    "rows_end",
    "real",
    "seed",
    "loss",
    "look",
    "doubts",
    "doubts_end",
    "skip",
    "losses",
    "report",
    "leaves",
    "date",
    "time",
    "first_step",
    "examples",
    "length",
    "positions",
    "loop",
    "loop_inputs",
    "loop_inputs_end",
    "loop_uses",
    "loop_uses_end",
    "whole",
    "places",
)


class Frame:
    """A program's tables, bound to memory: the frame and everything that it points to."""

    #: What the cells belong to that it reads, in a pass.
    leaves: Leaves

    def __init__(self, program: Program, code: Code, memory: Memory) -> None:
        self.memory, self.code = memory, code
        self.kept: list[Any] = []
        bases = np.zeros(2 * len(program.buffers) + 1, np.int64)
        for n, buffer in enumerate(memory.buffers):
            if buffer is None:
                continue  # a row; its address depends on the example
            if isinstance(buffer, (GradientBuffer, BagBuffer, Clock)):
                bases[n] = address(buffer.header)
                if isinstance(buffer, GradientBuffer) and program.parameters[program.buffers[n].number].gradient == "dense":
                    bases[n + len(program.buffers)] = address(buffer.require_dense())
            else:
                bases[n] = address(buffer)
        self.bases = bases
        self._begins: list[int] = bases.tolist()
        words = self._placed(code)
        self.words = self.keep(np.zeros(len(FRAME), np.int64))
        begin = address(words)
        for n, name in enumerate(("forward", "backward", "update")):
            self.set(name, begin + code.ends[n], begin + code.ends[n + 1])
        self.set("real", SOURCE_DTYPES.index(program.dtype))
        self.set("report", address(memory.report.words))
        if program.seed is not None:
            self.set("seed", self.at(program.seed))
        self.address = address(self.words)
        self.set_records("rows", self._rows(program, words))

    def _rows(self, program: Program, words: Array) -> list[list[int]]:
        """Where the addresses of rows belong that are read where they stand."""
        rows = [n for n, buffer in enumerate(program.buffers) if buffer.table is not None]
        if not rows:
            return []
        moved = np.flatnonzero(np.isin(self.code.buffers, rows))
        moved = moved[np.argsort(self.code.buffers[moved], kind="stable")]
        places = self.code.places[moved]
        uses = np.stack([address(words) + 8 * places, self.code.words[places]], axis=1)
        begin = address(self.keep(uses.reshape(-1)))
        ends = begin + uses.strides[0] * np.searchsorted(self.code.buffers[moved], rows, side="right")
        records = []
        for n, end in zip(rows, ends.tolist(), strict=True):
            if end == begin:  # nobody reads it
                continue
            row = program.buffers[n]
            array = self._table_of(program, n)
            index = self.at(program.inputs[row.number].slot)
            records.append([index, address(array), array.strides[0], begin, end])
            begin = end
        return records

    def _placed(self, code: Encoder) -> Array:
        """A table of code whose addresses are those of this frame's buffers."""
        words = self.keep(code.words)
        self.bases[-1] = address(words)
        words[code.places] += self.bases[code.buffers]
        return words

    def _table_of(self, program: Program, row: int) -> Array:
        """The table of a ``row`` buffer."""
        table = program.buffers[row].table
        assert table is not None
        array: Array = self.memory.buffers[program.buffers.index(table)]
        return array

    def set_loop(self, program: Program, loop: Loop) -> None:
        """Put a loop into the frame."""
        begin = address(self._placed(loop))
        inputs = []
        for number, ring, buffer, offset in loop.inputs:
            place = [self.at(program.inputs[number].slot), 0, 0]
            if buffer is not None:
                table = self._table_of(program, buffer)
                place[1:] = address(table) + offset, table.strides[0]
            inputs.append([*place, begin + 8 * ring])
        uses = []
        for ring, word, number in loop.uses:
            if word is None:
                source = program.inputs[number]
                uses.append([begin + 8 * ring, self.at(source.slot), int(source.kind != "index"), 0])
            else:
                uses.append([begin + 8 * ring, begin + 8 * word, 0, int(loop.words[word])])
        self.set("loop", begin + loop.begin)
        self.set_records("loop_inputs", inputs)
        self.set_records("loop_uses", uses)

    def at(self, slot: Slot) -> int:
        """The address of a slot."""
        return self._begins[slot.buffer] + self.code.byte_offset(slot)

    def set_records(self, name: str, records: list[list[int]]) -> None:
        """Put a table of equally long records into the frame."""
        table = self.keep(np.array(records, np.int64).reshape(-1))
        self.set(name, address(table), address(table) + table.nbytes)

    def set(self, name: str, *values: int) -> None:
        """Put values into the words from ``name`` on."""
        n = FRAME.index(name)
        self.words[n : n + len(values)] = values

    def keep(self, words: Array) -> Array:
        """Words as a table that lives as long as the frame."""
        table = aligned(max(len(words), 1), np.int64)[: len(words)]
        table[...] = words
        self.kept.append(table)
        return table


class Origin(NamedTuple):
    """Where an input comes from: the words of its record that differ between passes and runs."""

    dtype: str
    source: int
    stride: int = 0
    mode: int = 0
    parts: int = 1  # in how many it is brought
    starts: int = 0


def set_inputs(program: Program, frame: Frame, origins: Sequence[Origin]) -> None:
    """Put the records of the inputs, and the claims of the program, into the frame."""
    looked_up: set[int] = set()  # asked for bags only
    if any(expected.kind == "bag" for expected in program.inputs):
        looked_up.update([slot.buffer for i in program.instructions if i.kernel != "draw" for slot in i.operands])
    records = []
    for expected, origin in zip(program.inputs, origins, strict=True):
        rows, cols = expected.slot.shape
        kind = INPUT_KINDS.index("dense" if expected.kind == "schedule" else expected.kind)
        code = SOURCE_DTYPES.index(origin.dtype)
        destination, count = frame.at(expected.slot), rows * cols // origin.parts
        stride = int(expected.slot.buffer in looked_up) if expected.kind == "bag" else origin.stride
        place = [origin.source, stride, count, destination]
        records.append([kind, code, *place, expected.limit, origin.mode, origin.starts])
    frame.set_records("inputs", records)
    claims = []
    for n, buffer in enumerate(program.buffers):
        use = program.parameters[buffer.number] if buffer.kind == "gradient" else None
        if use is not None and use.gradient is not None:
            header = int(frame.bases[n])
            claims.append([header, use.rows_per_pass if use.gradient == "rows" else -1, 0])
            claims += [[header, 0, frame.at(program.inputs[number].slot)] for number in use.bags]
    merged: dict[int, list[int]] = {}
    for instruction in program.update:
        if instruction.kernel == "merge_gradient":
            out, source = (int(frame.bases[slot.buffer]) for slot in (instruction.out, *instruction.operands))
            merged.setdefault(out, []).append(source)
    for out, headers in merged.items():  # word 0: touched; word 2: the number of rows
        claims += [[out, rows, header + at] for rows, at in ((0, 16), (-1, 0)) for header in headers]
    frame.set_records("claims", claims)


def feed_frame(
    program: Program, code: Code, memory: Memory, sources: Sequence[Source], sinks: Sequence[Sink], examples: int
) -> Frame:
    """A frame for runs of so many examples of a feed."""
    frame = Frame(program, code, memory)
    frame.kept += [sources, sinks]
    origins = []
    known: dict[int, tuple[int, str]] = {}  # by the arrays' identities: positions of a sequence share theirs

    def described(array: Array) -> tuple[int, str]:
        if id(array) not in known:
            known[id(array)] = address(array), array.dtype.name
        return known[id(array)]

    length = positions = 2**63 - 1
    for source in sources:
        if source.bags is not None:
            length = min(length, len(source))
            origins.append(Origin("int64", address(source.bags.header), parts=examples))
            continue
        array = source.array
        mode = 1 if source.by_position else 2 if source.constant else 0
        if mode == 1:
            positions = min(positions, len(source))
        elif mode == 0:
            length = min(length, len(source))
        stride = 0 if mode == 2 else array.strides[0]
        starts = 0 if source.starts is None else described(source.starts)[0]
        begin, dtype = described(array)
        first = begin + source.shift * stride
        origins.append(Origin(dtype, first, stride, mode, 1 if mode else examples, starts))
    set_inputs(program, frame, origins)
    records = []
    for sink, slot in zip(sinks, program.outputs, strict=True) if sinks else ():
        length = min(length, len(sink.array))
        place = [address(sink.array), sink.array.strides[0], frame.at(slot)]
        records.append([*place, *_example_part(slot, examples, code.itemsize)])
    frame.set_records("sinks", records)
    if program.purpose in ("train", "accumulate"):
        frame.set("loss", frame.at(program.outputs[0]))
        frame.set("skip", 0 if program.skip is None else frame.at(program.skip))
    frame.set("examples", 0 if program.purpose == "update" else examples, length, positions)
    return frame


def _example_part(slot: Slot, examples: int, itemsize: int) -> list[int]:
    """Rows, columns and stride of what belongs to one of several examples, and the bytes to the next one's."""
    rows, cols = slot.shape
    if rows % examples == 0:
        return [rows // examples, cols, slot.stride, rows // examples * slot.stride * itemsize]
    if rows * cols % examples or not (rows == 1 or slot.stride == cols):
        raise BackendError(f"an output of shape {slot.shape} does not split into those of {examples} examples")
    each = rows * cols // examples
    return [1, each, each, each * itemsize]
