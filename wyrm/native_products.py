"""Products in loops (:mod:`wyrm.native_loops`): what no example changes is multiplied once, what is known last comes last.

A gradient is a product of numbers that stay as they are, such as a learning rate, of numbers of the example, and of the error,
for which everything else waits. Written as the derivatives make it, one multiplication after the other waits with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from wyrm.native_chains import Item, Place, RowStep, Step, may_meet
from wyrm.program import Instruction, Program, Slot

__all__ = ["Products", "read_numbers"]

#: Steps of which the first two operands are multiplied.
_OF_PRODUCTS = ("multiply", "multiply_add", "multiply_subtract")


class Products:
    """The items of a loop with their products in another order.

    Parameters
    ----------
    program
        The program of the loop.
    items
        What is done for each example. Nothing that steps compute is taken to be at hand, everything is stored.
    numbers
        How many places there are that have no slot, each computed by one step.

    Attributes
    ----------
    once
        Steps to be made before the first example.
    items, numbers
        The same as the parameters, after that.
    """

    def __init__(self, program: Program, items: Sequence[Item], numbers: int) -> None:
        self.buffers = program.buffers
        self.numbers = numbers
        self.once: list[Step] = []
        self._changed = [list(_changed(item)) for item in items]
        self._items = items
        self._made = {item.out: n for n, item in enumerate(items) if isinstance(item, Step) and isinstance(item.out, int)}
        self._reads = Counter(place for item in items for place in read_numbers(item))
        self._inputs = {(source.slot.buffer, source.slot.offset) for source in program.inputs}
        self._literals = {(slot.buffer, slot.offset) for _, slot in program.literals}
        self._known: dict[tuple[Place, ...], int] = {}  # products of what no example changes
        self.items: list[Item] = []
        for n, item in enumerate(items):
            if isinstance(item, Step) and item.kernel in _OF_PRODUCTS:
                self._product(n, item)
            else:
                self.items.append(item)
        self._drop_unread()

    def _product(self, n: int, step: Step) -> None:
        """Append a step, with its first two operands made from other products if that takes no more steps."""
        passed: list[int] = []
        factors = [f for operand in step.operands[:2] for f in self._factors(operand, n, passed)]
        constant = tuple(f for f in factors if self._is_constant(f))
        others = sorted((f for f in factors if not self._is_constant(f)), key=lambda f: not self._is_input(f))
        spared = sum(self._reads[number] == 1 for number in passed)
        if passed and constant and len(others) in (1, 2) and (len(others) == 1 or spared):
            *early, late = others
            first = self._once(constant)
            for factor in early:
                product = Step("multiply", (0, 0), True, self.numbers, (factor, first))
                place = self._place_of(late) if self._is_input(factor) else len(self.items)
                self.items.insert(place, product)
                first = product.out
                self.numbers += 1
            step = step._replace(operands=(late, first, *step.operands[2:]))
        self.items.append(step)

    def _factors(self, place: Place, n: int, passed: list[int]) -> list[Place]:
        """What is multiplied to what item n reads at a place; products that are not needed for it are noted."""
        if not isinstance(place, int) or place not in self._made:
            return [place]
        made = self._made[place]
        step = self._items[made]
        assert isinstance(step, Step)
        if step.kernel != "multiply" or any(self._changes(operand, made + 1, n) for operand in step.operands):
            return [place]
        passed.append(place)
        return [f for operand in step.operands for f in self._factors(operand, n, passed)]

    def _place_of(self, number: Place) -> int:
        """Where among the items a number is made: where another is wanted beside it, it can be made there as well."""
        made = (n for n, item in enumerate(self.items) if isinstance(item, Step) and item.out == number)
        return next(made, len(self.items)) if isinstance(number, int) else len(self.items)

    def _changes(self, place: Place, begin: int, end: int) -> bool:
        """Whether items from ``begin`` to before ``end`` may change what is at a place."""
        if isinstance(place, int):
            return False
        return any(self._meet(place, slot) for slots in self._changed[begin:end] for slot in slots)

    def _meet(self, number: Slot, slot: Slot) -> bool:
        """Whether a number may be one of a slot's."""
        end = slot.offset + (slot.shape[0] - 1) * slot.stride + slot.shape[1]
        inside = number.buffer == slot.buffer and slot.offset <= number.offset < end
        return inside or may_meet(number, slot, self.buffers)

    def _is_constant(self, place: Place) -> bool:
        """Whether a number is the same for all examples of a run."""
        if isinstance(place, int) or self._is_input(place):
            return False
        if (place.buffer, place.offset) in self._literals:
            return True
        return self.buffers[place.buffer].kind == "scalars" and not self._changes(place, 0, len(self._items))

    def _is_input(self, place: Place) -> bool:
        return isinstance(place, Slot) and (place.buffer, place.offset) in self._inputs

    def _once(self, factors: tuple[Place, ...]) -> Place:
        """Where the product of numbers is that no example changes."""
        if len(factors) == 1:
            return factors[0]
        if factors not in self._known:
            before = self._once(factors[:-1])
            self.once.append(Step("multiply", (0, 0), True, self.numbers, (before, factors[-1])))
            self._known[factors] = self.numbers
            self.numbers += 1
        return self._known[factors]

    def _drop_unread(self) -> None:
        """Leave out products that nothing needs any more."""
        read: set[Place] = set()
        kept: list[Item] = []
        for item in reversed(self.items):
            if isinstance(item, Step) and item.kernel == "multiply" and isinstance(item.out, int) and item.out not in read:
                continue
            read.update(read_numbers(item))
            kept.append(item)
        self.items = kept[::-1]


def read_numbers(item: Item) -> Iterable[Place]:
    """The places of the numbers that a step reads."""
    if isinstance(item, Instruction):
        return ()
    return item.step.operands if isinstance(item, RowStep) else item.operands


def _changed(item: Item) -> Iterable[Slot]:
    """The slots that an item changes, and for rows those that it reads, too."""
    if isinstance(item, Instruction):
        return (item.out, *(slot for i in item.body for slot in _changed(i)))
    if isinstance(item, RowStep):
        return (*item.rows, *_changed(item.step))
    return (item.out,) if isinstance(item.out, Slot) else ()
