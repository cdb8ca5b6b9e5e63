"""Chains of elementwise steps as words for native code; the words are explained in :mod:`wyrm.native`."""

from __future__ import annotations

from collections.abc import Sequence

from wyrm.kernels import KERNELS
from wyrm.program import Buffer, Chain, Slot

__all__ = ["CHAIN_OPCODES", "OPCODES", "encode_chain", "single_steps"]

#: How the steps of rules are numbered: elementwise kernels in the order of the kernel table.
OPCODES = {name: number for number, name in enumerate(k.name for k in KERNELS.values() if k.elementwise)}
OPCODES["row_mean"] = len(OPCODES)
#: What chains have besides, numbered from there on.
CHAIN_OPCODES = {
    n: len(OPCODES) + i for i, n in enumerate(("multiply_add", "multiply_subtract", "copy", "store", "guard", "end"))
}
#: Buffers of a thread's own.
_OWN = ("real", "index")

#: Where something of a chain of one element is: at a slot, or what a step computes in the memory of that number.
Place = Slot | int


def encode_chain(chain: Chain) -> list[int]:
    """A chain of several elements."""
    words = [len(chain.results), len(chain.steps), *chain.results]
    for kernel, operands in chain.steps:
        words += [_opcode(kernel), *(*operands, 0, 0)[:3]]
    return words


def _opcode(kernel: str) -> int:
    return CHAIN_OPCODES[kernel] if kernel in CHAIN_OPCODES else OPCODES[kernel]


def single_steps(
    chain: Chain, slots: Sequence[Slot], buffers: Sequence[Buffer]
) -> list[tuple[int, Place, Place, Place, Place]]:
    """The steps of a chain of one element: a code, and the places of the result and of three operands.

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
        self.steps: list[tuple[int, Place, Place, Place, Place]] = []
        self.guarded = chain.guard is None  # whether the guard has been passed
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
        self._append("end", (0, 0, 0), False, 0, ())

    def _is_free(self, result: int, step: int) -> bool:
        """Whether a result may be stored as soon as its step has been made."""
        chain, target = self.chain, self.targets[result]
        guard = -1 if chain.guard is None else chain.guard - chain.operands
        if step <= guard and self.buffers[target.buffer].kind not in _OWN:
            return False
        read = {o for _, operands in chain.steps[step + 1 :] for o in operands} | set(chain.results)
        return not any(_may_meet(target, self.read[o], self.buffers) for o in read if o < chain.operands)

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
        a, b, c = (*kinds, 0, 0)[:3]
        places = [self.read[o] if o < self.chain.operands else self.homes[o - self.chain.operands] for o in operands]
        x, y, z = (*places, 0, 0, 0)[:3]
        self.steps.append(((27 * _opcode(kernel) + 9 * a + 3 * b + c) * 2 + stored, out, x, y, z))


def _may_meet(a: Slot, b: Slot, buffers: Sequence[Buffer]) -> bool:
    """Whether two slots may be the same memory."""
    if a.buffer == b.buffer:
        return a.offset == b.offset or buffers[a.buffer].kind == "row"
    first, second = (buffers[slot.buffer].table or buffers[slot.buffer] for slot in (a, b))
    return first == second
