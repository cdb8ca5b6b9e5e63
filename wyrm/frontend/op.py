"""What an op is. The ops themselves, the op table, stand in :mod:`wyrm.frontend.ops`, each in one place.

An op is a shape rule, a forward pass and one VJP (vector-Jacobian product) for each operand, all of them written in kernels:
so every backend that has the kernels has the op and its derivative. ``k`` is the emitter that records kernel calls
(:class:`wyrm.frontend.lowering.emitter.Emitter`), ``g`` the gradient of the op's result ``y``, and the rest are the operands::

    MULTIPLY = Op("multiply", broadcast_shapes, lambda k, a, b: k.multiply(a, b),
                  (lambda k, g, y, a, b: k.multiply(g, b),
                   lambda k, g, y, a, b: k.multiply(g, a)))

Neither sums over broadcast axes nor adds up several uses: that is done once, for all ops, by
:func:`wyrm.frontend.lowering.differentiate.differentiate`. A VJP of an operand that needs no gradient is never called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.node import Node
    from wyrm.frontend.structure import Structure
    from wyrm.program import Attributes

__all__ = ["BAG", "INDEX", "INPUT", "INPUTS", "OPS", "PARAMETER", "RANDOM", "Leaf", "Op", "Operand"]

#: Every op, by name.
OPS: dict[str, Op] = {}


@dataclass(frozen=True, eq=False)
class Op:
    """A differentiable function of matrices.

    Attributes
    ----------
    name
        As users know it: the name of the node's method, or of the operator.
    shape
        The result's shape from the operands' shapes and the attributes, by name; raises ``ValueError``, with what was expected,
        where they do not fit.
    forward
        Records the kernel calls that compute the result: ``forward(k, *operands, **attributes)``.
    vjps
        For each operand, what records its share of the gradient: ``vjp(k, g, y, *operands, **attributes)``; ``None`` where no
        gradient flows.
    variadic
        Whether there may be any number of operands; then ``vjps`` is one function, which is given an operand's number:
        ``vjp(number, k, g, y, *operands, **attributes)``.
    takes_indices
        Whether row numbers, bags or keys may be among the operands.
    indices
        Whether the result is row numbers, and not real ones.
    masks
        Whether it chooses between operands, so that the gradient of what was not chosen is 0.
    local
        Whether an operand's gradient is 0 wherever that of the result is, element by element, or by rows of one element.
    """

    name: str
    shape: Callable[..., Shape]
    forward: Callable[..., Any]
    vjps: tuple[Callable[..., Any] | None, ...]
    variadic: bool = False
    takes_indices: bool = False
    indices: bool = False
    masks: bool = False
    local: bool = False

    def __post_init__(self) -> None:
        if self.name in OPS:
            raise ValueError(f"there is an op {self.name!r} already")
        OPS[self.name] = self

    def vjps_of(self, count: int) -> tuple[Callable[..., Any] | None, ...]:
        """The VJPs for so many operands."""
        if not self.variadic:
            return self.vjps
        (vjp,) = self.vjps
        if vjp is None:
            return (None,) * count
        return tuple(partial(vjp, number) for number in range(count))

    def __repr__(self) -> str:
        return f"Op({self.name!r})"


class Leaf:
    """A kind of leaf of a graph, where an op stands for other nodes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Leaf({self.name!r})"


#: Real numbers that a user sets; also constants.
INPUT = Leaf("input")
#: Row numbers that a user sets.
INDEX = Leaf("index")
#: Any number of row numbers that a user sets.
BAG = Leaf("bag")
#: The key of random numbers.
RANDOM = Leaf("random")
#: The leaves that are loaded before a forward pass.
INPUTS = (INPUT, INDEX, BAG, RANDOM)
#: What is trained.
PARAMETER = Leaf("parameter")


class Operand:
    """The base of the classes in :mod:`wyrm.frontend.ops` that give nodes their methods."""

    __slots__ = ()

    if TYPE_CHECKING:
        _structure: Structure

        @property
        def shape(self) -> Shape: ...  # noqa: D102
        def _unary(self, op: Op, attributes: Attributes = ()) -> Node: ...
        def _binary(self, op: Op, other: Any) -> Node: ...
        def _binary_reflected(self, op: Op, other: Any) -> Node: ...
        def _general(self, op: Op, others: tuple[Any, ...], attributes: Attributes) -> Node: ...
