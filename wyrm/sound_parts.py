"""What is looked at in a program beside its slots: plain numbers and shapes, draws, rules and chains.

:mod:`wyrm.sound` goes through the program. Everything fails by :meth:`Look.fail`, which says where.
"""

from __future__ import annotations

from typing import Any, NoReturn

from wyrm.errors import ProgramError
from wyrm.kernels import KERNELS, Kernel, Role
from wyrm.program import Chain, Instruction, Program, Rule

__all__ = ["LARGEST", "Look", "are_pairs", "attributes_of", "kernels_of"]

#: No number is larger: sizes are multiplied, and native code counts in 64 bits.
LARGEST = 1 << 40
#: The steps of a chain beside elementwise kernels, with how many operands they have.
_CHAIN_STEPS = {"multiply_add": 3, "multiply_subtract": 3, "copy": 1}

_REAL: Role = "real"
_BAG: Role = "bag"
_CLOCK: Role = "clock"


class Look:
    """Where a program is looked at, and what is looked for everywhere."""

    where: str | tuple[str, int, object] = "program"

    def fail(self, expected: str, came: object) -> NoReturn:
        """Say where something else was expected."""
        where = self.where if isinstance(self.where, str) else "{}, instruction {} ({!r:.40})".format(*self.where)
        raise ProgramError(f"{where}: expected {expected}, got {came!r:.200}")

    def whole(self, number: object, what: str, least: int = 0) -> int:
        """A whole number that is neither small nor large."""
        if type(number) is not int or not least <= number <= LARGEST:
            self.fail(f"{what}, a whole number from {least} to 2 ** 40", number)
        return number

    def tuple_of(self, values: object, kind: type, what: str) -> None:
        """A tuple of one type, which does not change."""
        if type(values) is not tuple or any(type(value) is not kind for value in values):
            self.fail(f"{what} as a tuple of {kind.__name__}", values)

    def shape(self, shape: object) -> None:
        """Rows and columns."""
        if type(shape) is not tuple or len(shape) != 2:
            self.fail("a shape of rows and columns", shape)
        rows, cols = shape
        if type(rows) is not int or type(cols) is not int or not (0 <= rows <= LARGEST and 0 <= cols <= LARGEST):
            self.fail("a shape of whole numbers up to 2 ** 40", shape)
        if rows * cols > LARGEST:
            self.fail("at most 2 ** 40 elements", shape)

    def attributes(self, kernel: Kernel, instruction: Instruction) -> dict[str, Any]:
        """Those of an instruction, which the kernel knows."""
        pairs = instruction.attributes
        if not are_pairs(pairs):
            self.fail("attributes as a tuple of pairs", pairs)
        attributes = dict(pairs)
        for key, value in attributes.items():
            kind = kernel.attributes.get(key)
            if kind is None or (kind is not object and type(value) is not kind):
                self.fail(f"attributes of {dict(kernel.attributes)}", (key, value))
        if len(pairs) != len(kernel.attributes) or len(attributes) != len(pairs):
            self.fail(f"the attributes {list(kernel.attributes)}, each once", pairs)
        return attributes

    def roles(self, kernel: Kernel, instruction: Instruction, attributes: dict[str, Any]) -> list[Role]:
        """What result and operands have to be."""
        roles: list[Role] = [kernel.result, *kernel.roles]
        named = len(kernel.roles) + attributes.get("weighted", 0) + attributes.get("excluding", 0)
        one_more = len(instruction.operands) - named
        if kernel.name == "draw":
            roles += [_REAL] * attributes["weighted"] + [_BAG] * attributes["excluding"] + [_REAL] * (one_more == 1)
        elif kernel.name == "square_sum":
            roles += [_REAL] * (one_more == 1)
        elif "rule" in attributes:
            rule = attributes["rule"]
            self.rule(rule, instruction, len(kernel.roles))
            roles += [_REAL] * (len(rule.states) + 1) + [_CLOCK] * (rule.catch_up is not None)
        elif "chain" in attributes:
            self.chain(attributes["chain"], instruction)
            roles += [_REAL] * len(instruction.operands)
        return roles

    def draw(self, instruction: Instruction, attributes: dict[str, Any], shapes: tuple[Any, ...]) -> None:
        """What stands beside the numbers drawn fits."""
        rows, tries = attributes["rows"], self.whole(attributes["tries"], "tries", 1)
        beside = list(shapes[3:])
        if attributes["weighted"] and beside.pop(0) != (rows, 1):
            self.fail(f"an alias table of shape {(rows, 1)}", shapes[3])
        if attributes["excluding"] and beside.pop(0)[0] not in (1, shapes[0][0]):
            self.fail("one excluded bag, or one for each number", shapes)
        if beside and (beside != [(1, 1)] or shapes[0] != (1, 1)):
            self.fail("one number drawn, until one number is positive", shapes)
        if not beside and (tries != 1 or instruction.body):
            self.fail("tries=1 and no body where nothing ends the draws", instruction.attributes)

    def rule(self, rule: Any, instruction: Instruction, first: int) -> None:
        """A rule's registers are there, and so are its states and scalars."""
        if type(rule) is not Rule or any(
            type(getattr(rule, n)) is not tuple for n in ("states", "scalars", "literals", "steps")
        ):
            self.fail("a Rule made of tuples", rule)
        rows, cols = instruction.out.shape
        operands = instruction.operands[first:]
        count = len(rule.states)
        if len(operands) != count + 1 + (rule.catch_up is not None):
            self.fail(f"{count} states, scalars{', a clock' * (rule.catch_up is not None)}", operands)
        for state, slot in zip(rule.states, operands, strict=False):
            if slot.shape != (rows, cols if state.per == "element" else 1):
                self.fail(f"a state {state.name!r} for each {state.per}", slot)
        if operands[count].shape != (1, len(rule.scalars)):
            self.fail(f"scalars of shape {(1, len(rule.scalars))}", operands[count])
        begin = 2 + count + len(rule.scalars) + len(rule.literals)
        for number, step in enumerate(rule.steps):
            wanted = 1 if step.kernel == "row_mean" else _operands(step.kernel)
            if step.out != begin + number or not self.registers(step.operands, begin + number) or len(step.operands) != wanted:
                self.fail("a step of an elementwise kernel or row_mean, over registers before it", step)
        if not self.registers(rule.results, rule.registers) or len(rule.results) != 1 + count:
            self.fail(f"{1 + count} results that are registers", rule.results)
        if (catch := rule.catch_up) is not None:
            for place, most in zip(catch, (len(rule.scalars),) * 3 + (count,), strict=True):
                if place is not None and not self.registers((place,), most):
                    self.fail("a catch_up that names scalars and a state", catch)

    def chain(self, chain: Any, instruction: Instruction) -> None:
        """A chain's registers are there, and the operands fit."""
        if type(chain) is not Chain or type(chain.steps) is not tuple:
            self.fail("a Chain made of tuples", chain)
        stored = len(chain.results) - 1 if type(chain.results) is tuple else -1
        if stored < 0 or len(instruction.operands) != stored + self.whole(chain.operands, "operands of a chain"):
            self.fail("an operand for each further result and each that is read", instruction.operands)
        for number, (kernel, operands) in enumerate(chain.steps):
            wanted = _CHAIN_STEPS.get(kernel) or _operands(kernel)
            if not self.registers(operands, chain.operands + number) or len(operands) != wanted:
                self.fail("a step of an elementwise kernel over registers before it", (kernel, operands))
        last = chain.operands + len(chain.steps)
        if not self.registers(chain.results, last) or (chain.guard is not None and not self.registers((chain.guard,), last)):
            self.fail("results and a guard that are registers", chain)
        rows, cols = instruction.out.shape
        for number, slot in enumerate(instruction.operands):
            a, b = slot.shape
            if (a, b) != (rows, cols) and (number < stored or a not in (1, rows) or b not in (1, cols)):
                self.fail(f"operands that fit {(rows, cols)}", slot)

    def registers(self, numbers: object, count: int) -> bool:
        """Whether these are numbers of registers, of so many."""
        return type(numbers) is tuple and all(type(n) is int and 0 <= n < count for n in numbers)


def kernels_of(program: Program) -> list[str]:
    """The kernels that a program names, each once.

    Raises
    ------
    ProgramError
        If it does not consist of instructions.
    """
    look = Look()
    names: dict[str, None] = {}
    if type(program) is not Program or type(program.dtype) is not str:
        look.fail("a Program with the name of a dtype", program)
    sections = [program.forward, program.backward, program.update]
    for section in sections:  # which grows by bodies
        look.tuple_of(section, Instruction, "instructions")
        for instruction in section:
            if type(instruction.kernel) is not str:
                look.fail("the name of a kernel", instruction.kernel)
            names[instruction.kernel] = None
            if instruction.body:
                sections.append(instruction.body)
    return list(names)


def attributes_of(instruction: Instruction) -> dict[str, Any]:
    """Those of an instruction; none if they are no pairs."""
    return dict(instruction.attributes) if are_pairs(instruction.attributes) else {}


def are_pairs(pairs: object) -> bool:
    """Whether these are pairs of a name and a value."""
    return type(pairs) is tuple and all(type(p) is tuple and len(p) == 2 and type(p[0]) is str for p in pairs)


def _operands(kernel: object) -> int:
    """How many operands an elementwise kernel has; -1: it is none."""
    known = KERNELS.get(kernel) if isinstance(kernel, str) else None
    return len(known.operands) if known is not None and known.elementwise else -1
