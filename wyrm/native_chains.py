"""Chains of elementwise steps as words for native code; the words are explained in :mod:`wyrm.native`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wyrm.kernels import KERNELS
from wyrm.program import Buffer, Chain, Instruction, Slot

__all__ = [
    "CHAIN_OPCODES",
    "FORMS",
    "MOST_SUMS",
    "OPCODES",
    "Item",
    "Place",
    "RowStep",
    "Step",
    "are_sums",
    "encode_chain",
    "may_meet",
    "single_steps",
]

#: How the steps of rules are numbered: elementwise kernels in the order of the kernel table.
OPCODES = {name: number for number, name in enumerate(k.name for k in KERNELS.values() if k.elementwise)}
OPCODES["row_mean"] = len(OPCODES)
#: The most sums that count as :func:`are_sums`.
MOST_SUMS = 4
#: What chains have besides, and then what loops have (:mod:`wyrm.native_loops`), numbered from there on.
_BESIDE: tuple[str, ...] = (
    "multiply_add",
    "multiply_subtract",
    "copy",
    "store",
    "guard",
    "end",
    "next",
    "uses",
    "claim",
    "call",
    "row_dot",
)
_BESIDE += ("add_rows_1", "add_rows_2", "subtract_rows_1", "subtract_rows_2", "begin", "guard_product")
CHAIN_OPCODES = {name: len(OPCODES) + n for n, name in enumerate(_BESIDE)}
#: How many codes of steps an opcode has: for each place of three operands, and for whether the result is stored.
FORMS = 2 * 4**3
#: Of these, what has no result that later steps may take as the last one.
_NO_RESULT = frozenset(CHAIN_OPCODES) - {"multiply_add", "multiply_subtract", "copy", "row_dot"}
#: Buffers of a thread's own.
_OWN = ("real", "index")

#: Where something of a chain of one element is: at a slot, or what a step computes in the memory of that number.
Place = Slot | int


class Step(NamedTuple):
    """A step of a chain of one element.

    Attributes
    ----------
    kinds
        Where each operand is: 0 at its place, 1 it is the result of the step before, 2 of the one before that, 3 in a ring.
    stored
        Whether the result is wanted at its place.
    """

    kernel: str
    kinds: tuple[int, ...]
    stored: bool
    out: Place
    operands: tuple[Place, ...]

    @property
    def code(self) -> int:
        """The word for it."""
        a, b, c = (*self.kinds, 0, 0, 0)[:3]
        return FORMS * _opcode(self.kernel) + (16 * a + 4 * b + c) * 2 + self.stored

    @property
    def has_result(self) -> bool:
        """Whether it counts as a step before others."""
        return self.kernel not in _NO_RESULT


class RowStep(NamedTuple):
    """A step of a loop on rows of one length: with its number, and the rows in the order in which they are encoded."""

    step: Step
    rows: tuple[Slot, ...]


#: What a loop is made of.
Item = Step | RowStep | Instruction


def encode_chain(chain: Chain) -> list[int]:
    """A chain of several elements."""
    words = [len(chain.results), len(chain.steps), *chain.results]
    for kernel, operands in chain.steps:
        words += [_opcode(kernel), *(*operands, 0, 0)[:3]]
    return words


def _opcode(kernel: str) -> int:
    return CHAIN_OPCODES[kernel] if kernel in CHAIN_OPCODES else OPCODES[kernel]


def are_sums(instruction: Instruction) -> bool:
    """Whether a chain makes a few sums z + s x, z - s x, or products s x, of what is read, s a number, and nothing else."""
    chain: Chain = dict(instruction.attributes)["chain"]
    first = len(chain.results)
    read = [slot.shape for slot in (instruction.out, *instruction.operands)][first:]
    if chain.results != tuple(range(chain.operands, chain.operands + len(chain.steps))) or len(chain.steps) > MOST_SUMS:
        return False
    shape = instruction.out.shape
    return all(
        kernel in ("multiply", "multiply_add", "multiply_subtract")
        and max(operands) < chain.operands
        and [read[o] for o in operands] == [(1, 1), shape, shape][: len(operands)]
        for kernel, operands in chain.steps
    )


def single_steps(chain: Chain, slots: Sequence[Slot], buffers: Sequence[Buffer]) -> list[Step]:
    """The steps of a chain of one element.

    A result goes straight to its slot where no later step reads what is there. With a guard, parameters are changed behind it.

    Parameters
    ----------
    chain
        The chain.
    slots
        Its results, then what it reads.
    buffers
        Of the program.
    """
    return _Single(chain, slots, buffers).steps


class _Single:
    def __init__(self, chain: Chain, slots: Sequence[Slot], buffers: Sequence[Buffer]) -> None:
        self.chain, self.buffers = chain, buffers
        self.targets, self.read = slots[: len(chain.results)], slots[len(chain.results) :]
        self.steps: list[Step] = []
        first = chain.operands
        #: Where each step's result goes at once, and which results have to be stored in the end.
        self.homes: list[Place] = list(range(len(chain.steps)))
        later: list[int] = []
        for n, register in enumerate(chain.results):
            step = register - first
            if step >= 0 and self.homes[step] == step and self._is_free(n, step):
                self.homes[step] = self.targets[n]
            else:
                later.append(n)
        for step in range(len(chain.steps)):
            self._step(step)
            if chain.guard == first + step:
                self._other("guard", chain.guard, step)
        for n in later:
            self._other("store", chain.results[n], len(chain.steps) - 1, self.targets[n])
        self._append("end", (), False, 0, ())

    def _is_free(self, result: int, step: int) -> bool:
        """Whether a result may be stored as soon as its step has been made."""
        chain, target = self.chain, self.targets[result]
        guard = -1 if chain.guard is None else chain.guard - chain.operands
        if step <= guard and self.buffers[target.buffer].kind not in _OWN:
            return False
        read = {o for _, operands in chain.steps[step + 1 :] for o in operands} | set(chain.results)
        return not any(may_meet(target, self.read[o], self.buffers) for o in read if o < chain.operands)

    def _step(self, step: int) -> None:
        chain = self.chain
        kernel, operands = chain.steps[step]
        register = chain.operands + step
        stored = register in chain.results or any(register in later for _, later in chain.steps[step + 3 :])
        self._append(kernel, tuple(self._kind(o, step) for o in operands), stored, self.homes[step], operands)

    def _other(self, kernel: str, register: int, step: int, target: Place = 0) -> None:
        """What is no step itself, after a step."""
        self._append(kernel, (self._kind(register, step + 1),), False, target, (register,))

    def _kind(self, register: int, step: int) -> int:
        distance = self.chain.operands + step - register
        return distance if distance in (1, 2) and register >= self.chain.operands else 0

    def _append(self, kernel: str, kinds: tuple[int, ...], stored: bool, out: Place, operands: Sequence[int]) -> None:
        places = (self.read[o] if o < self.chain.operands else self.homes[o - self.chain.operands] for o in operands)
        self.steps.append(Step(kernel, kinds, stored, out, tuple(places)))


def may_meet(a: Slot, b: Slot, buffers: Sequence[Buffer]) -> bool:
    """Whether two slots may be the same memory."""
    if a.buffer == b.buffer:
        return a.offset == b.offset or buffers[a.buffer].kind == "row"
    first, second = (buffers[slot.buffer].table or buffers[slot.buffer] for slot in (a, b))
    return first == second
