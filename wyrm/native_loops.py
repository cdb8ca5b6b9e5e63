"""Loops: a whole run of a training program as steps of one chain, which native code goes through for example after example.

A backend that has an interpreter of them gets, beside the instructions, ``[address of the interpreter]`` and then the steps.
Single numbers and rows that are looked up are at hand for :data:`RING` examples at a time: each input of the kind has a *ring*
of so many numbers, or addresses of rows, of which that of the example is taken.

The steps are those of chains of one element (:mod:`wyrm.native`), where results are at hand across what were several
instructions, and an operand may be of a fourth kind, 3: the example's number in the ring at its address. Besides, by
:data:`wyrm.native_chains.CHAIN_OPCODES`:

- ``row_dot``: ``[code, address of the result, ring of a, ring of b, length of the rows]``; the result counts as that of a step.
- ``add_rows_k``, ``subtract_rows_k``: ``[code, length of the rows, s, 0, 0]`` and ``[ring of z, ring of x]`` twice, the second
  only for two rows, and a word more: z + s x or z - s x takes the place of z; all are computed before any is stored.
- ``begin``: what stands before is done once, what stands behind for each example.
- ``guard``: a is the loss; ``guard_product``: the product of a and b is. Where it is NaN or infinite, the run ends before it
  changes anything.
- ``claim``: the claims are made, and the run ends where one fails.
- ``call``: ``[code, 0, 0, 0, 0]`` and then an instruction, to be called.
- ``uses``: what the uses say is put where it belongs.
- ``next``: everything is done.

A *loop input* is ``[address of the input's slot, address of row 0 or 0, row stride in bytes, address of the ring]``: for a
table, the ring has the addresses of rows. A *use* is ``[address of a ring, where in the instructions or in memory what is in it
belongs, whether it is a number, what is to be added to an address]``; instructions that are called find their operands so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wyrm.kernels import KERNELS
from wyrm.native_chains import Item, Place, RowStep, Step, are_sums, may_meet, single_steps
from wyrm.native_code import Encoder
from wyrm.native_products import Products, read_numbers
from wyrm.program import Chain, Instruction, Program, Slot

__all__ = ["RING", "Loop", "LoopInput", "LoopUse"]

#: The places of a ring, each of eight bytes.
RING = 64
#: The most rows that one step changes.
_MOST_ROWS = 2
_NUMBER = (1, 1)


class LoopInput(NamedTuple):
    """An input with a ring, which begins at a word: of the rows of a ``row`` buffer, from some bytes on, or of its values."""

    number: int
    ring: int
    buffer: int | None = None
    offset: int = 0


class LoopUse(NamedTuple):
    """What goes from a ring to a word, or, where that is ``None``, to the slot of input ``number``."""

    ring: int
    word: int | None
    number: int = 0


class Loop(Encoder):
    """The loop of a program.

    Attributes
    ----------
    begin
        Where the word with the interpreter's address is, in bytes; memory for rings and for what steps compute comes before.
    inputs, uses
        What has a ring, and what instructions that are called read.
    """

    def __init__(
        self,
        program: Program,
        kernel_address: Callable[[Instruction, str], int],
        step_word: Callable[[int, str], int],
        interpreter: int,
    ) -> None:
        super().__init__(program, kernel_address, step_word)
        self.inputs: list[LoopInput] = []
        self.uses: list[LoopUse] = []
        self._numbers = 0  # of results that have no slot
        self._rings: dict[tuple[int, int], int] = {}  # by buffer and offset
        products = Products(program, self._items(), self._numbers)
        items: list[Item] = products.items
        self._words += [0] * products.numbers
        called = [slot for item in items if isinstance(item, Instruction) for slot in _all_slots(item)]
        rows = [slot for item in items if isinstance(item, RowStep) for slot in item.rows]
        self._make_rings(rows, called)
        items = self._without_stores(self._joined(self._with_guards(items, called + rows)), called + rows)
        if called or any(self._is_looked_up(item) for item in items):
            items.insert(0, _step("uses"))
        self.begin = 8 * len(self._words)
        self._words.append(interpreter)
        for item in (*products.once, _step("begin"), *items):
            self._encode_item(item)
        self._finish()
        for place, buffer in zip(self.places.tolist(), self.buffers.tolist(), strict=True):
            if buffer < len(program.buffers) and program.buffers[buffer].kind == "row":
                self.uses.append(LoopUse(self._rings[buffer, 0], place))

    # -- what is done in a run

    def _items(self) -> list[Item]:
        program = self.program
        before = [item for i in program.forward for item in self._items_of(i)]
        after = [item for i in program.backward + program.update for item in self._items_of(i)]
        guarded = any(isinstance(item, Step) and item.kernel == "guard" for item in before)
        loss = _as_number(program.outputs[0])
        if not guarded:
            place = max(
                (n + 1 for n, item in enumerate(before) if isinstance(item, Step) and item.out == loss), default=len(before)
            )
            before.insert(place, Step("guard", (0,), False, 0, (loss,)))
        claims = any(use.gradient is not None for use in program.parameters)
        return [*before, *([_step("claim")] if claims else []), *after, _step("next")]

    def _items_of(self, instruction: Instruction) -> Sequence[Item]:
        """An instruction as steps, or as it is."""
        slots = (instruction.out, *instruction.operands)
        chain = dict(instruction.attributes).get("chain")
        if instruction.kernel == "row_dot":
            return [_product(instruction)]
        if chain is not None and slots[0].shape != _NUMBER:
            return [_changed_rows(instruction, chain)]
        if chain is None and KERNELS[instruction.kernel].elementwise and not instruction.accumulate:
            count = len(instruction.operands)
            chain = Chain(count, ((instruction.kernel, tuple(range(count))),), (count,))
        if chain is None or any(slot.shape != _NUMBER for slot in slots):
            return [instruction]
        begin, self._numbers = self._numbers, self._numbers + len(chain.steps)

        def moved(place: Place) -> Place:
            return place + begin if isinstance(place, int) else place

        return [
            Step(step.kernel, (0,) * len(step.kinds), step.has_result, moved(step.out), tuple(map(moved, step.operands)))
            for step in single_steps(chain, [_as_number(slot) for slot in slots], self.program.buffers)
            if step.kernel != "end"
        ]

    def _is_looked_up(self, item: Item) -> bool:
        """Whether a step on numbers reads or changes one in a row that is looked up."""
        slots = [] if not isinstance(item, Step) else [slot for slot in (item.out, *item.operands) if isinstance(slot, Slot)]
        return any(self.program.buffers[slot.buffer].kind == "row" for slot in slots)

    def _joined(self, items: list[Item]) -> list[Item]:
        """Steps that take from the two before them what is still at hand, and from rings what is there."""
        numbers = {source.slot for source in self.program.inputs if _place(source.slot) in self._rings}
        numbers = {_as_number(slot) for slot in numbers}
        held: tuple[Place | None, Place | None] = None, None

        def kind(place: Place) -> int:
            return held.index(place) + 1 if place in held else 3 if place in numbers else 0

        joined: list[Item] = []
        for item in items:
            if isinstance(item, Instruction):
                held = None, None
                joined.append(item)
                continue
            step = item.step if isinstance(item, RowStep) else item
            step = step._replace(kinds=tuple(map(kind, step.operands)))
            if isinstance(item, RowStep) and not step.has_result:
                held = None, None  # rows may be what a number is in
            elif step.stored or step.kernel == "store":
                held = self._unchanged(held[0], step.out), self._unchanged(held[1], step.out)
            if step.has_result:
                held = step.out, held[0]
            joined.append(item._replace(step=step) if isinstance(item, RowStep) else step)
        return joined

    def _unchanged(self, place: Place | None, changed: Place) -> Place | None:
        """A place that still has the same number when another has been changed."""
        if isinstance(place, Slot) and isinstance(changed, Slot):
            return None if may_meet(place, changed, self.program.buffers) else place
        return None if place == changed else place

    def _with_guards(self, items: list[Item], called: list[Slot]) -> list[Item]:
        """A product and the guard behind it, such as that of a squared error, as one step where nothing else reads it."""
        reads = Counter(place for item in items for place in read_numbers(item))
        joined: list[Item] = []
        for item in items:
            before = joined[-1] if joined else None
            if isinstance(item, Step) and item.kernel == "guard" and isinstance(before, Step) and before.kernel == "multiply":
                place = item.operands[0]
                if before.out == place and reads[place] == 1 and not self._is_seen(place, called):
                    joined[-1] = before._replace(kernel="guard_product", stored=False)
                    continue
            joined.append(item)
        return joined

    def _is_seen(self, place: Place, called: list[Slot]) -> bool:
        """Whether a number outlives the run, or rows or what is called may hold it."""
        if not isinstance(place, Slot):
            return False
        ends = ((s.offset, s.offset + (s.shape[0] - 1) * s.stride + s.shape[1]) for s in called if s.buffer == 0)
        return place.buffer != 0 or any(begin <= place.offset < end for begin, end in ends)

    def _without_stores(self, items: list[Item], called: list[Slot]) -> list[Item]:
        """Steps whose results are not stored where nobody reads them there."""
        read: set[Place] = set()
        for item in items:
            if not isinstance(item, Instruction):
                step = item.step if isinstance(item, RowStep) else item
                read.update(place for place, kind in zip(step.operands, step.kinds, strict=True) if kind in (0, 3))

        def trimmed(step: Step) -> Step:
            wanted = step.out in read or self._is_seen(step.out, called)
            return step._replace(stored=step.stored and wanted)

        return [
            item
            if isinstance(item, Instruction)
            else item._replace(step=trimmed(item.step))
            if isinstance(item, RowStep)
            else trimmed(item)
            for item in items
        ]

    # -- rings

    def _make_rings(self, rows: list[Slot], called: list[Slot]) -> None:
        """Make the rings, and note what calls read."""
        program = self.program
        looked_up = [Slot(n, 0, _NUMBER, 1) for n, buffer in enumerate(program.buffers) if buffer.kind == "row"]
        for slot in looked_up + rows:
            if _place(slot) in self._rings:
                continue
            buffer = program.buffers[slot.buffer]
            self._rings[_place(slot)] = ring = len(self._words)
            if buffer.kind == "row":
                self._words += [0] * RING
                self.inputs.append(LoopInput(buffer.number, ring, slot.buffer, self.byte_offset(slot)))
            else:
                for _ in range(RING):
                    self._locate(slot)
        places = {_place(slot) for slot in called}
        for n, source in enumerate(program.inputs):
            place, is_index = _place(source.slot), source.kind == "index"
            if source.slot.shape != _NUMBER or source.kind not in ("dense", "schedule", "index"):
                continue
            if not is_index or place in places:
                self._rings[place] = ring = len(self._words)
                self._words += [0] * RING
                self.inputs.append(LoopInput(n, ring))
                if place in places:
                    self.uses.append(LoopUse(ring, None, n))

    # -- words

    def _encode_item(self, item: Item) -> None:
        if isinstance(item, Step):
            self._encode_number_step(item)
        elif isinstance(item, Instruction):
            self._encode_number_step(_step("call"))
            self._encode([item])
        elif item.step.kernel == "row_dot":
            self._code(item.step)
            self._operand(item.step.out, 0)
            self._ring(item.rows[0])
            self._ring(item.rows[1])
            self._words.append(item.rows[0].shape[1])
        else:
            self._code(item.step)
            self._words.append(item.rows[0].shape[1])
            self._operand(item.step.operands[0], item.step.kinds[0])
            self._words += [0, 0]
            for slot in item.rows:
                self._ring(slot)
            self._words += [0] * (5 - len(item.rows))

    def _encode_number_step(self, step: Step) -> None:
        self._code(step)
        self._operand(step.out, 0)
        for place, kind in zip(step.operands, step.kinds, strict=True):
            self._operand(place, kind)
        self._words += [0] * (3 - len(step.operands))

    def _code(self, step: Step) -> None:
        self._words.append(self._step_word(step.code, self.program.dtype))

    def _operand(self, place: Place, kind: int) -> None:
        if isinstance(place, int):
            self._relocate(2 * len(self.program.buffers), 8 * place)
        elif kind == 3:
            self._ring(place)
        else:
            self._locate(place)

    def _ring(self, slot: Slot) -> None:
        self._relocate(2 * len(self.program.buffers), 8 * self._rings[_place(slot)])


def _step(kernel: str) -> Step:
    return Step(kernel, (), False, 0, ())


def _place(slot: Slot) -> tuple[int, int]:
    return slot.buffer, slot.offset


def _as_number(slot: Slot) -> Slot:
    """A slot of one element, the same for all that stand there."""
    return Slot(slot.buffer, slot.offset, _NUMBER, 1)


def _all_slots(instruction: Instruction) -> list[Slot]:
    """The slots of an instruction and of its body."""
    return [instruction.out, *instruction.operands, *(slot for i in instruction.body for slot in _all_slots(i))]


def _product(instruction: Instruction) -> RowStep | Instruction:
    """The product of two rows of one length as a step."""
    a, b = instruction.operands
    if instruction.accumulate or a.shape != b.shape or a.shape[0] != 1 or a.shape[1] == 1:
        return instruction
    return RowStep(Step("row_dot", (), True, _as_number(instruction.out), ()), (a, b))


def _changed_rows(instruction: Instruction, chain: Chain) -> RowStep | Instruction:
    """A chain that adds multiples of rows, all by one number, to other rows where they stand, as a step."""
    results = len(chain.results)
    slots = (instruction.out, *instruction.operands)
    kernels = {(kernel, operands[0]) for kernel, operands in chain.steps}
    if slots[0].shape[0] != 1 or results > _MOST_ROWS or len(kernels) > 1 or not are_sums(instruction):
        return instruction
    if chain.steps[0][0] == "multiply":  # which adds nothing
        return instruction
    rows = []
    for target, (_, (_, x, z)) in zip(slots, chain.steps, strict=False):
        if slots[results + z] != target:
            return instruction
        rows += [target, slots[results + x]]
    kernel, number = kernels.pop()
    name = f"{'add' if kernel == 'multiply_add' else 'subtract'}_rows_{results}"
    return RowStep(Step(name, (0,), False, 0, (_as_number(slots[results + number]),)), tuple(rows))
