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
  scalars as one row, then the clock, where the rule has one.
- ``draw``: the attribute is the address of ``[rows, tries, operands, table, bag, until]``: how many operands there are, the
  result among them, and which is the alias table, the bag of excluded numbers and what ends the draws; 0 where there is none.
  The instructions of the body stand behind the operands, inside the instruction's length: whoever walks a section passes over
  them, and the kernel runs them.

*Rule*: ``[states, scalars, literals, steps, registers, address of literals (in the program's dtype), bits of the states that
are kept per row, whether it may take a matrix as one row, whether it has a clock, a word of the backend's own]``, such as a
function or what it recognises the rule as; then the registers of the results (the value's, then each state's), then five
words a step: ``[opcode, result register, operand, operand, operand]``, by :data:`OPCODES`; operands that there are not are 0.

*Chains* (``fused``): the operands are the results and then what is read, the attribute is their number; the steps follow. In
a chain of one element, a step has five words: ``[code, address of the result, of the operands a, b, c]``. The code is
``(64 * opcode + 16 * a + 4 * b + c) * 2 + stored``; a, b and c say where the operand is: 0 at its address, 1 it is the result
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
``loop`` is the address of the loop of a program that has a loss, where the backend has an interpreter of loops
(:mod:`wyrm.native_loops`, where its inputs and uses are explained); else 0. What is made of frames is in
:mod:`wyrm.native_runs`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np

from wyrm.backend import Backend, Executable, JoinedRunner, Pass, Runner, Team
from wyrm.errors import BackendError
from wyrm.gradient_use import gradients_of
from wyrm.leaves import Leaves
from wyrm.memory import GradientBuffer, Memory, Sink, Source, address
from wyrm.native_chains import CHAIN_OPCODES, OPCODES, are_sums
from wyrm.native_code import Code
from wyrm.native_frames import FRAME, INPUT, INPUT_KINDS, Frame, Origin, feed_frame, set_inputs
from wyrm.native_layout import fingerprint
from wyrm.native_loops import Loop
from wyrm.native_runs import NativeJoinedRunner, NativeRunner, NativeTeam
from wyrm.program import Instruction, Program, Rule, Slot
from wyrm.room import require_room
from wyrm.turns import TIME_ADDRESS, AtOnce

__all__ = ["CHAIN_OPCODES", "FRAME", "INPUT", "INPUT_KINDS", "OPCODES", "Frame", "NativeBackend", "are_sums"]

_LEAVES = FRAME.index("leaves")
#: The most instructions of a program for which a loop is made; of longer ones, what goes on between them is a small part.
_MOST_INSTRUCTIONS = 32


class NativeBackend(Backend):
    """A backend in native code.

    Subclasses say where the code is; all addresses and statuses are integers.
    """

    @property
    @abstractmethod
    def layout(self) -> str:
        """The fingerprint of the layout that the native code was built for: :func:`wyrm.native_layout.fingerprint` of then."""

    def examine(self) -> None:
        """Refuse native code that was built for another layout."""
        if self.layout != fingerprint():
            raise BackendError(
                f"its native code was built for programs of layout {self.layout}, and this Wyrm makes programs of layout "
                f"{fingerprint()}; install versions of both that belong together, or build the backend again"
            )

    @property
    @abstractmethod
    def forward(self) -> Callable[[int], int]:
        """``forward(frame)``: load the inputs, run the forward section, then the update section."""

    @property
    @abstractmethod
    def backward(self) -> Callable[[int, float], int]:
        """``backward(frame, weight)``: check the claims, set the seed, run the backward section."""

    #: Whether what :meth:`passes` returns sees to gradients in use and adopted arrays: :attr:`wyrm.backend.Pass.guards_memory`.
    guards_memory = False

    def passes(self, program: Program, frame: Frame, busy: Sequence[int]) -> tuple[Callable[[], int], Callable[[float], int]]:
        """``forward`` and ``backward`` over a frame, as functions of nothing and of the weight.

        ``busy`` are the addresses of the words that say whether the program's gradients are in use.
        """
        return partial(self.forward, frame.address), partial(self.backward, frame.address)

    def at_once(self, program: Program, frame: Frame, busy: Sequence[int]) -> AtOnce | None:
        """The same for :meth:`wyrm.backend.Pass.at_once`: what every step calls."""
        return None

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

        It is one for all instructions with the same attributes and the same shapes and strides, wherever their operands are.
        ``often`` is what :meth:`runs_often` said, and false where a program is driven from Python.
        """

    def as_run(self, instruction: Instruction, often: bool) -> Instruction:
        """An instruction, or another one that does the same: what a program is encoded with."""
        return instruction

    def runs_often(self, sources: Sequence[Source]) -> bool:
        """Whether a program will run over a feed so often that code of its own is worth making.

        The answer depends on the feed alone, because other code may round in other places.
        """
        return False

    def rule_word(self, rule: Rule, dtype: str) -> int:
        """The last word of a rule, which is yours: for what native code notes of it, or the address of a function."""
        return 0

    def step_word(self, code: int, dtype: str) -> int:
        """The word for the code of a step of a chain of one element: the code, unless the backend wants another."""
        return code

    def loop_address(self, dtype: str) -> int:
        """The address of the interpreter of loops (:mod:`wyrm.native_loops`), for numbers of ``dtype``; 0: there is none."""
        return 0

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
            backend = self.backend
            address_of, as_run = partial(backend.kernel_address, often=often), partial(backend.as_run, often=often)
            self._code[often] = Code(self.program, address_of, backend.step_word, as_run, backend.rule_word)
        return self._code[often]

    @cached_property
    def loop(self) -> Loop | None:
        """The loop of a short program that is run for its loss, where the backend has an interpreter of them."""
        program, backend = self.program, self.backend
        interpreter = backend.loop_address(program.dtype)
        short = sum(map(len, (program.forward, program.backward, program.update))) <= _MOST_INSTRUCTIONS
        if not interpreter or not short or program.purpose not in ("train", "accumulate") or program.skip is not None:
            return None
        return Loop(program, partial(backend.kernel_address, often=True), backend.step_word, interpreter)

    def bind(self, memory: Memory, cells: Sequence[int] = ()) -> Pass:
        require_room(self.program, memory)
        return _NativePass(self, memory, cells)

    def bind_feed(self, memory: Memory, sources: Sequence[Source], sinks: Sequence[Sink] = (), examples: int = 1) -> Runner:
        require_room(self.program, memory, sources, sinks, examples)
        often = self.backend.runs_often(sources)
        frame = feed_frame(self.program, self.code(often), memory, sources, sinks, examples)
        if self.loop is not None and examples == 1 and not sinks:
            frame.set_loop(self.program, self.loop)
        whole = self.backend.whole(self.program, sources) if often and examples == 1 and not sinks else None
        if whole is not None:
            function, slots = whole
            frame.set("whole", function, address(frame.keep(np.array([frame.at(slot) for slot in slots], np.int64))))
        return NativeRunner(self.backend.run, frame, FRAME)


def _set_doubts(program: Program, frame: Frame, memory: Memory) -> None:
    """Put what passes look at into the frame, and the words that say whether gradients are in doubt."""
    if program.look is not None:
        frame.set("look", frame.at(program.look))
    elif not program.outputs or not _is_only_looked_at(program):
        return
    place = GradientBuffer.HEADER.index("doubt")
    frame.set_records("doubts", [[address(gradient.header) + 8 * place] for gradient in gradients_of(memory)])


def _is_only_looked_at(program: Program) -> bool:
    """Whether an update reads nothing of what the forward section computes."""
    computed = {slot for instruction in program.forward for slot in instruction.results}
    return computed.isdisjoint(slot for instruction in program.update for slot in instruction.operands)


class _NativePass(Pass):
    def __init__(self, executable: _NativeExecutable, memory: Memory, cells: Sequence[int]) -> None:
        program = executable.program
        self.frame = frame = Frame(program, executable.code(often=False), memory)
        if executable.backend.looks_at_gradients:
            _set_doubts(program, frame, memory)
        if program.purpose == "update" and program.outputs:
            frame.set("loss", frame.at(program.outputs[0]))
        steps = 0  # the address of the number of steps made, for the keys of random inputs
        for n, buffer in enumerate(program.buffers):
            if buffer.kind == "gradient" and not steps:
                steps = int(frame.bases[n]) + 8 * 10
        origins = []
        for expected, cell in zip(program.inputs, cells, strict=True):
            single = expected.slot.shape == (1, 1) and expected.kind != "bag"
            real = expected.kind in ("dense", "schedule")
            dtype = "int64" if not real else "float64" if single else program.dtype
            stride = steps if expected.kind == "random" else 0
            origins.append(Origin(dtype, 8 * cell, stride, int(not single)))
        set_inputs(program, frame, origins)
        frame.set("date", address(memory.date))
        frame.set("time", TIME_ADDRESS)
        busy = [address(gradient.header) + 8 * len(gradient.HEADER) for gradient in gradients_of(memory)]
        self._passes = executable.backend.passes(program, frame, busy)
        self._at_once = executable.backend.at_once(program, frame, busy)
        self.guards_memory = executable.backend.guards_memory
        self._words = memoryview(frame.words.data)

    def forward(self, leaves: Leaves) -> int:
        return self.attached(leaves)[0]()

    def backward(self, weight: float) -> int:
        return self._passes[1](weight)

    def attached(self, leaves: Leaves) -> tuple[Callable[[], int], Callable[[float], int]]:
        self.frame.leaves = leaves
        self._words[_LEAVES] = leaves.address
        return self._passes

    def at_once(self, leaves: Leaves) -> AtOnce | None:
        return self._at_once
