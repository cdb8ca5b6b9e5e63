"""Whether a program is sound: that it reads and writes nothing but what its buffers hold.

Backends run programs without looking at what they touch, so each program is looked at once, before anything runs:
:meth:`wyrm.backend.Backend.check` does so, and so does every :class:`wyrm.backend.Executable` that is made. What a kernel wants
of its operands stands in the kernel table; here is what programs say of buffers, inputs and gradients. Instructions that hold
others are opened in one place, :meth:`_Program.section`.

What depends on the arrays that a program is bound to is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from wyrm.kernels import KERNELS, Kernel, Role
from wyrm.program import Buffer, InputSlot, Instruction, ParameterSlot, Program, Slot
from wyrm.sound_parts import LARGEST, Look, are_pairs, attributes_of

__all__ = ["require_sound", "trusted"]

_SOUND: WeakSet[Program] = WeakSet()
#: Applications of kernels that are right whatever the program. Emptied if it is full.
_KNOWN: set[tuple[Any, ...]] = set()
_MOST_KNOWN = 10_000
#: The limit of an index that looks nothing up.
_NO_LIMIT = (1 << 63) - 1
#: In which buffers an operand of a role may be.
_KINDS: dict[Role, tuple[str, ...]] = {
    "real": ("real", "value", "state", "scalars", "row", "gradient"),
    "index": ("index",),
    "bag": ("bag",),
    "gradient": ("gradient",),
    "clock": ("clock",),
}


def require_sound(program: Program) -> None:
    """Refuse a program that is not sound; one that was found to be is not looked at again.

    Raises
    ------
    ProgramError
        Naming the instruction, the operand, what was expected and what came.
    """
    if program not in _SOUND:
        _Program(program).check()
        _SOUND.add(program)


def trusted(program: Program) -> Program:
    """A program that the frontend has made: it is sound by how it is made, which the tests look at, and calls do not.

    Whoever changes a program makes another one, which nobody trusts.
    """
    _SOUND.add(program)
    return program


class _Program(Look):
    """A program that is looked at."""

    def __init__(self, program: Program) -> None:
        self.program = program
        #: Of each buffer, its kind and its length.
        self.kinds: list[str] = []
        self.lengths: list[int] = []
        #: The slots that lie in their buffers, by their identity: what is equal may be of another type.
        self.slots: set[int] = set()
        #: Applications to gradients that are right.
        self.gradients: set[tuple[Any, ...]] = set()
        #: What numbers of the index buffer are below: begin, end, limit.
        self.limits: list[tuple[int, int, float]] = []
        self.exact: dict[tuple[int, int], float] = {}
        #: How many rows a pass adds to each gradient, and the bags whose indices it adds.
        self.rows: dict[int, int] = {}
        self.bags: dict[int, list[int]] = {}

    def check(self) -> None:
        program = self.program
        if type(program) is not Program:
            self.fail("a Program", program)
        for name in ("real_length", "index_length"):
            self.whole(getattr(program, name), name)
        if program.purpose not in ("interactive", "train", "accumulate", "evaluate", "update"):
            self.fail("a purpose", program.purpose)
        self.tuple_of(program.buffers, Buffer, "buffers")
        self.tuple_of(program.parameters, ParameterSlot, "parameters")
        self.tuple_of(program.inputs, InputSlot, "inputs")
        for number, parameter in enumerate(program.parameters):
            self.where = f"parameter {number}"
            self.parameter(parameter)
        if [b.kind for b in program.buffers[:2]] != ["real", "index"]:
            self.fail("the buffers real and index first", program.buffers[:2])
        for number, buffer in enumerate(program.buffers):
            self.where = f"buffer {number}"
            self.buffer(buffer, number)
            self.kinds.append(buffer.kind)
            self.lengths.append(self.length(buffer))
        for number, given in enumerate(program.inputs):
            self.where = f"input {number}"
            self.input(number, given)
        self.draws(program.forward)
        self.ordered()
        for number, buffer in enumerate(program.buffers):
            if buffer.kind == "row":
                self.where = f"buffer {number}"
                self.row(buffer)
        for title in ("forward", "backward", "update"):
            self.section(title, getattr(program, title))
        self.claims()
        self.ends()

    def parameter(self, parameter: ParameterSlot) -> None:
        self.shape(parameter.shape)
        self.whole(parameter.rows_per_pass, "rows_per_pass")
        if parameter.gradient not in (None, "dense", "rows"):
            self.fail("a gradient that is dense, rows or None", parameter.gradient)
        self.tuple_of(parameter.bags, int, "bags")
        for number in parameter.bags:
            if not 0 <= number < len(self.program.inputs) or self.program.inputs[number].kind != "bag":
                self.fail("bags that are inputs of bags", parameter.bags)

    def buffer(self, buffer: Buffer, number: int) -> None:
        program, kind = self.program, buffer.kind
        least = 0 if kind != "scalars" else -LARGEST
        self.whole(buffer.number, "a number", least)
        if type(kind) is not str or type(buffer.name) is not str or (buffer.table is not None and kind != "row"):
            self.fail("a kind and a name, and a table of a row alone", buffer)
        if number > 1 and kind not in ("bag", "value", "gradient", "state", "scalars", "clock", "row"):
            self.fail("a kind of buffer, real and index once", kind)
        if kind in ("value", "gradient", "state", "clock") and buffer.number >= len(program.parameters):
            self.fail(f"one of {len(program.parameters)} parameters", buffer)
        if kind in ("bag", "row"):
            wanted = "bag" if kind == "bag" else "index"
            if kind == "bag" and buffer.number >= len(program.inputs):
                return  # bags that nobody fills: there are none, as memory is new
            if buffer.number >= len(program.inputs) or program.inputs[buffer.number].kind != wanted:
                self.fail(f"the number of an input of kind {wanted!r}", buffer)
        if kind == "row":
            table = buffer.table
            if type(table) is not Buffer or table.kind not in ("value", "state") or table not in program.buffers:
                self.fail("the row of a value or state that is a buffer of the program", buffer)

    def input(self, number: int, given: InputSlot) -> None:
        self.slot(given.slot)
        kind = self.program.buffers[given.slot.buffer].kind
        if type(given.kind) is not str:
            self.fail("a kind that is a name", given.kind)
        if given.rule is not None:
            self.whole(given.rule, "the number of a rule")
        expected = {"dense": "real", "schedule": "real", "index": "index", "random": "index", "bag": "bag"}.get(given.kind)
        if kind != expected:
            self.fail(f"an input of kind {given.kind!r} in a buffer {expected!r}", kind)
        buffer, begin, shape, stride = given.slot
        if stride != shape[1] and shape[0] > 1:
            self.fail("an input without gaps", given.slot)
        self.whole(given.limit, "a limit") if given.limit != _NO_LIMIT else None
        if given.kind == "bag" and self.program.buffers[buffer].number != number:
            self.fail("the input's own buffer of bags", given.slot)
        if given.kind == "random" and shape != (3, 1):
            self.fail("a key of three words", shape)
        if given.kind in ("index", "random"):
            limit = given.limit if given.kind == "index" else float("inf")
            self.limits.append((begin, begin + shape[0] * shape[1], limit))

    def draws(self, instructions: Sequence[Instruction]) -> None:
        """Note what draws put into the index buffer, before anybody reads it."""
        for instruction in instructions if type(instructions) is tuple else ():
            if type(instruction) is Instruction and instruction.kernel == "draw":
                self.where = "draw"
                self.slot(instruction.out)
                _, begin, shape, _ = instruction.out
                rows = attributes_of(instruction).get("rows")
                self.limits.append((begin, begin + shape[0], max(1, self.whole(rows, "rows of a draw", 1))))

    def ordered(self) -> None:
        """Everything in the index buffer comes from one place."""
        self.where, end = "index buffer", 0
        self.limits.sort()
        for begin, stop, limit in self.limits:
            if begin < end:
                self.fail("indices that one input or draw fills", (begin, stop))
            end = max(end, stop)
            self.exact[begin, stop] = limit

    def limit(self, slot: Slot) -> float:
        """What the indices of a slot are below; those that nobody fills are 0, as new memory is."""
        begin = slot.offset
        stop = begin + slot.shape[0]
        if (begin, stop) in self.exact:
            return self.exact[begin, stop]
        return max([1.0, *(limit for first, last, limit in self.limits if first < stop and begin < last)])

    def row(self, buffer: Buffer) -> None:
        given, table = self.program.inputs[buffer.number], buffer.table
        assert table is not None
        rows = self.program.parameters[table.number].shape[0]
        if given.slot.shape != (1, 1) or given.limit > rows:
            self.fail(f"an input of one index below {rows}", given)

    def slot(self, slot: Slot) -> None:
        """A slot lies in its buffer."""
        if id(slot) in self.slots:
            return
        if type(slot) is not Slot:
            self.fail("a Slot", slot)
        number, offset, shape, stride = slot
        self.shape(shape)
        self.whole(offset, "an offset")
        self.whole(stride, "a stride")
        if self.whole(number, "a buffer") >= len(self.program.buffers):
            self.fail(f"one of {len(self.program.buffers)} buffers", slot)
        rows, cols = shape
        buffer = self.program.buffers[number]
        if buffer.kind == "bag":
            given = self.program.inputs[buffer.number : buffer.number + 1]
            if offset or (given and rows != given[0].slot.shape[0]):
                self.fail("all bags of the input", slot)
        elif buffer.kind == "clock":
            pass  # whatever its shape, it stands for the whole
        elif rows > 1 and stride < cols:
            self.fail("rows that do not overlap", slot)
        else:
            length = self.lengths[number]
            end = offset + (rows - 1) * stride + cols if rows and cols else 0
            if end > length:
                self.fail(f"a slot within the {length} elements of buffer {number} ({buffer.kind})", slot)
        if buffer.kind == "index" and rows > 1 and stride != 1:
            self.fail("indices one after the other", slot)
        self.slots.add(id(slot))

    def length(self, buffer: Buffer) -> int:
        """How many elements a buffer has at most; a rule's scalars and states are looked at where they are bound."""
        program = self.program
        if buffer.kind == "real":
            return program.real_length
        if buffer.kind == "index":
            return program.index_length
        if buffer.kind == "scalars":
            return LARGEST
        if buffer.kind == "bag":
            return 0
        rows, cols = program.parameters[(buffer.table or buffer).number].shape
        return cols if buffer.kind == "row" else rows * cols

    def section(self, title: str, instructions: object, times: int = 1) -> None:
        """Instructions, with those inside them, that are run so often."""
        if type(instructions) is not tuple:
            self.where = title
            self.fail("a tuple of instructions", instructions)
        for number, instruction in enumerate(instructions):
            self.where = title, number, ""
            if type(instruction) is not Instruction:
                self.fail("an Instruction", instruction)
            self.where = title, number, instruction.kernel
            self.instruction(instruction, title, times)
            if instruction.body:
                if instruction.kernel != "draw" or times > 1:
                    self.fail("no body", instruction.body)
                self.section(f"{title}, body of {number}", instruction.body, attributes_of(instruction).get("tries", 1) + 1)
            elif type(instruction.body) is not tuple:
                self.fail("a body that is a tuple", instruction.body)

    def instruction(self, instruction: Instruction, title: str, times: int) -> None:
        name, out, operands, attributes, accumulate, _ = instruction
        kernel = KERNELS.get(name) if type(name) is str else None
        if kernel is None:
            self.fail("a kernel of the kernel table", name)
        if type(operands) is not tuple or type(accumulate) is not bool:
            self.fail("operands as a tuple and accumulate as a bool", instruction)
        self.slot(out)
        known = self.slots
        for slot in operands:
            if id(slot) not in known:
                self.slot(slot)
        buffers, kinds_of = self.program.buffers, self.kinds
        kinds = (kinds_of[out.buffer], *[kinds_of[slot.buffer] for slot in operands])
        shapes = (out.shape, *[slot.shape for slot in operands])
        types = tuple([type(value) for _, value in attributes]) if attributes and are_pairs(attributes) else type(attributes)
        signature = name, kinds, shapes, attributes, types
        try:
            seen = signature in _KNOWN
        except TypeError:  # lists and the like
            self.fail("attributes that do not change", attributes)
        if not seen and "gradient" in kinds:  # of which parameters say more
            gradients = [slot for slot, kind in zip((out, *operands), kinds, strict=True) if kind == "gradient"]
            if (signature, *gradients) not in self.gradients:
                self.signature(kernel, instruction, kinds, shapes)
                self.gradients.add((signature, *gradients))
        elif not seen:
            self.signature(kernel, instruction, kinds, shapes)
            if len(_KNOWN) >= _MOST_KNOWN:
                _KNOWN.clear()
            _KNOWN.add(signature)
        if kernel.within is not None or name == "draw":
            self.numbers(kernel, instruction, shapes)
        if name == "draw" and title != "forward":
            self.fail("draws in the forward section, outside of bodies", title)
        if name in ("accumulate_rows", "accumulate_bag"):
            number = buffers[out.buffer].number
            if times > 1:
                self.fail("rows added to gradients once, outside of bodies", title)
            if name == "accumulate_rows":
                self.rows[number] = self.rows.get(number, 0) + operands[0].shape[0]
            elif (bag := buffers[operands[0].buffer].number) < len(self.program.inputs):
                self.bags.setdefault(number, []).append(bag)

    def signature(self, kernel: Kernel, instruction: Instruction, kinds: tuple[str, ...], shapes: tuple[Any, ...]) -> None:
        """The kernel may be applied to buffers of these kinds, to these shapes, with these attributes."""
        attributes = self.attributes(kernel, instruction)
        roles = self.roles(kernel, instruction, attributes)
        if len(roles) != len(kinds):
            self.fail(f"{len(roles) - 1} operands", len(kinds) - 1)
        for place, (role, kind) in enumerate(zip(roles, kinds, strict=True)):
            what = "the result" if not place else f"operand {place - 1}"
            if kind not in _KINDS[role]:
                self.fail(f"{what} in a buffer of kind {' or '.join(_KINDS[role])}", kind)
            if role == "index" and shapes[place][1] != 1:
                self.fail(f"{what} of one column", shapes[place])
            slot = instruction.operands[place - 1] if place else instruction.out
            parameter = self.program.parameters[self.program.buffers[slot.buffer].number] if kind == "gradient" else None
            if parameter is not None and role == "gradient" and (slot.offset or slot.shape != parameter.shape):
                self.fail(f"{what} as a whole gradient, {parameter.shape}", slot)
            if parameter is not None and role == "real" and parameter.gradient != "dense":
                self.fail(f"{what} as the gradient of a parameter whose gradient is dense", slot)
        try:
            right = kernel.shape is None or kernel.shape(*shapes[1:], **attributes) == shapes[0]
        except ValueError:
            right = False
        if not right or (kernel.fits is not None and not kernel.fits(*shapes, **attributes)):
            self.fail(f"shapes that fit {kernel.formula!r}", shapes)
        if instruction.kernel == "draw":
            self.draw(instruction, attributes, shapes)

    def numbers(self, kernel: Kernel, instruction: Instruction, shapes: tuple[Any, ...]) -> None:
        """Indices and bags name rows that there are."""
        attributes = attributes_of(instruction)
        if attributes.get("weighted"):
            table = instruction.operands[2]
            if self.kinds[table.buffer] != "value" or table.offset:
                self.fail("an alias table that is a parameter's value", table)
        most = attributes["rows"] if kernel.within is None else kernel.within(*shapes, **attributes)
        for slot in instruction.operands:
            buffer = self.program.buffers[slot.buffer]
            if buffer.kind == "bag":
                limit: float = max([given.limit for given in self.program.inputs[buffer.number : buffer.number + 1]], default=0)
            elif buffer.kind == "index" and kernel.name != "draw":
                limit = self.limit(slot)
            else:
                continue
            if limit > most and slot.shape[0]:
                self.fail(f"numbers below {most}, as an input's limit or a draw says", f"numbers below {limit}")

    def claims(self) -> None:
        """A pass adds no more rows to a gradient than the parameter says."""
        for number, parameter in enumerate(self.program.parameters):
            self.where = f"parameter {number}"
            rows, bags = self.rows.get(number, 0), self.bags.get(number, [])
            if (rows or bags) and parameter.gradient != "rows":
                self.fail("a gradient of rows, since rows are added", parameter)
            if rows > parameter.rows_per_pass or any(bags.count(n) > parameter.bags.count(n) for n in set(bags)):
                self.fail(f"rows_per_pass of {rows} and the bags {bags}", parameter)

    def ends(self) -> None:
        """Outputs, literals and the like are matrices of real numbers."""
        program = self.program
        self.where = "literals, outputs and values"
        if type(program.outputs) is not tuple or type(program.literals) is not tuple:
            self.fail("tuples", (program.outputs, program.literals))
        for literal in program.literals:
            if type(literal) is not tuple or len(literal) != 2 or type(literal[0]) not in (int, float):
                self.fail("a number and its slot", literal)
        read = [slot for slot in (program.skip, program.look) if slot is not None]
        written = [slot for _, slot in program.literals] + ([] if program.seed is None else [program.seed])
        for slot in (*read, *written, *program.outputs, *program.values.values()):
            self.slot(slot)
        for slot in (*read, *written):
            if slot.shape != (1, 1) or self.kinds[slot.buffer] not in (("real", "value") if slot in read else ("real",)):
                self.fail("one number in the buffer real; what is read may be a parameter's value", slot)
        for slot in program.outputs:
            if self.kinds[slot.buffer] not in ("real", "index", "value"):
                self.fail("outputs in the buffers real and index, or in a parameter's value", slot)
        if program.purpose in ("train", "accumulate") and (not program.outputs or 0 in program.outputs[0].shape):
            self.fail("a loss among the outputs", program.outputs)
