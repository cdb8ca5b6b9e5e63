"""Pictures of graphs: what stands behind a node, as text and drawn.

For whoever debugs a model: which node is made of which, of what shape, and what kind of gradient each parameter will get. The
kind is read from the program that a backward pass runs, so what is shown is what happens. Nothing is run, and the graph is
left as it is. Text needs nothing but Wyrm; drawing needs the extra ``draw``.
"""

from __future__ import annotations

import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wyrm.errors import CapabilityError, DTypeError
from wyrm.frontend.inputs import ConstantNode
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.node import Node
from wyrm.frontend.op import PARAMETER, Op
from wyrm.program import Shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawing", "draw"]

_Role = Literal["input", "parameter", "op"]
_COLOURS: dict[_Role, str] = {"input": "#cfe8fc", "parameter": "#fde2b8", "op": "#eeeeee"}
_GRADIENTS = {"dense": "dense gradient", "rows": "row-sparse gradient", None: "no gradient"}
#: Nodes beyond which notebooks show the short form: nobody could read the picture.
_NOTEBOOK_LIMIT = 500
#: Inches from one node to the next, across and down.
_SPACING = 1.9, 0.95


#: What brings the extra.
_INSTALL = "pip install wyrm-autodiff[draw]"


class _Entry(NamedTuple):
    """One node of a drawing; operands are numbers of earlier ones."""

    role: _Role
    label: str
    shape: Shape
    operands: tuple[int, ...]
    gradient: str


class Drawing:
    """A graph as it was when it was drawn: text by ``str()``, a picture by :meth:`save` and in notebooks.

    Drawings are made by :func:`draw`.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: list[_Entry]) -> None:
        self._entries = entries

    def __str__(self) -> str:
        """One line a node, operands before results."""
        numbers = len(str(len(self._entries) - 1))
        labels = max(len(entry.label) for entry in self._entries)
        shapes = max(len(str(entry.shape)) for entry in self._entries)
        lines = []
        for number, entry in enumerate(self._entries):
            note = "of " + ", ".join(map(str, entry.operands)) if entry.operands else entry.gradient
            lines.append(f"{number:>{numbers}}  {entry.label:<{labels}}  {entry.shape!s:<{shapes}}  {note}".rstrip())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Drawing of {self._entries[-1].label} {self._entries[-1].shape}, {len(self._entries)} nodes>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file.

        Parameters
        ----------
        path
            Where to. The suffix says in which format, of those that matplotlib has: ``.svg``, ``.png``, ``.pdf`` and others;
            without one, SVG.

        Raises
        ------
        CapabilityError
            Where the packages of the extra ``draw`` are not installed.
        """
        self._figure().savefig(path, format=Path(path).suffix[1:].lower() or "svg")

    def _repr_svg_(self) -> str | None:
        """The picture, for notebooks; ``None`` for graphs that are too large to be looked at, or without the extra ``draw``."""
        if len(self._entries) > _NOTEBOOK_LIMIT:
            return None
        try:
            figure = self._figure()
        except CapabilityError:
            return None  # the text is shown, and says what is missing
        file = io.StringIO()
        figure.savefig(file, format="svg")
        return file.getvalue()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The text, for IPython, and for notebooks that have no picture; the short form of graphs that are too large."""
        large = len(self._entries) > _NOTEBOOK_LIMIT
        printer.text(repr(self) if large else str(self))
        if not (find_spec("matplotlib") and find_spec("networkx")):
            printer.text(f"\n(the picture needs matplotlib and networkx: {_INSTALL})")

    def _layers(self) -> list[int]:
        """For each node, the length of the longest way to it from a leaf."""
        layers: list[int] = []
        for entry in self._entries:
            layers.append(1 + max((layers[n] for n in entry.operands), default=-1))
        return layers

    def _figure(self) -> Figure:
        """The picture, made without pyplot, so that nothing global changes."""
        try:
            import networkx
            from matplotlib.figure import Figure
        except ImportError as error:
            raise CapabilityError(
                f"drawing a graph needs matplotlib and networkx ({error}); install both by `{_INSTALL}`. "
                f"As text, by print(), it needs neither"
            ) from None
        layers = self._layers()
        graph = networkx.DiGraph()
        for number, (entry, layer) in enumerate(zip(self._entries, layers, strict=True)):
            graph.add_node(number, layer=layer)
            graph.add_edges_from((operand, number) for operand in entry.operands)
        places = networkx.multipartite_layout(graph, subset_key="layer", align="horizontal")
        (left, right), (top, bottom) = [(min(along), max(along)) for along in zip(*places.values(), strict=True)]
        depth, width = max(layers) + 1, max(layers.count(layer) for layer in set(layers))
        margin = (bottom - top) / (depth - 1) / 2 if depth > 1 else 0.5  # of half the way from layer to layer

        figure = Figure(figsize=(width * _SPACING[0], depth * _SPACING[1]))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(left - margin, right + margin)
        axes.set_ylim(bottom + margin, top - margin)  # leaves at the top
        boxes = []
        for number, entry in enumerate(self._entries):
            style = {"boxstyle": "round,pad=0.35", "facecolor": _COLOURS[entry.role], "edgecolor": "#555555"}
            x, y = places[number]
            text = axes.text(x, y, f"{entry.label}\n{entry.shape}", ha="center", va="center", fontsize=9, bbox=style)
            text.set_parse_math(False)
            boxes.append(text.get_bbox_patch())
        for operand, number in graph.edges:
            bend = 0.0 if layers[number] == layers[operand] + 1 else 0.2  # around what stands between
            arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": "#555555", "connectionstyle": f"arc3,rad={bend}"}
            arrow |= {"patchA": boxes[operand], "patchB": boxes[number], "shrinkA": 0, "shrinkB": 1}
            axes.annotate("", places[number], places[operand], arrowprops=arrow, zorder=4)  # when the boxes have their size
        return figure


def draw(node: Node) -> Drawing:
    """What stands behind a node, as text and as a picture.

    Parameters
    ----------
    node
        Any node; it need not have been run, and is not run now.

    Returns
    -------
    Drawing
        ``print`` it for text, :meth:`Drawing.save` it for a picture. Notebooks show the picture, or without the extra ``draw``
        the text. In the text, parameters have what :meth:`Node.backward` of this node adds to their gradients: a whole matrix,
        rows, or nothing.

    Raises
    ------
    DTypeError
        For anything but a node.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> table = wyrm.ParameterNode(np.zeros((1000, 4)), name="table")
    >>> weights = wyrm.ParameterNode(np.zeros((4, 1)), name="weights")
    >>> user = wyrm.IndexInputNode(name="user")
    >>> print(wyrm.draw((table.index(user).dot(weights) - 0.5).square()))
    0  ParameterNode 'table'    (1000, 4)  row-sparse gradient
    1  IndexInputNode 'user'    (1, 1)
    2  index                    (1, 4)     of 0, 1
    3  ParameterNode 'weights'  (4, 1)     dense gradient
    4  dot                      (1, 1)     of 2, 3
    5  constant 0.5             (1, 1)
    6  subtract                 (1, 1)     of 4, 5
    7  square                   (1, 1)     of 6
    """
    if not isinstance(node, Node):
        raise DTypeError(f"draw: expected a node, got {node!r}")
    traced, structures, _ = trace([node._structure])
    program = lower(traced, "interactive", frozenset())
    uses = zip(traced.leaves(PARAMETER), program.parameters, strict=True)
    gradients = {structures[number]: _GRADIENTS[use.gradient] for number, use in uses}
    numbers: dict[Node, int] = {}
    entries: list[_Entry] = []
    for drawn in node._ancestors():
        numbers[drawn] = len(entries)
        kind = drawn._structure.op
        role: _Role = "op" if isinstance(kind, Op) else "parameter" if kind is PARAMETER else "input"
        operands = tuple(numbers[operand] for operand in drawn._parents)
        entries.append(_Entry(role, _label(drawn), drawn.shape, operands, gradients.get(drawn._structure, "")))
    return Drawing(entries)


def _label(node: Node) -> str:
    """Kind and name; the number that a constant is."""
    name = getattr(node, "name", None)
    if name:
        return f"{node._kind()} {name!r}"
    if isinstance(node, ConstantNode) and node.shape == (1, 1):
        return f"{node._kind()} {node.value[0, 0]:g}"
    return node._kind()
