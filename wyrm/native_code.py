"""Programs as words: instructions laid out as :mod:`wyrm.native` describes, to be moved to where the buffers are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.kernels import KERNELS
from wyrm.memory import address, aligned
from wyrm.native_chains import OPCODES, encode_chain, single_steps
from wyrm.program import Buffer, Chain, Instruction, Program, Rule, Slot

__all__ = ["Code", "Encoder"]

Array = npt.NDArray[Any]
#: The words of a step on single numbers.
_STEP = 5
#: Kernels whose result (0), or whose operand of that number, is a gradient's header and not its matrix.
_HEADERS = {
    "accumulate_rows": (0,),
    "accumulate_bag": (0,),
    "update_gradient": (1,),
    "square_sum": (1,),
    "merge_gradient": (0, 1),
}


_buffer_of, _offset_of, _shape_of = itemgetter(0), itemgetter(1), itemgetter(2, 3)


class _Steps(NamedTuple):
    """A chain of one element: its words, which of them are addresses, and of what: a slot of the chain or a word of its own."""

    words: list[int]
    places: list[int]
    targets: list[tuple[bool, int]]


class Encoder:
    """Instructions of a program as words under construction, some of them to be moved to where a buffer is.

    Attributes
    ----------
    words, places, buffers
        Once all are there: the words, those that are addresses, and the buffer into which each counts: of a program's n
        buffers, numbers from n on stand for the dense matrices of gradients, and 2 n for the words themselves.

    Parameters
    ----------
    as_run
        An instruction as the one that stands for it in the words.
    rule_word
        The last word of a rule, which is the backend's own.
    """

    words: Array
    places: Array
    buffers: Array

    def __init__(
        self,
        program: Program,
        kernel_address: Callable[[Instruction, str], int],
        step_word: Callable[[int, str], int],
        as_run: Callable[[Instruction], Instruction] = lambda instruction: instruction,
        rule_word: Callable[[Rule, str], int] = lambda rule, dtype: 0,
    ) -> None:
        self.program, self._kernel_address, self._step_word = program, kernel_address, step_word
        self._as_run, self._rule_word = as_run, rule_word
        self.itemsize = np.dtype(program.dtype).itemsize
        kinds = [buffer.kind for buffer in program.buffers]
        count = len(kinds)
        self._itemsizes = [8 if kind == "index" else self.itemsize for kind in kinds]
        #: The buffer that a slot's elements are in: of a gradient its dense matrix, or, n further on, the header.
        self._memories = [n + count * (kind == "gradient") for n, kind in enumerate(kinds)] + list(range(count)) + [2 * count]
        #: Of each buffer, its kind and the number of the first buffer in the same memory: what slots meet by.
        memories: dict[Buffer, int] = {}
        self._met_by = [(b.kind, -1 - memories.setdefault(b.table or b, n)) for n, b in enumerate(program.buffers)]
        self._kept: list[Array] = []  # literals and rules, to which instructions point
        self._forms: dict[tuple[Any, ...], list[int]] = {}
        self._steps: dict[tuple[Any, ...], _Steps] = {}
        self._words: list[int] = []
        #: The words that are addresses, and of what: of a slot, or of a buffer and the elements into it.
        self._places: list[int] = []
        self._slots: list[Sequence[Any]] = []

    def _relocate(self, buffer: int, offset: int) -> None:
        """Append an address: ``offset`` elements into a buffer, or bytes into the words themselves."""
        self._places.append(len(self._words))
        self._slots.append((buffer, offset))
        self._words.append(0)

    def _locate(self, slot: Slot) -> None:
        """Append the address of a slot."""
        self._relocate(slot.buffer, slot.offset)

    def _finish(self) -> None:
        """Make arrays of what has been encoded."""
        self.words = np.array(self._words, np.int64)
        self.places = np.array(self._places, np.intp)
        numbers = np.fromiter(map(_buffer_of, self._slots), np.intp, len(self._slots))
        offsets = np.fromiter(map(_offset_of, self._slots), np.int64, len(self._slots))
        self.buffers = np.array(self._memories, np.intp)[numbers]
        sizes = np.array([*self._itemsizes, *self._itemsizes, 1], np.int64)
        self.words[self.places] = offsets * sizes[numbers]

    def _encode(self, instructions: Iterable[Instruction]) -> None:
        """Instructions, each with its body."""
        words, forms = self._words, self._forms
        for instruction in map(self._as_run, instructions):
            begin = len(words)
            kernel, out, operands, attributes, accumulate, body = instruction
            slots: tuple[Slot, ...] = (out, *operands)
            # a chain is told by which it is: it has more to compare than there is to save
            what = id(attributes[0][1]) if kernel == "fused" else attributes
            key = kernel, what, accumulate, *map(_shape_of, slots)
            form = forms.get(key)
            if form is None:
                form = forms[key] = self._formed(instruction, slots)
            words += form
            self._places += range(begin + 4, begin + 4 + 4 * len(slots), 4)
            self._slots += slots
            if kernel in _HEADERS:
                for n in _HEADERS[kernel]:
                    self._slots[n - len(slots)] = slots[n].buffer + len(self._itemsizes), slots[n].offset
            if kernel == "fused" and out.shape == (1, 1):
                self._encode_single(attributes[0][1], slots)
                words[begin + 1] = len(words) - begin
            elif body:
                self._encode(body)
                words[begin + 1] = len(words) - begin

    def _formed(self, instruction: Instruction, slots: Sequence[Slot]) -> list[int]:
        """The words of an instruction without addresses: they are the same for all that differ in nothing else."""
        kernel = KERNELS[instruction.kernel]
        shapes = [(slot.shape, slot.stride) for slot in slots]
        if kernel.elementwise or kernel.name in ("copy", "row_dot", "fused"):
            widest = shapes[0] if kernel.name != "row_dot" else max(shapes[1:], key=lambda s: s[0])
            shapes = _broadcast(shapes, widest[0], flatten=kernel.name != "row_dot")
        elif kernel.name == "sum":
            shapes = _broadcast(shapes, shapes[1][0], flatten=False)
        address = self._kernel_address(instruction, self.program.dtype)
        words = [address, 0, int(instruction.accumulate), self._attribute(instruction)]
        for (rows, cols), stride in shapes:
            words += [0, rows, cols, stride]
        if kernel.name == "fused" and slots[0].shape != (1, 1):
            words += encode_chain(dict(instruction.attributes)["chain"])
        words[1] = len(words)
        return words

    def _encode_single(self, chain: Chain, slots: Sequence[Slot]) -> None:
        """The steps of a chain of one element, and memory for what they compute."""
        numbers: dict[object, int] = {}
        number = numbers.setdefault
        form: list[object] = [id(chain)]  # with it, which slots may meet
        for slot in slots:
            buffer = slot[0]
            kind, memory = self._met_by[buffer]
            form += [kind, number(buffer, len(numbers)), number(slot[:2], len(numbers)), number(memory, len(numbers))]
        key = tuple(form)
        steps = self._steps.get(key)
        if steps is None:
            steps = self._steps[key] = self._single(chain, slots)
        begin, own = len(self._words), 2 * len(self._itemsizes)
        self._words += steps.words
        self._places += map(begin.__add__, steps.places)
        self._slots += [slots[n] if is_slot else (own, 8 * (begin + n)) for is_slot, n in steps.targets]

    def _single(self, chain: Chain, slots: Sequence[Slot]) -> _Steps:
        steps = single_steps(chain, slots, self.program.buffers)
        memory = _STEP * len(steps)
        words, places, targets = [], [], []
        for step in steps:
            words.append(self._step_word(step.code, self.program.dtype))
            for place in (step.out, *step.operands, 0, 0, 0)[: _STEP - 1]:
                places.append(len(words))
                targets.append((True, slots.index(place)) if isinstance(place, Slot) else (False, memory + place))
                words.append(0)
        return _Steps(words + [0] * len(chain.steps), places, targets)

    def byte_offset(self, slot: Slot) -> int:
        """Where a slot begins in its buffer."""
        return slot.offset * self._itemsizes[slot.buffer]

    def _attribute(self, instruction: Instruction) -> int:
        if not instruction.attributes:
            return 0
        attributes = dict(instruction.attributes)
        if "rule" in attributes:
            return self._encode_rule(attributes["rule"])
        if instruction.kernel == "draw":
            return self._encode_draw(instruction)
        if "chain" in attributes:
            return 1 + len(instruction.operands)
        if "mean" in attributes:
            return int(attributes["mean"])
        return int(attributes.get("transpose_a", False)) + 2 * int(attributes.get("transpose_b", False))

    def _encode_rule(self, rule: Rule) -> int:
        literals = self._keep(np.array(rule.literals, self.program.dtype))
        per_row = sum(1 << n for n, state in enumerate(rule.states) if state.per == "row")
        words = [
            len(rule.states),
            len(rule.scalars),
            len(rule.literals),
            len(rule.steps),
            rule.registers,
            literals,
            per_row,
            int(rule.by_element),
            int(rule.catch_up is not None),
            self._rule_word(rule, self.program.dtype),
        ]
        words += rule.results
        for step in rule.steps:
            operands = (*step.operands, 0, 0)[:3]
            words += [OPCODES[step.kernel], step.out, *operands]
        return self._keep(np.array(words, np.int64))

    def _encode_draw(self, instruction: Instruction) -> int:
        options = dict(instruction.attributes)
        operands = 1 + len(instruction.operands)
        table = 3 if options["weighted"] else 0
        bag = 3 + options["weighted"] if options["excluding"] else 0
        until = operands - 1 if operands - 1 > max(2, table, bag) else 0
        return self._keep(np.array([options["rows"], options["tries"], operands, table, bag, until], np.int64))

    def _keep(self, values: Array) -> int:
        array = aligned(values.shape, values.dtype)
        array[...] = values
        self._kept.append(array)
        return address(array)


class Code(Encoder):
    """The instructions of a program, section after section.

    Attributes
    ----------
    ends
        Where each section begins, and the last one ends, in bytes.
    """

    def __init__(
        self,
        program: Program,
        kernel_address: Callable[[Instruction, str], int],
        step_word: Callable[[int, str], int],
        as_run: Callable[[Instruction], Instruction],
        rule_word: Callable[[Rule, str], int],
    ) -> None:
        super().__init__(program, kernel_address, step_word, as_run, rule_word)
        self.ends = [0]
        for instructions in (program.forward, program.backward, program.update):
            self._encode(instructions)
            self.ends.append(8 * len(self._words))
        self._finish()


def _broadcast(
    shapes: list[tuple[tuple[int, int], int]], full: tuple[int, int], flatten: bool
) -> list[tuple[tuple[int, int], int]]:
    """(shape, stride) of each operand as native kernels want them; see the module's docstring."""
    rows, cols = full
    if flatten and all(shape == (1, 1) or (shape == full and (stride == cols or rows == 1)) for shape, stride in shapes):
        return [(shape if shape == (1, 1) else (1, rows * cols), rows * cols) for shape, stride in shapes]
    return [(shape, 0 if shape[0] == 1 and rows != 1 else stride) for shape, stride in shapes]
