"""Labels: which numbers a loss takes as targets, checked where they enter.

A loss names its :class:`Labels`. Constants are looked at when the loss is made. An input that holds labels remembers the loss
as long as the loss exists: ``set_value`` and the feeds of :func:`wyrm.fit` and :func:`wyrm.evaluate` refuse other numbers.
Labels may also be a part of an input, several put together, or an input times a number plus a number, such as ``2 * y - 1``.
What is computed in any other way is not checked.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.errors import LabelError
from wyrm.frontend.inputs import ConstantNode, InputNode
from wyrm.frontend.node import Node
from wyrm.frontend.values import as_reals

__all__ = ["LabelInputNode", "Labels", "expect_labels", "labels_of", "labels_within"]

Array = npt.NDArray[Any]
#: How far a label may lie beside what is allowed: probabilities that were computed may be 1 and a little.
_TOLERANCE = 1e-5


class Labels(NamedTuple):
    """The numbers that a loss takes.

    Attributes
    ----------
    loss
        Its name.
    low, high
        The bounds.
    between
        Whether numbers between the bounds are labels, too.
    remedy
        How others become labels.
    scale, shift
        The label is ``scale`` times the number that is given, plus ``shift``.
    places
        Which elements of the input are labels, row after row; ``None``: all.
    """

    loss: str
    low: float
    high: float
    between: bool
    remedy: str
    scale: float = 1.0
    shift: float = 0.0
    places: tuple[int, ...] | None = None

    def outside(self, values: Array) -> Array:
        """Which numbers should be labels and are none. A row has all that one input holds, or what one example gives to it."""
        labels = values if (self.scale, self.shift) == (1, 0) else self.scale * values + self.shift
        if self.between:
            wrong = ~((labels >= self.low - _TOLERANCE) & (labels <= self.high + _TOLERANCE))
        else:
            wrong = ~((abs(labels - self.low) <= _TOLERANCE) | (abs(labels - self.high) <= _TOLERANCE))
        if self.places is not None:
            wrong &= np.isin(np.arange(wrong.shape[1]), np.array(self.places) % max(1, wrong.shape[1]))
        return wrong

    def has(self, number: float) -> bool:
        """Whether one number gives a label."""
        label = self.scale * number + self.shift
        if self.between:
            return self.low - _TOLERANCE <= label <= self.high + _TOLERANCE
        return abs(label - self.low) <= _TOLERANCE or abs(label - self.high) <= _TOLERANCE

    def check(self, values: Array, who: str) -> None:
        """Raise :class:`LabelError` if one of several numbers gives no label."""
        values = values.reshape(1, -1)
        wrong = self.outside(values)
        if wrong.any():
            raise LabelError(f"{who}: got {self.told(values[wrong][0])}")

    def told(self, number: Any) -> str:
        """A number that gives no label, and what is expected."""
        number = float(number)
        label = self.scale * number + self.shift
        made = "" if label == number else f", which makes a label of {label:g}"
        allowed = f"from {self.low:g} to {self.high:g}" if self.between else f"{self.low:g} and {self.high:g}"
        return f"{number:g}{made}; {self.loss} takes labels {allowed}; {self.remedy}"

    def of(self, scale: float, shift: float) -> Labels:
        """The same of numbers from which these labels' numbers are made: times ``scale``, plus ``shift``."""
        return self._replace(scale=self.scale * scale, shift=self.scale * shift + self.shift)


#: A loss that an input feeds labels to: the numbers that make its lowest and highest label, all that do, and a node that exists
#: as long as the loss does.
LabelUse = tuple[float, float, Labels, "weakref.ref[Node]"]
#: Looked up once, since labels are set at each step.
_set_value = InputNode.set_value


class LabelInputNode(InputNode):
    """An input of labels: an :class:`InputNode` becomes one when a loss is made of it, so other inputs pay for no check."""

    __slots__ = ()

    def set_value(self, value: npt.ArrayLike) -> None:
        """As :meth:`InputNode.set_value`, of labels."""
        if type(value) is float or type(value) is int:
            for low, high, labels, use in self._uses:  # mostly labels are the ends
                if not (value in (low, high) or labels.has(value)) and use() is not None:
                    raise LabelError(f"{self._label()}: set_value got {labels.told(value)}")
        else:
            array = as_reals(value, self._label())
            for labels in labels_of(self):
                labels.check(array, f"{self._label()}: set_value")
        _set_value(self, value)


def labels_of(node: Node, roots: Sequence[Node] = ()) -> list[Labels]:
    """What the losses that are made of an input take: of those that exist and, if there are roots, that one depends on."""
    return [labels for labels, made in labels_within(node) if not roots or any(root._depends_on(made) for root in roots)]


def labels_within(node: Node) -> list[tuple[Labels, Node]]:
    """What the losses that are made of an input take, and a node of each."""
    return [(labels, made) for _, _, labels, use in getattr(node, "_uses", ()) if (made := use()) is not None]


def expect_labels(target: Any, labels: Labels, use: Node, places: Array | None = None) -> None:
    """Require that a target of a loss holds labels, now and whenever it is set or fed while the node ``use`` exists.

    Parameters
    ----------
    places
        Which elements of a node are labels, row after row; ``None``: all.

    Raises
    ------
    LabelError
        If it holds something else now.
    """
    if not isinstance(target, Node):
        return labels.check(as_reals(target, labels.loss), labels.loss)
    for node, expected in _sources(target, labels, places):
        if isinstance(node, ConstantNode):
            expected.check(node.value, labels.loss)
            continue
        if node.is_set:
            expected.check(node.value, node._label())
        if not isinstance(node, LabelInputNode):
            node.__class__ = LabelInputNode
            node._uses = []
        low, high = ((end - expected.shift) / (expected.scale or 1.0) for end in (labels.low, labels.high))
        node._uses = [made for made in node._uses if made[-1]() is not None] + [(low, high, expected, weakref.ref(use))]


def _sources(node: Node, labels: Labels, places: Array | None = None) -> Iterator[tuple[InputNode | ConstantNode, Labels]]:
    """The inputs and constants that labels come from, and what each is to hold; none for what is computed in any other way.

    Of the node, the elements at ``places`` are labels, row after row; ``None``: all.
    """
    if isinstance(node, (InputNode, ConstantNode)):
        yield node, labels if places is None else labels._replace(places=tuple(places.tolist()))
        return
    op, parents, attributes = node._structure.op.name, node._parents, dict(node._structure.attributes)
    if op in ("t", "slice"):
        (operand,) = parents
        numbers = np.arange(operand.shape[0] * operand.shape[1]).reshape(operand.shape)
        numbers = numbers.T if op == "t" else numbers[slice(*attributes["rows"]), slice(*attributes["cols"])]
        yield from _sources(operand, labels, numbers.ravel()[slice(None) if places is None else places])
    elif op == "stack":
        owners = np.concatenate([np.full(part.shape, n) for n, part in enumerate(parents)], attributes["axis"]).ravel()
        for n, part in enumerate(parents):
            own = None if places is None else np.flatnonzero(np.isin(np.flatnonzero(owners == n), places))
            if own is None or len(own):
                yield from _sources(part, labels, own)
    elif op in ("reshape", "neg"):
        yield from _sources(parents[0], labels.of(-1.0, 0.0) if op == "neg" else labels, places)
    elif (scaled := _scaled(op, parents)) is not None:
        operand, scale, shift = scaled
        yield from _sources(operand, labels.of(scale, shift), places)


def _scaled(op: str, parents: tuple[Node, ...]) -> tuple[Node, float, float] | None:
    """The operand that an op multiplies with a number, and adds a number to; ``None`` if it does something else."""
    if op not in ("add", "subtract", "multiply", "divide"):
        return None
    (a, b), (first, second) = parents, map(_number, parents)
    if second is not None:
        if op == "divide":
            return (a, 1 / second, 0.0) if second else None
        return {"add": (a, 1.0, second), "subtract": (a, 1.0, -second), "multiply": (a, second, 0.0)}[op]
    if first is None or op == "divide":
        return None
    return {"add": (b, 1.0, first), "subtract": (b, -1.0, first), "multiply": (b, first, 0.0)}[op]


def _number(node: Node) -> float | None:
    """The number that a constant is."""
    return float(node.value[0, 0]) if isinstance(node, ConstantNode) and node.shape == (1, 1) else None
