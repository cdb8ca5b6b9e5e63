"""Whole training steps of small programs as one function, which goes through the examples of a run by itself.

What such a program computes with single numbers and narrow rows stays in local values; inputs are read in the feed, and rows
where they stand. The function takes the words of a frame, as :mod:`wyrm_numba.runs` does for any program, and a table of
*places*: addresses of what it reads and writes, in the order in which :attr:`Whole.places` names them. It returns the position
that it has reached: before the end where something is wrong, and before that example has changed anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wyrm.backend import KERNELS, Instruction, Program, Slot
from wyrm.memory import Source
from wyrm_numba.chain_source import as_chain, step_source
from wyrm_numba.vectors import LANES

__all__ = ["Whole", "whole_source"]

#: What is no small program any more: steps of elementwise arithmetic on a number or a vector.
_MOST_STEPS = 160
#: Vectors of a row.
_MOST_VECTORS = 8
#: Rows of tables that are smaller are in a cache, so that they need not be fetched ahead; in bytes.
_SMALL_TABLE = 1 << 19
#: How many examples ahead rows are fetched, and inputs where the order is not that of memory.
_ROWS_AHEAD, _INPUTS_AHEAD = 12, 32

_Key = tuple[int, int, tuple[int, int]]


@dataclass(frozen=True)
class Whole:
    """A program as one function.

    Attributes
    ----------
    body
        What the function ``whole(frame, places, examples, width, start, stop, known)`` does.
    places
        The slots at whose addresses it reads and writes; of a row, the table.
    """

    body: str
    places: tuple[Slot, ...]


class _UnsuitableError(Exception):
    """A program that is not of this kind."""


def whole_source(program: Program, sources: Sequence[Source]) -> Whole | None:
    """A training program over a feed as one function, or ``None`` where it is not small and simple enough."""
    try:
        return _Writer(program, sources).whole()
    except _UnsuitableError:
        return None


class _Writer:
    def __init__(self, program: Program, sources: Sequence[Source]) -> None:
        self.program, self.sources = program, sources
        self.lanes = LANES[program.dtype]
        self.itemsize = np.dtype(program.dtype).itemsize
        self.places: list[Slot] = []
        #: The values that are known, each by its place in the workspace, as names: one for a number, one for each vector.
        self.known: dict[_Key, list[str]] = {}
        self.names = self.steps = 0
        #: Of numbers that are products, the factors.
        self.factors: dict[str, list[str]] = {}
        self.before: list[str] = []  # once
        self.lines: list[str] = []  # for each example

    def whole(self) -> Whole:
        program = self.program
        self._require(program.purpose == "train" and not program.seed and program.skip is None)
        self._require(all(buffer.kind in ("real", "index", "value", "state", "scalars", "row") for buffer in program.buffers))
        for value, slot in program.literals:
            self.known[_key(slot)] = [self._once(f"real({value!r}, ZERO)")]
        for number in range(len(program.inputs)):
            self._input(number)
        for instruction in program.forward:
            self._instruction(instruction)
        (loss,) = self.known.get(_key(program.outputs[0]), [""])
        self._require(loss != "")
        if not any(_guard(instruction) for instruction in program.forward):
            self._stop_unless_finite(loss)
        for instruction in (*program.backward, *program.update):
            self._instruction(instruction)
        self._require(self.steps <= _MOST_STEPS)
        loop = [*self.lines, f"losses += {loss}", "position += 1"]
        body = [*_BEGIN, *self.before, "while position < stop:", *(f"    {line}" for line in [*_EXAMPLE, *loop]), *_END]
        return Whole("\n".join(f"    {line}" for line in body), tuple(self.places))

    def _require(self, condition: bool) -> None:
        if not condition:
            raise _UnsuitableError

    def _name(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def _once(self, expression: str) -> str:
        name = self._name()
        self.before.append(f"{name} = {expression}")
        return name

    def _now(self, expression: str) -> str:
        name = self._name()
        self.lines.append(f"{name} = {expression}")
        return name

    def _stop_unless_finite(self, name: str) -> None:
        self.lines += [f"if not math.isfinite({name}):", "    break"]

    def _place(self, slot: Slot) -> str:
        """The address of a slot that is not the workspace's own."""
        if slot not in self.places:
            self.places.append(slot)
            self.before.append(f"p{len(self.places) - 1} = word(places, {len(self.places) - 1})")
        return f"p{self.places.index(slot)}"

    # -- inputs

    def _input(self, number: int) -> None:
        """Read an input; of an index, check it, and fetch the rows that it will name."""
        expected, source = self.program.inputs[number], self.sources[number]
        self._require(expected.slot.shape == (1, 1) and source.bags is None and source.starts is None)
        self._require(expected.kind in ("dense", "schedule", "index"))
        record = f"word(frame, INPUTS) + {number} * INPUT_BYTES"
        begin, stride = self._once(f"word({record}, SOURCE)"), 0 if source.constant else source.array.strides[0]
        zero = "0" if source.array.dtype == np.int64 else f"{source.array.dtype.name}(0)"
        read = "word({}, 0)" if source.array.dtype == np.int64 else f"load({{}}, 0, {zero})"
        row = "position" if source.by_position else "example"
        at = f"{begin} + {row} * {stride}"
        moves = not source.constant and not source.by_position
        if moves:
            self.lines += ["if fetches_inputs:", f"    prefetch({begin} + later * {stride})"]
        if expected.kind != "index":
            self.known[_key(expected.slot)] = [self._now(f"real({read.format(at)}, ZERO)")]
            return
        index = f"i{number}"
        self.lines += [f"{index} = int64({read.format(at)})", f"if uint64({index}) >= uint64({expected.limit}):", "    break"]
        for n, buffer in enumerate(self.program.buffers):
            if buffer.kind == "row" and buffer.number == number and moves:
                width = max(slot.shape[1] for slot in self._slots() if slot.buffer == n) * self.itemsize
                if expected.limit * width >= _SMALL_TABLE:
                    row_at = f"{self._table(n)} + int64({read.format(f'{begin} + next * {stride}')}) * {width}"
                    self.lines.append("if fetches_rows:")
                    self.lines += [f"    prefetch({row_at} + {line})" for line in range(0, width, 64)]

    def _slots(self) -> Iterator[Slot]:
        for instruction in (*self.program.forward, *self.program.backward, *self.program.update):
            yield from (instruction.out, *instruction.operands)

    def _table(self, buffer: int) -> str:
        """The address of the table behind a buffer of rows."""
        found = self.program.buffers[buffer].table
        number = next(n for n, other in enumerate(self.program.buffers) if other == found)
        return self._place(Slot(number, 0, (1, 1), 1))

    # -- operands

    def _address(self, slot: Slot) -> str:
        """Where a slot outside the workspace is."""
        buffer = self.program.buffers[slot.buffer]
        if buffer.kind != "row":
            return self._place(slot)
        use = self.program.parameters[buffer.table.number] if buffer.table is not None else None
        self._require(use is not None and slot.offset == 0 and slot.shape[1] == use.shape[1])
        return f"{self._table(slot.buffer)} + i{buffer.number} * {slot.shape[1] * self.itemsize}"

    def _is_own(self, slot: Slot) -> bool:
        return self.program.buffers[slot.buffer].kind == "real"

    def _parts(self, slot: Slot) -> list[int]:
        """How many numbers each vector of a row has."""
        self._require(slot.shape[0] == 1)
        width = slot.shape[1]
        self._require(width <= _MOST_VECTORS * self.lanes)
        return [min(self.lanes, width - begin) for begin in range(0, width, self.lanes)]

    def _read(self, slot: Slot) -> list[str]:
        """The number of a slot, or the vectors of its row."""
        if self._is_own(slot):
            names = self.known.get(_key(slot))
            self._require(names is not None)
            return names or []
        address = self._address(slot)
        if slot.shape == (1, 1):
            constant = self.program.buffers[slot.buffer].kind == "scalars"
            return [(self._once if constant else self._now)(f"load({address}, 0, ZERO)")]
        return [self._now(self._load(address, n, count)) for n, count in enumerate(self._parts(slot))]

    def _load(self, address: str, n: int, count: int) -> str:
        begin = n * self.lanes
        return f"load({address}, {begin}, vector)" if count == self.lanes else f"load_part({address}, {begin}, {count}, vector)"

    def _write(self, slot: Slot, names: Sequence[str]) -> None:
        if self._is_own(slot):
            begin, end = slot.offset, slot.offset + slot.shape[1]
            for key in [k for k in self.known if k[0] == slot.buffer and k[1] < end and begin < k[1] + k[2][1]]:
                del self.known[key]  # its place is taken
            self.known[_key(slot)] = list(names)
            return
        self._require(self.program.buffers[slot.buffer].kind in ("value", "state", "row"))
        address = self._address(slot)
        if slot.shape == (1, 1):
            self.lines.append(f"store({address}, 0, {names[0]})")
            return
        for n, count in enumerate(self._parts(slot)):
            at = f"{address}, {n * self.lanes}"
            self.lines.append(f"store({at}, {names[n]})" if count == self.lanes else f"store_part({at}, {count}, {names[n]})")

    # -- instructions

    def _instruction(self, instruction: Instruction) -> None:
        self._require(not instruction.body and instruction.out.shape[0] == 1)
        if instruction.kernel == "row_dot":
            self._row_dot(instruction)
        else:
            kernel = KERNELS[instruction.kernel]
            self._require(kernel.elementwise or kernel.name in ("copy", "fused"))
            self._chain(instruction)

    def _row_dot(self, instruction: Instruction) -> None:
        a, b = (self._read(slot) for slot in instruction.operands)
        self._require(len({slot.shape for slot in instruction.operands}) == 1)
        self.steps += len(a)
        sums = self._now(f"elements.multiply({a[0]}, {b[0]})")
        for left, right in zip(a[1:], b[1:], strict=True):
            sums = self._now(f"elements.multiply_add({left}, {right}, {sums})")
        single = instruction.operands[0].shape == (1, 1)
        self._finish(instruction.out, [sums if single else self._now(f"total({sums})")], instruction.accumulate)

    def _chain(self, instruction: Instruction) -> None:
        chain = as_chain(instruction)
        targets = (instruction.out, *instruction.operands)[: len(chain.results)]
        read = (instruction.out, *instruction.operands)[len(chain.results) :]
        single = instruction.out.shape == (1, 1)
        parts = [1] if single else self._parts(instruction.out)
        self.steps += len(chain.steps) * len(parts)
        operands = []
        for slot in read:
            names = self._read(slot)
            self._require(slot.shape in ((1, 1), instruction.out.shape))
            spread = not single and slot.shape == (1, 1)
            operands.append([self._now(f"many({names[0]})")] * len(parts) if spread else names)
        computed = []
        for n in range(len(parts)):
            registers = [names[n] for names in operands]
            for kernel, numbers in chain.steps:
                names = [registers[number] for number in numbers]
                registers.append(self._product(kernel, names) if single else self._now(step_source(kernel, names)))
            computed.append(registers)
        if chain.guard is not None:
            self._stop_unless_finite(computed[0][chain.guard])
        for slot, register in zip(targets, chain.results, strict=True):
            self._finish(slot, [registers[register] for registers in computed], instruction.accumulate)

    def _product(self, kernel: str, names: list[str]) -> str:
        """A step of single numbers. The factors of a product are multiplied in the order in which they become known.

        So what is known early does not wait for what is known last, such as the error of a prediction.
        """
        if kernel not in ("multiply", "multiply_add", "multiply_subtract"):
            return self._now(step_source(kernel, names))
        factors = sorted((f for name in names[:2] for f in self.factors.get(name, [name])), key=lambda name: int(name[1:]))
        early = factors[0]
        for factor in factors[1:-1]:
            early = self._now(step_source("multiply", [early, factor]))
        result = self._now(step_source(kernel, [early, factors[-1], *names[2:]]))
        if kernel == "multiply":
            self.factors[result] = factors
        return result

    def _finish(self, slot: Slot, names: Sequence[str], accumulate: bool) -> None:
        if accumulate:
            names = [self._now(f"elements.add({old}, {new})") for old, new in zip(self._read(slot), names, strict=True)]
        self._write(slot, names)


def _key(slot: Slot) -> _Key:
    return slot.buffer, slot.offset, slot.shape


def _guard(instruction: Instruction) -> bool:
    chain = dict(instruction.attributes).get("chain")
    return chain is not None and chain.guard is not None


_BEGIN = (
    "vector, length = many(ZERO), word(frame, LENGTH)",
    "stop = min(stop, word(frame, POSITIONS))",
    "if start >= stop:",
    "    return start",
    "in_order = word(examples, (stop - 1) * width) - word(examples, start * width) == stop - 1 - start",
    "losses, position = load(frame, LOSSES, float64(0)), start",
)
_EXAMPLE = (
    "example = word(examples, position * width)",
    "if uint64(example) >= uint64(length):",  # negative ones, too
    "    break",
    "fetches_inputs = False",
    f"if not in_order and position + {_INPUTS_AHEAD} < known:",
    f"    later = word(examples, (position + {_INPUTS_AHEAD}) * width)",
    "    fetches_inputs = True",
    f"fetches_rows = position + {_ROWS_AHEAD} < known",
    "next = example",
    "if fetches_rows:",
    f"    next = word(examples, (position + {_ROWS_AHEAD}) * width)",
    "    fetches_rows = next >= 0 and next < length",
)
_END = ("store(frame, LOSSES, losses)", "return position")
