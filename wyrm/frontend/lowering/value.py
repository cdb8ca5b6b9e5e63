"""Values: the matrices that a program computes or finds, while it is being made."""

from __future__ import annotations

from typing import Any

from wyrm.program import Shape

__all__ = ["VIEWS", "Value"]

#: What sees the memory of its operand otherwise. No call: nothing is to be done for it, and passes see what it views.
VIEWS = ("view", "slice")


class Value:
    """A matrix that a program computes or finds.

    Attributes
    ----------
    kernel
        What computes it; empty where it is found. Beside the kernels of the table there are ``view`` and ``slice``, the
        operand's memory seen otherwise, ``blocks`` and ``pad``, which become copies into parts of the result, and ``rows``,
        a row-sparse contribution.
    place
        Where it is found: ``("input", n)``, ``("index", n)``, ``("bag", n)``, ``("value", parameter)``,
        ``("gradient", parameter)``, ``("state", parameter, name)``, ``("clock", parameter, rule)``, ``("scalars", rule)``,
        ``("literal", number)``, ``("seed",)``, ``("outcome", n)``; ``("row", index, "", place of a table)``. Of a value that is
        computed: where it is stored; ``("drawn",)`` for indices that are drawn.
    viewed
        Of a view, the value whose memory it is, which is none; else ``None``.
    onto
        The value to which the kernel's result is added, in place; nobody reads that one afterwards.
    uses
        How many calls and contributions refer to it.
    body
        For a draw, the calls that are repeated with it; they follow it in the order of computation.
    """

    __slots__ = ("attributes", "body", "kernel", "onto", "operands", "place", "shape", "uses", "viewed")

    def __init__(
        self,
        kernel: str,
        operands: tuple[Value, ...] = (),
        attributes: dict[str, Any] | None = None,
        shape: Shape = (0, 0),
        place: tuple[Any, ...] = (),
    ) -> None:
        self.kernel = kernel
        self.operands = operands
        self.attributes = {} if attributes is None else attributes
        self.shape = shape
        self.place = place
        self.viewed: Value | None = (operands[0].viewed or operands[0]) if kernel in VIEWS else None
        self.onto: Value | None = None
        self.uses = 0
        self.body: tuple[Value, ...] = ()

    @property
    def read(self) -> list[Value]:
        """What has to be there before it can be computed: of views, what they view."""
        read = [operand.viewed or operand for operand in self.operands]
        if self.onto is not None:
            read.append(self.onto)
        return read

    def __repr__(self) -> str:
        return f"Value({self.kernel or self.place}, {self.shape})"
