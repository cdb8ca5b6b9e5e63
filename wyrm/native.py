"""For backends in native code: programs laid out as tables of 64-bit integers that any language can walk.

A backend subclasses :class:`NativeBackend` and supplies the addresses of its kernels and three entry points. This module
encodes programs, binds them to memory and calls the entry points. Every word below is an int64.

*Instruction*: ``[kernel address, length in words, accumulate, attribute]``, then four words for each operand, the result first:
``[address, rows, columns, row stride in elements]``. A kernel is a function of the instruction's address.

- Elementwise kernels, ``copy`` and ``sum``: where an operand (for ``sum``, the result) has one row and the other several, its
  row stride is 0; where it has one column and the other several, its only column serves all. Matrices that lie without gaps
  and have equal shapes come as one long row.
- ``matmul``: the attribute is ``transpose_a + 2 * transpose_b``. Bags: the attribute is ``mean``.
- Operands that are gradients (the ``out`` of ``accumulate_rows``, ``accumulate_bag`` and ``merge_gradient``, the operand of
  ``update_gradient``, ``merge_gradient`` and ``square_sum``), bags and clocks are the addresses of their headers
  (:mod:`wyrm.memory`); a gradient has the parameter's shape, a bag as many rows as there are bags.
- Updates and catching up: the attribute is the address of a *rule*; the operands that follow are the states, then the
scalars as
  one row, then the clock, where the rule has one.

- ``draw``: the attribute is the address of ``[rows, tries, operands, table, bag, until]``: how many operands there are, the
  result among them, and which is the alias table, the bag of excluded numbers and what ends the draws; 0 where there is none.
  The instructions of the body stand behind the operands, inside the instruction's length: whoever walks a section passes over
  them, and the kernel runs them.

*Rule*: ``[states, scalars, literals, steps, registers, address of literals (in the program's dtype), bits of the states that
are kept per row, whether it may take a matrix as one row, address of catch_up or 0]``, then the registers of the results
(the value's, then each state's), then five words a step: ``[opcode, result register, operand, operand, operand]``, by
:data:`OPCODES`; operands that there are not are 0.

*Chains* (``fused``): the operands are the results and then what is read, the attribute is their number; the steps follow. In
a chain of one element, a step has five words: ``[code, address of the result, of the operands a, b, c]``. The code is
``(27 * opcode + 9 * a + 3 * b + c) * 2 + stored``; a, b and c say where the operand is: 0 at its address, 1 it is the result
of the step before, 2 of the one before that. ``stored``: the result is wanted at its address. The opcodes are
:data:`OPCODES` and then :data:`CHAIN_OPCODES`: ``store`` puts a where the result belongs, ``guard`` ends the chain where a is
NaN or infinite, ``end`` ends it; for what follows, they are no steps. In other chains the words are ``[number of results,
number of steps, registers of the results]`` and then four a step, ``[opcode, register, register, register]``; registers are
numbered as in :class:`wyrm.program.Chain`.

*Row*, one that is read where it stands: ``[address of its index, address of row 0, row stride in bytes, begin and end of its
uses]``; a *use* is ``[where in the instructions the row's address belongs, what is to be added to it]``. They are put there
once the inputs are loaded.

*Input*: :data:`INPUT` words: ``[kind, dtype code, source, stride in bytes, count, destination, limit, mode, starts]``; kinds
are positions in :data:`INPUT_KINDS`, dtype codes in :data:`wyrm.memory.SOURCE_DTYPES`.

- In a pass, ``source`` is an offset from the leaves' address; mode 1: the cell there holds an address. In a run, it is an
  address. Mode 0: example e's values are ``stride * e`` bytes on, and those of the run's examples follow each other in the
  destination; where starts is not 0, it is the address of int64 numbers, and example e's values are ``stride * starts[e]``
  bytes on. Mode 1: those for the position p in the order, ``stride * p`` bytes on. Mode 2: those for every run.
- The count is that of one example in mode 0 of a run.
- Bags: the source is the header of a bag source, the destination that of a bag buffer, the count the bags of an example.
  Where the stride is 0, only draws read them, which look where they come from: they are not copied.
- Random: the source is seed and stream. The step is, in a pass, the word at the address in ``stride`` (0: the step is 0), in
  a run ``first_step`` plus the first example.

*Claim*: ``[gradient header, rows, address of a count or 0]``: before a backward pass, or a step that merges gradients, the list
must have room for so many rows and for as many as the count says; claims of one gradient follow each other and add up. Rows
-1: the matrix is touched; with a count, it must be there where that is not 0.

*Sink*: ``[address, stride in bytes, slot address, rows, columns, slot stride, step]``: rows and columns of one example; the
next one's are ``step`` bytes on in the slot.

*Frame*: everything about one bound program, :data:`FRAME`. Sections are begin and end addresses, and follow each other.
``whole`` is a backend's own function for runs of the whole program, or 0, and ``places`` a table of the addresses that it needs
(:meth:`NativeBackend.whole`).
``only`` is the address of a training program's only instruction, where that is a chain of one element with a guard, which may
go through the examples by itself; else 0. What is made of frames is in
:mod:`wyrm.native_runs`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend, Executable, JoinedRunner, Pass, Runner, Team
from wyrm.errors import BackendError
from wyrm.memory import SOURCE_DTYPES, BagBuffer, Clock, GradientBuffer, Leaves, Memory, Sink, Source, address, aligned
from wyrm.native_chains import CHAIN_OPCODES, OPCODES
from wyrm.native_code import Code
from wyrm.native_runs import NativeJoinedRunner, NativeRunner, NativeTeam
from wyrm.program import Instruction, Program, Slot

__all__ = ["CHAIN_OPCODES", "FRAME", "INPUT", "INPUT_KINDS", "OPCODES", "NativeBackend"]

Array = npt.NDArray[Any]

#: The kinds of inputs, by code; ``schedule`` is loaded as ``dense`` is.
INPUT_KINDS = ("dense", "index", "bag", "random")
#: The number of words that describe an input.
INPUT = 9
#: The words of a frame, in order. ``real`` is the program's dtype code; ``loss`` the address of the loss or 0; ``skip`` that of
#: the number that has to be positive for a run to go on after its forward section, or 0; ``losses`` the running sum of losses,
#: a float64; ``seed`` the address of the backward pass's weight or 0; ``report`` that of the report; ``leaves`` that of the
#: leaves, for a pass. For runs: how many ``examples`` each takes, and what every example (``length``) and every position
#: (``positions``) is below.
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
    "skip",
    "losses",
    "report",
    "leaves",
    "first_step",
    "examples",
    "length",
    "positions",
    "only",
    "whole",
    "places",
)


class NativeBackend(Backend):
    """A backend in native code.

    Subclasses say where the code is; all addresses and statuses are integers.
    """

    @property
    @abstractmethod
    def forward(self) -> Callable[[int], int]:
        """``forward(frame)``: load the inputs, run the forward section, then the update section."""

    @property
    @abstractmethod
    def backward(self) -> Callable[[int, float], int]:
        """``backward(frame, weight)``: check the claims, set the seed, run the backward section."""

    @property
    @abstractmethod
    def run(self) -> Callable[[int, int, int, int], int]:
        """``run(joined, order, start, stop)``: runs over a feed, as :meth:`wyrm.runs.JoinedRunner.run` says.

        By the tables of :mod:`wyrm.native_runs`.
        """

    @property
    @abstractmethod
    def run_team(self) -> Callable[[int, int, int, int, int], int]:
        """``run_team(team, thread, order, start, stop)``: as :meth:`wyrm.runs.Team.run`."""

    @abstractmethod
    def kernel_address(self, instruction: Instruction, dtype: str, often: bool) -> int:
        """The address of the function for an instruction's kernel, for real numbers of ``dtype``.

        ``often`` is what :meth:`runs_often` said, and false where a program is driven from Python.
        """

    def runs_often(self, sources: Sequence[Source]) -> bool:
        """Whether a program will run over a feed so often that code of its own is worth making.

        The answer depends on the feed alone, because other code may round in other places.
        """
        return False

    def compile(self, program: Program) -> Executable:
        """Lay the program out as a table."""
        self.check(program)
        return _NativeExecutable(self, program)

    def whole(self, program: Program, sources: Sequence[Source]) -> tuple[int, Sequence[Slot]] | None:
        """A function for runs of a whole program over a feed, one example a run: its address, and the slots that it needs.

        It is asked for where :meth:`runs_often` holds, and called by the words ``whole`` and ``places`` of the frame, by the
        backend's own code. ``None``: there is no such.
        """
        return None

    def join(self, parts: Sequence[Runner], update: Runner | None = None, batch_size: int = 1) -> JoinedRunner:
        """A runner that changes between its parts in native code."""
        return NativeJoinedRunner(self.run, parts, update, batch_size)

    def team(self, shards: Sequence[JoinedRunner], update: Runner, batch_size: int, num_threads: int) -> Team:
        """A team whose threads meet in native code."""
        return NativeTeam(self.run_team, shards, update, batch_size, num_threads)


class _NativeExecutable(Executable):
    def __init__(self, backend: NativeBackend, program: Program) -> None:
        super().__init__(program)
        self.backend = backend
        self._code: dict[bool, Code] = {}

    def code(self, often: bool) -> Code:
        """The instructions, of which some may be made for programs that run often."""
        if often not in self._code:
            self._code[often] = Code(self.program, partial(self.backend.kernel_address, often=often))
        return self._code[often]

    def bind(self, memory: Memory, cells: Sequence[int] = ()) -> Pass:
        return _NativePass(self, memory, cells)

    def bind_feed(self, memory: Memory, sources: Sequence[Source], sinks: Sequence[Sink] = (), examples: int = 1) -> Runner:
        return NativeRunner(self.backend.run, _feed_frame(self, memory, sources, sinks, examples), FRAME)


class _Frame:
    """A program's tables, bound to memory: the frame and everything that it points to."""

    def __init__(self, executable: _NativeExecutable, memory: Memory, often: bool = False) -> None:
        program = executable.program
        self.memory, self.code = memory, executable.code(often)
        self.kept: list[Any] = [executable, memory]
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
        code = self.keep(self.code.words)
        bases[-1] = address(code)
        code[self.code.places] += bases[self.code.buffers]
        self.words = self.keep(np.zeros(len(FRAME), np.int64))
        begin = address(code)
        for n, name in enumerate(("forward", "backward", "update")):
            self.set(name, begin + self.code.ends[n], begin + self.code.ends[n + 1])
        self.set("real", SOURCE_DTYPES.index(program.dtype))
        self.set("report", address(memory.report.words))
        if program.seed is not None:
            self.set("seed", self.at(program.seed))
        self.address = address(self.words)
        self.set_records("rows", self._rows(executable.program, code))

    def _rows(self, program: Program, code: Array) -> list[list[int]]:
        """Where the addresses of rows belong that are read where they stand."""
        numbers = {buffer: n for n, buffer in enumerate(program.buffers)}
        rows = [n for n, buffer in enumerate(program.buffers) if buffer.table is not None]
        if not rows:
            return []
        moved = np.flatnonzero(np.isin(self.code.buffers, rows))
        moved = moved[np.argsort(self.code.buffers[moved], kind="stable")]
        places = self.code.places[moved]
        uses = np.stack([address(code) + 8 * places, self.code.words[places]], axis=1)
        begin = address(self.keep(uses.reshape(-1)))
        ends = begin + uses.strides[0] * np.searchsorted(self.code.buffers[moved], rows, side="right")
        records = []
        for n, end in zip(rows, ends.tolist(), strict=True):
            row, table = program.buffers[n], program.buffers[n].table
            assert table is not None
            array: Array = self.memory.buffers[numbers[table]]
            index = self.at(program.inputs[row.number].slot)
            records.append([index, address(array), array.strides[0], begin, end])
            begin = end
        return records

    def at(self, slot: Slot) -> int:
        """The address of a slot."""
        return int(self.bases[slot.buffer]) + self.code.byte_offset(slot)

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


class _Origin(NamedTuple):
    """Where an input comes from: the words of its record that differ between passes and runs."""

    dtype: str
    source: int
    stride: int = 0
    mode: int = 0
    parts: int = 1  # in how many it is brought
    starts: int = 0


def _set_inputs(executable: _NativeExecutable, frame: _Frame, origins: Sequence[_Origin]) -> None:
    """Put the records of the inputs, and the claims of the program, into the frame."""
    program = executable.program
    looked_up = {slot.buffer for i in program.instructions if i.kernel != "draw" for slot in i.operands}
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


def _feed_frame(
    executable: _NativeExecutable, memory: Memory, sources: Sequence[Source], sinks: Sequence[Sink], examples: int
) -> _Frame:
    """A frame for runs of so many examples of a feed."""
    program, often = executable.program, executable.backend.runs_often(sources)
    frame = _Frame(executable, memory, often)
    frame.kept += [sources, sinks]
    origins = []
    length = positions = 2**63 - 1
    for source in sources:
        if source.bags is not None:
            length = min(length, len(source))
            origins.append(_Origin("int64", address(source.bags.header), parts=examples))
            continue
        array = source.array
        mode = 1 if source.by_position else 2 if source.constant else 0
        if mode == 1:
            positions = min(positions, len(source))
        elif mode == 0:
            length = min(length, len(source))
        stride = 0 if mode == 2 else array.strides[0]
        starts = 0 if source.starts is None else address(source.starts)
        first = address(array) + source.shift * stride
        origins.append(_Origin(array.dtype.name, first, stride, mode, 1 if mode else examples, starts))
    _set_inputs(executable, frame, origins)
    records = []
    for sink, slot in zip(sinks, program.outputs, strict=True) if sinks else ():
        length = min(length, len(sink.array))
        place = [address(sink.array), sink.array.strides[0], frame.at(slot)]
        records.append([*place, *_example_part(slot, examples, frame.code.itemsize)])
    frame.set_records("sinks", records)
    if program.purpose in ("train", "accumulate"):
        frame.set("loss", frame.at(program.outputs[0]))
        frame.set("skip", 0 if program.skip is None else frame.at(program.skip))
        instructions = (*program.forward, *program.backward, *program.update)
        chain = dict(instructions[0].attributes).get("chain") if len(instructions) == 1 else None
        if chain is not None and chain.guard is not None:
            frame.set("only", frame.words[0])
    whole = executable.backend.whole(program, sources) if often and examples == 1 and not sinks else None
    if whole is not None:
        places = frame.keep(np.array([frame.at(slot) for slot in whole[1]], np.int64))
        frame.set("whole", whole[0], address(places))
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


class _NativePass(Pass):
    def __init__(self, executable: _NativeExecutable, memory: Memory, cells: Sequence[int]) -> None:
        program = executable.program
        self.frame = frame = _Frame(executable, memory)
        steps = 0  # the address of the number of steps made, for the keys of random inputs
        for n, buffer in enumerate(program.buffers):
            if buffer.kind == "gradient" and not steps:
                steps = int(frame.bases[n]) + 8 * 10
        origins = []
        for expected, cell in zip(program.inputs, cells, strict=True):
            single = expected.slot.shape == (1, 1) and expected.kind != "bag"
            dtype = program.dtype if expected.kind == "dense" else "int64"
            if single and expected.kind == "dense":
                dtype = "float64"
            stride = steps if expected.kind == "random" else 0
            origins.append(_Origin(dtype, 8 * cell, stride, int(not single)))
        _set_inputs(executable, frame, origins)
        self._forward = executable.backend.forward
        self._backward = executable.backend.backward

    def forward(self, leaves: Leaves) -> int:
        self.frame.set("leaves", leaves.address)
        return self._forward(self.frame.address)

    def backward(self, weight: float) -> int:
        return self._backward(self.frame.address, weight)

    def attached(self, leaves: Leaves) -> tuple[Callable[[], int], Callable[[float], int]]:
        self.frame.set("leaves", leaves.address)
        return partial(self._forward, self.frame.address), partial(self._backward, self.frame.address)
