"""Elementwise calls of one shape as chains: one instruction, whose intermediate results never leave the processor.

In a training step the calls of the forward pass, of the backward pass and of the updates are fused together where what lies
between them allows it: a step of linear regression is one instruction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

from wyrm.frontend.lowering.pieces import fused_alike
from wyrm.frontend.lowering.rewrite import rewritten
from wyrm.frontend.lowering.schedule import changes_parameters, groups
from wyrm.frontend.lowering.value import Value
from wyrm.program import Chain

__all__ = ["LONGEST", "fused", "fused_between_draws", "fused_step"]

#: How many calls a chain may be made of. Backends have room for so many steps, and four times as many operands and results.
LONGEST = 24


def fused(values: Sequence[Value], needed: Collection[Value]) -> list[Value]:
    """A section with its elementwise calls fused; ``needed`` are the values that are read after it."""
    readers = _readers(values)
    return [_call(group, readers, needed, None) for group in _cut(groups(values, None, False))]


def fused_between_draws(values: Sequence[Value], needed: Collection[Value]) -> list[Value]:
    """As :func:`fused`, of a section with draws that are repeated: these and their bodies stay as they are."""
    pieces: list[list[Value]] = [[]]
    homes: dict[Value, int] = {}
    repeated: set[Value] = set()
    read = set(needed)  # after the piece that computes it
    for value in values:
        if value in repeated or value.kernel == "draw":
            repeated.update(value.body)
            pieces += [[value], []]
            home = len(pieces) - 2
        else:
            pieces[-1].append(value)
            home = len(pieces) - 1
        homes[value] = home
        for operand in value.read:
            if homes.get(operand) != home:
                read.add(operand)
    calls: list[Value] = []
    for piece in pieces:
        calls += fused_alike(piece, read, fused) if len(piece) > 1 else piece
    return calls


def fused_step(values: Sequence[Value], roots: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """A training step: all calls up to the one that computes the loss, the first root, and those that follow."""
    needed = {root.viewed or root for root in roots}
    loss = roots[0].viewed or roots[0]
    values = rewritten(values, needed)
    readers = _readers(values)
    guarded = loss is roots[0] and not any(value.kernel in ("accumulate_rows", "accumulate_bag") for value in values)
    ordered = _cut(groups(values, loss, guarded))
    calls = [_call(group, readers, needed, loss) for group in ordered]
    known = next((n + 1 for n, group in enumerate(ordered) if loss in group), 0)
    return calls[:known], calls[known:]


def _cut(ordered: Sequence[list[Value]]) -> list[list[Value]]:
    """The groups, the long ones in parts."""
    return [group[n : n + LONGEST] for group in ordered for n in range(0, len(group), LONGEST)]


def _readers(values: Sequence[Value]) -> dict[Value, list[Value]]:
    """The calls that read each value."""
    readers: dict[Value, list[Value]] = {}
    for value in values:
        for operand in value.read:
            known = readers.get(operand)
            if known is None:
                readers[operand] = [value]
            else:
                known.append(value)
    return readers


def _call(group: list[Value], readers: dict[Value, list[Value]], needed: Collection[Value], loss: Value | None) -> Value:
    """A group of calls as one."""
    if len(group) == 1:
        return group[0]
    inside = set(group)
    changing = {v for v in group if changes_parameters(v)}
    results = [v for v in group if v in needed or v in changing or not inside.issuperset(readers.get(v, ()))]
    guard = loss if loss in inside and changing else None
    operands, chain = _chained(group, results, guard)
    call = Value("fused", tuple(operands), {"chain": chain, "results": tuple(results)}, group[0].shape)
    return call


def _chained(group: Sequence[Value], results: Sequence[Value], guard: Value | None) -> tuple[list[Value], Chain]:
    """The operands of a chain, and the chain."""
    operands: dict[object, tuple[int, Value]] = {}
    computed: dict[Value, int] = {}
    calls: list[tuple[str, bool, tuple[int, ...]]] = []
    for value in group:
        ordered = value.operands
        if value.kernel == "multiply" and ordered[1].shape == (1, 1):  # numbers first
            ordered = ordered[::-1]
        read: list[int] = []
        for operand in ordered if value.onto is None else (*ordered, value.onto):
            number = computed.get(operand)
            if number is None:
                number, _ = operands.setdefault(operand if operand.kernel else operand.place, (len(operands), operand))
            read.append(number)
        computed[value] = -1 - len(calls)
        calls.append((value.kernel, value.onto is not None, tuple(read)))
    stored = tuple([computed[result] for result in results])
    chain = _chain(len(operands), tuple(calls), stored, None if guard is None else computed[guard])
    return [value for _, value in operands.values()], chain


class _Node:
    """A step of a chain while it is made."""

    __slots__ = ("kernel", "operands", "uses")

    def __init__(self, kernel: str, operands: tuple[int | _Node, ...]) -> None:
        self.kernel, self.operands, self.uses = kernel, operands, 0


@lru_cache(1000)
def _chain(
    operands: int, calls: Sequence[tuple[str, bool, tuple[int, ...]]], results: Sequence[int], guard: int | None
) -> Chain:
    """A chain, by its calls: kernel, whether the last one that is read is added to, and what is read.

    Operands are numbered from 0 on, what calls compute from -1 on downwards. Chains that are alike are one object, by which
    backends may tell that they know it.
    """
    computed: list[int | _Node] = []
    known: dict[tuple[object, ...], _Node] = {}

    def register(number: int) -> int | _Node:
        return number if number >= 0 else computed[-1 - number]

    def step(kernel: str, *read: int | _Node) -> _Node:
        key = kernel, *read
        if key not in known:
            known[key] = _Node(kernel, read)
        return known[key]

    for kernel, added, numbers in calls:
        read = [register(number) for number in numbers]
        onto = read.pop() if added else None
        node = read[0] if kernel == "copy" else step(kernel, *read)
        computed.append(node if onto is None else step("add", onto, node))
    for result in results:
        if not isinstance(computed[-1 - result], _Node):  # what stands there may be changed by another result
            computed[-1 - result] = step("copy", computed[-1 - result])
    nodes = list(known.values())
    for used in [*(o for node in nodes for o in node.operands), *(register(result) for result in results)]:
        if isinstance(used, _Node):
            used.uses += 1
    for node in nodes:
        _contract(node)
    nodes = [node for node in nodes if node.uses]
    registers = {node: operands + n for n, node in enumerate(nodes)}

    def number(operand: int | _Node) -> int:
        return registers[operand] if isinstance(operand, _Node) else operand

    steps = tuple([(node.kernel, tuple([number(operand) for operand in node.operands])) for node in nodes])
    stored = tuple([number(register(result)) for result in results])
    return Chain(operands, steps, stored, None if guard is None else number(register(guard)))


def _contract(node: _Node) -> None:
    """Take a product that is only added, or only subtracted, into the sum."""
    if node.kernel not in ("add", "subtract"):
        return
    a, b = node.operands
    for product, other in ((b, a),) if node.kernel == "subtract" else ((a, b), (b, a)):
        if isinstance(product, _Node) and product.kernel == "multiply" and product.uses == 1:
            node.kernel = "multiply_add" if node.kernel == "add" else "multiply_subtract"
            node.operands = (*product.operands, other)
            product.uses = 0
            return
