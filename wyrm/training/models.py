"""Models: what is trained or evaluated, as graphs.

* :class:`GraphModel`: nodes over inputs, with a feed by input node, or by the inputs' names. There is one graph.
* :class:`FunctionModel`: a function of nodes, with a feed by argument name. It is called once for each structure of the data
  (the lengths of its sequences, the examples of a run), with nodes that stand for the data; what it returns is a graph. All
  graphs share the parameters.

Either reads feeds, and gives for each structure a :class:`Traced`: the graph, and which column each input is loaded from.
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import FeedError, OptionError, WyrmError
from wyrm.frontend.agreement import has_changed
from wyrm.frontend.bag_inputs import BagInputNode
from wyrm.frontend.graph import TracedGraph
from wyrm.frontend.inputs import ConstantNode, IndexInputNode, InputNode
from wyrm.frontend.labels import Labels, labels_of
from wyrm.frontend.node import Node
from wyrm.frontend.op import INPUTS
from wyrm.frontend.random import RandomNode
from wyrm.frontend.structure import Structure
from wyrm.memory import Source
from wyrm.nn.module import Module
from wyrm.training.calling import Arguments
from wyrm.training.feed import WEIGHTS, Data, as_mapping, read_columns
from wyrm.training.reading import column_for, column_of

__all__ = ["FunctionModel", "GraphModel", "Model", "Traced", "seen_from"]

#: Inputs that a feed has data for.
_FED = (InputNode, IndexInputNode, BagInputNode)
#: Examples that may all have structures of their own without a warning.
_TOO_FEW = 4
#: The roots for each purpose, from what a function returned (or the nodes given), how many examples a run takes, and the node
#: of the examples' weights.
Finish = Callable[[Any, int, "Node | None"], Mapping[str, Sequence[Node]]]


def seen_from(node: Node, other: Node) -> Structure:
    """The structure of a node as another node's graph sees it."""
    if node._graph is None or other._graph is None:  # a parameter
        return other._structure
    return node._graph.bring(other._structure, other._graph)


def kept_value(node: Any, seed: int) -> npt.NDArray[Any]:
    """The value of an input that is not fed, as a row; seed and stream of a random one: ``seed``, if the graph names none."""
    if isinstance(node, RandomNode):
        own, stream = node.words
        return np.array([[own if node.seeded else seed, stream]])
    return np.ascontiguousarray(node.value.reshape(1, -1))


def _leaves_of(roots: Sequence[Node]) -> dict[Structure, Node]:
    """The leaves behind nodes, but for parameters, as the graph of the first sees them."""
    nodes = dict.fromkeys(node for root in roots for node in root._ancestors())
    return {seen_from(roots[0], node): node for node in nodes if node._structure.op in INPUTS}


def _leaves(roots: Sequence[Node]) -> dict[Structure, Node]:
    """The same; one node keeps them, unless it is a leaf, which would keep itself."""
    root = roots[0]
    if len(roots) > 1 or not root._parents:
        return _leaves_of(roots)
    try:
        return root._leaves
    except AttributeError:
        root._leaves = leaves = _leaves_of(roots)
        return leaves


class Traced:
    """One structure of a model.

    Attributes
    ----------
    roots
        What is computed.
    examples
        How many examples a run takes.
    """

    def __init__(self, roots: Sequence[Node], fed: Mapping[Node, tuple[Any, int]], examples: int) -> None:
        self.roots, self.examples = list(roots), examples
        self._places = fed

    @cached_property
    def _fed(self) -> dict[Structure, tuple[Any, int]]:
        """For each input behind the roots, the column and the position that it is loaded from."""
        behind = set(self._owners.values())
        fed = {node: place for node, place in self._places.items() if node in behind}  # not, say, weights
        return {seen_from(self.roots[0], node): place for node, place in fed.items()}

    @cached_property
    def _owners(self) -> dict[Structure, Node]:
        """The node of each input."""
        return _leaves(self.roots)

    @property
    def structures(self) -> list[Structure]:
        """Those of the roots, in the graph of the first."""
        return [seen_from(self.roots[0], root) for root in self.roots]

    def layout(self, data: Data) -> tuple[Any, ...]:
        """What is equal for data that the same programs can read in the same memory."""
        first, columns = self.roots[0], data.columns
        numbers = {name: number for number, name in enumerate(columns)}  # the order in which a feed has them
        places = self._places.items()
        return *self.structures, *(
            (seen_from(first, node), numbers[name], at, columns[name].layout) for node, (name, at) in places
        )

    def place(self, leaf: Structure) -> tuple[Any, int] | None:
        """The column and the position that an input is loaded from; ``None`` where it keeps its value.

        Raises
        ------
        FeedError
            Where there is neither.
        """
        owner = self._owners.get(leaf)
        if owner is None:
            raise FeedError(has_changed("the model"))
        if leaf in self._fed:
            return self._fed[leaf]
        if isinstance(owner, (ConstantNode, RandomNode)) or getattr(owner, "constant", False):
            return None
        if getattr(owner, "within_loop", False):
            raise owner._missing()  # type: ignore[attr-defined]
        raise FeedError(
            f"{owner._label()} is an input of {self.roots[0]!r} that no argument stands for; pass its data as an argument, or "
            f"make it with constant=True to keep its value"
        )

    def owner(self, leaf: Structure) -> Node:
        """The node of an input."""
        return self._owners[leaf]

    def labels(self, leaf: Structure) -> list[Labels]:
        """What the losses among these nodes take that an input feeds labels to."""
        return labels_of(self._owners[leaf], self.roots)

    @property
    def has_labels(self) -> bool:
        """Whether a loss may take what is fed as labels."""
        return any(hasattr(node, "_uses") for node in self._places)

    def kept(self, leaf: Structure, seed: int) -> Source:
        """Where runners read an input that keeps its value, or is random: with ``seed``, where the graph names none."""
        return Source(kept_value(self._owners[leaf], seed), constant=True)


class Model(ABC):
    """What is trained or evaluated.

    Parameters
    ----------
    finish
        Makes the roots.
    rows
        How many examples a run takes, but for shorter last ones.
    weighted
        Whether examples have weights.
    """

    def __init__(self, finish: Finish, rows: int, weighted: bool) -> None:
        self._finish, self.rows, self.weighted = finish, rows, weighted

    @abstractmethod
    def keyed(self, feed: Any) -> Mapping[Any, Any]:
        """What a feed has for each input, by node, or for each argument, by name; not looked at yet."""

    @abstractmethod
    def read(self, keyed: Mapping[Any, Any], weights: Any = None) -> Data:
        """Check what :meth:`keyed` gave."""

    @abstractmethod
    def traced(self, data: Data, structure: int, examples: int, purpose: str) -> Traced:
        """The graph of a purpose, for a structure of the data and so many examples."""

    def _roots(self, result: Any, fed: dict[Node, tuple[Any, int]], examples: int, dtype: str | None) -> dict[str, Traced]:
        """The graphs for each purpose."""
        weight = InputNode((examples, 1), name=WEIGHTS, dtype=dtype) if self.weighted else None
        roots = self._finish(result, examples, weight)
        places = {**fed, weight: (WEIGHTS, 0)} if weight is not None else fed
        if weight is not None and weight._graph is not None:
            weight._graph.closed = True  # inputs that are made later do not join it
        return {purpose: Traced(nodes, places, examples) for purpose, nodes in roots.items()}


class GraphModel(Model):
    """Nodes over inputs, which have one shape: a run takes one example.

    Parameters
    ----------
    nodes
        What is computed.
    """

    def __init__(self, nodes: Sequence[Node], finish: Finish, weighted: bool = False) -> None:
        super().__init__(finish, 1, weighted)
        self.nodes = list(nodes)
        self._traced: dict[frozenset[Node], dict[str, Traced]] = {}

    def keyed(self, feed: Any) -> Mapping[Any, Any]:
        """What a feed by input nodes, or their names, has for each input."""
        first = self.nodes[0]
        leaves = _leaves(self.nodes)
        keyed: dict[Any, Any] = {}
        fed = set()
        for key, data in as_mapping(feed, "input nodes, or their names,").items():
            node: Any = self._named(key, leaves.values()) if isinstance(key, str) else key
            leaf = seen_from(first, node) if isinstance(node, _FED) else None
            if leaf is None or leaf not in leaves:
                raise self._no_input(node, leaves.values())
            if leaf in fed:
                raise FeedError(f"feed: there are data for {node._label()} twice, by the node and by its name; leave out one")
            keyed[node] = data
            fed.add(leaf)
        for leaf, node in leaves.items():
            if leaf not in fed and isinstance(node, _FED) and not getattr(node, "constant", False):
                raise FeedError(f"feed: {node._label()} is an input of {first!r} and missing; add an array for it")
        if not keyed:
            raise FeedError(f"feed: {first!r} has no inputs to feed; run it with forward and backward instead")
        return keyed

    def read(self, keyed: Mapping[Any, Any], weights: Any = None) -> Data:
        """Check the data for each input."""
        return read_columns({node: column_for(node, data) for node, data in keyed.items()}, weights)

    def _named(self, name: str, leaves: Iterable[Node]) -> Node:
        """The input of a name."""
        named = [node for node in leaves if isinstance(node, _FED) and node.name == name]
        if len(named) > 1:
            raise FeedError(f"feed: {len(named)} inputs of {self.nodes[0]!r} have the name {name!r}; feed them by their nodes")
        if not named:
            raise self._no_input(name, leaves)
        return named[0]

    def _no_input(self, key: Any, leaves: Iterable[Node]) -> FeedError:
        """The error that a feed has data for something else than an input."""
        inputs = [node for node in leaves if isinstance(node, _FED)]
        label, remedy = key._label() if isinstance(key, Node) else repr(key), ""
        if isinstance(key, str):
            near = get_close_matches(key, [node.name for node in inputs if node.name], 1)
            remedy = f"; is {near[0]!r} meant?" if near else "; of a data frame, choose the columns: frame[['x', 'y']]"
        names = ", ".join(node._label() for node in inputs) or "none"
        return FeedError(f"feed: {label} is not an input of {self.nodes[0]!r}; its inputs are {names}{remedy}")

    def traced(self, data: Data, structure: int, examples: int, purpose: str) -> Traced:
        """The one graph."""
        fed = frozenset(node for node in data.columns if isinstance(node, Node))
        if fed not in self._traced:
            places: dict[Node, tuple[Any, int]] = {node: (node, 0) for node in fed}
            with TracedGraph("wyrm.fit"):  # in which the weights are, not in a graph that the caller is making
                self._traced[fed] = self._roots(self.nodes, places, 1, self.nodes[0].dtype)
            for node in self.nodes:
                if node._graph is not None:
                    node._graph.closed = True
        return self._traced[fed][purpose]


class FunctionModel(Model):
    """A function of nodes, called with them by keyword.

    Parameters
    ----------
    function
        Called once for each structure.
    caller
        Who calls it, for messages: ``fit`` or ``evaluate``.
    dtype
        Of the nodes that stand for real numbers; ``None``: that of the first nodes that they meet.
    """

    def __init__(
        self, function: Callable[..., Any], caller: str, finish: Finish, rows: int, dtype: str | None, weighted: bool = False
    ) -> None:
        super().__init__(finish, rows, weighted)
        self.function, self.dtype = function, dtype
        self.name = getattr(function, "__qualname__", type(function).__name__)
        self._who = f"wyrm.{caller} traces the function {self.name!r}"
        self._traced: dict[Any, dict[str, Traced]] = {}
        self._repeats: bool | None = None

    def keyed(self, feed: Any) -> Mapping[Any, Any]:
        """What a feed by argument name has."""
        keyed = as_mapping(feed, f"the argument names of {self.name!r}")
        for name in keyed:
            if not isinstance(name, str):
                label = name._label() if isinstance(name, Node) else repr(name)
                raise FeedError(f"feed: the model is the function {self.name!r}, so data go by argument names; got {label}")
        if not keyed:
            self._check_names(keyed)
            raise FeedError(f"feed: expected data for the arguments of {self.name!r}, got none")
        return keyed

    def read(self, keyed: Mapping[Any, Any], weights: Any = None) -> Data:
        """Check the data for each argument."""
        try:
            data = read_columns({name: column_of(repr(name), values) for name, values in keyed.items()}, weights)
        except WyrmError:
            self._check_names(keyed)
            raise
        self._check_repetition(data)
        return data

    def _check_names(self, feed: Iterable[str]) -> None:
        """Raise if the arguments of the function are others: to say why something else went wrong, the call included."""
        try:
            function = self.function.forward if isinstance(self.function, Module) else self.function
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # of compiled code, some say nothing
            return
        kinds = inspect.Parameter
        named = {name: p for name, p in parameters.items() if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
        others = [name for name, p in parameters.items() if p.kind is kinds.POSITIONAL_ONLY and p.default is kinds.empty]
        if others:
            raise FeedError(f"feed: {self.name!r} takes {others[0]!r} by position only, and arguments are passed by name")
        missing = [name for name, p in named.items() if p.default is kinds.empty and name not in feed]
        unexpected = [name for name in feed if name not in named]
        if any(p.kind is kinds.VAR_KEYWORD for p in parameters.values()):
            unexpected = []
        if missing or unexpected:
            parts = [f"{', '.join(map(repr, missing))} missing"] if missing else []
            parts += [f"{', '.join(map(repr, unexpected))} unexpected"] if unexpected else []
            takes = ", ".join(map(repr, named)) or "none"
            remedy = "; of a data frame, choose the columns: frame[['x', 'y']]" if unexpected else ""
            raise FeedError(f"feed: the arguments do not fit {self.name!r}, which takes {takes}: {'; '.join(parts)}{remedy}")

    def _check_repetition(self, data: Data) -> None:
        """Warn, of the first data, where every example has a structure of its own."""
        if self._repeats is None:
            count = len(data.structures)
            self._repeats = count < max(data.length, _TOO_FEW)
            if not self._repeats:
                warnings.warn(
                    f"{self._who} for {count} structures, which never repeat: each of {data.length} examples has another one, "
                    f"so that a program is made for each. Pad or cut the sequences to fewer lengths, or pool them as wyrm.Bags",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def traced(self, data: Data, structure: int, examples: int, purpose: str) -> Traced:
        """The graph of a structure; the function is called where that is new."""
        lengths = data.structures[structure]
        key = tuple((name, c.signature) for name, c in data.columns.items() if name != WEIGHTS), lengths, examples
        if key not in self._traced:
            self._traced[key] = self._call(data, structure, examples)
        return self._traced[key][purpose]

    def _call(self, data: Data, structure: int, examples: int) -> dict[str, Traced]:
        with TracedGraph(self._who) as graph:
            arguments = Arguments(data, structure, examples, self.dtype)
            graph.round_numbers()
            try:
                traced = self._roots(arguments.call(self.function), arguments.fed, examples, self.dtype)
            except WyrmError as error:
                raise type(error)(f"{error} ({self._described(data, structure)})") from error
            except Exception as error:
                self._check_names(arguments.by_name)
                described = self._described(data, structure)
                if 0 not in data.structures[structure]:
                    if hasattr(error, "add_note"):
                        error.add_note(described)
                    raise
                raise FeedError(
                    f"feed: the function {self.name!r} cannot take a sequence without entries: {type(error).__name__}: {error} "
                    f"({described})"
                ) from error
        for node in arguments.fed:
            if node.is_set:  # type: ignore[attr-defined]
                raise OptionError(f"{self.name!r} sets the value of {node._label()}, which stands for the data of all examples")
        return traced

    def _described(self, data: Data, structure: int) -> str:
        """Of which examples the structure is."""
        example = data.first(structure)
        names = [name for name, column in data.columns.items() if column.offsets is not None]
        lengths = ", ".join(f"{name} of length {n}" for name, n in zip(names, data.structures[structure], strict=True))
        return f"as {self._who} for {lengths + ', that of ' if lengths else ''}example {example}"
