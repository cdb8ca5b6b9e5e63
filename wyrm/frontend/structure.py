"""Structures: what nodes compute, without their values, interned.

The same op on the same structures, with the same attributes, is the same object: it carries shape, dtype and, once it has been
run, its programs. So rebuilding a graph costs one look-up a node. Inputs are told apart by their number in the graph being
built, parameters by the node. Whether a gradient is needed is no part of a structure: it depends on which parameters are
trainable, which may be set at any time, and is asked when a structure is traced.

The store is bounded: when it is full it is emptied. What is made of a parameter leaves it when the parameter is gone. Nodes
keep their own structures, and programs have a cache of their own, by content; so nothing but speed depends on the store.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from wyrm.errors import DTypeError, ShapeError
from wyrm.frontend.op import INPUT, PARAMETER, Leaf, Op
from wyrm.frontend.order import operands_first
from wyrm.program import Attributes, Shape

if TYPE_CHECKING:
    from wyrm.frontend.binding import Binding
    from wyrm.frontend.parameters import ParameterNode

__all__ = [
    "STORE",
    "Structure",
    "forget",
    "input_structure",
    "intern_op",
    "note_dependent",
    "parameter_structure",
    "renumbered",
]

#: How many structures the store holds before it is emptied.
STORE_LIMIT = 100_000


class Structure:
    """What a node computes.

    Attributes
    ----------
    op
        The op, or the kind of leaf.
    parents
        The operands' structures.
    attributes
        The op's attributes; for an input, its number.
    dtype
        ``float32``, ``float64``; ``int64`` for indices.
    parameter
        For a parameter, the node, held weakly.
    bindings
        The programs of a structure that was run, by backend.
    dependents
        Where something is looked up by it, if there is a parameter behind it: dictionaries, by their identities and the keys.
    """

    __slots__ = ("attributes", "bindings", "dependents", "dtype", "op", "parameter", "parents", "shape")

    def __init__(
        self,
        op: Op | Leaf,
        parents: tuple[Structure, ...],
        attributes: Attributes,
        shape: Shape,
        dtype: str,
        parameter: weakref.ref[ParameterNode] | None = None,
    ) -> None:
        self.op = op
        self.parents = parents
        self.attributes = attributes
        self.shape = shape
        self.dtype = dtype
        self.parameter = parameter
        self.bindings: dict[Any, Binding] = {}
        trained = parameter is not None or any(parent.dependents is not None for parent in parents)
        self.dependents: dict[tuple[int, tuple[Any, ...]], MutableMapping[Any, Any]] | None = {} if trained else None

    @property
    def number(self) -> int:
        """An input's number in its graph."""
        number: int = dict(self.attributes)["number"]
        return number

    @property
    def needs_gradient(self) -> bool:
        """Whether a parameter that is trainable now stands behind it, on a path that gradients take."""
        found: dict[Structure, bool] = {}
        for structure in operands_first([self], attrgetter("parents"), found):
            found[structure] = structure.takes_gradient([found[parent] for parent in structure.parents])
        return found[self]

    def takes_gradient(self, parents: Sequence[bool]) -> bool:
        """Whether it needs a gradient, from whether each of its parents does."""
        if self.op is PARAMETER:
            return self.live_parameter().trainable
        if True not in parents:
            return False
        assert isinstance(self.op, Op)
        return any(vjp is not None for vjp, trained in zip(self.op.vjps_of(len(parents)), parents, strict=True) if trained)

    def live_parameter(self) -> ParameterNode:
        """The node of a parameter; nodes keep those behind them alive."""
        node = None if self.parameter is None else self.parameter()
        assert node is not None
        return node


#: The interned structures by what they are made of: ``(op, *parents)``, with the attributes behind where there are any.
STORE: dict[tuple[Any, ...], Structure] = {}


def _keep(key: tuple[Any, ...], structure: Structure) -> Structure:
    if len(STORE) >= STORE_LIMIT:
        for dropped, made in STORE.copy().items():  # a copy is taken at once: the collector may end parameters meanwhile
            _unlink(STORE, dropped, made.parents)
        STORE.clear()
    note_dependent(STORE, key, structure.parents)
    return STORE.setdefault(key, structure)


def note_dependent(found: MutableMapping[Any, Any], key: tuple[Any, ...], parents: Iterable[Structure]) -> None:
    """Take note that something is looked up by structures, so that it is forgotten with the parameters behind them."""
    for parent in parents:
        if parent.dependents is not None:
            parent.dependents[id(found), key] = found


def _unlink(found: MutableMapping[Any, Any], key: tuple[Any, ...], parents: Iterable[Structure]) -> None:
    for parent in parents:
        if parent.dependents is not None:
            parent.dependents.pop((id(found), key), None)


def forget(structure: Structure) -> None:
    """Forget all that is made of the structure of a parameter that is gone."""
    waiting = [structure]
    while waiting:
        gone = waiting.pop()
        gone.bindings.clear()
        for (_, key), found in (gone.dependents or {}).copy().items():
            made = found.pop(key, None)
            _unlink(found, key, [part for part in key if isinstance(part, Structure)])
            if isinstance(made, Structure):
                waiting.append(made)


def intern_op(op: Op, parents: tuple[Structure, ...], attributes: Attributes = ()) -> Structure:
    """The structure of an op on others.

    Raises
    ------
    ShapeError
        Where the op's shape rule refuses the shapes. Nothing is stored then.
    DTypeError
        Where real operands differ in dtype, or are none.
    """
    key = (op, *parents, attributes) if attributes else (op, *parents)
    found = STORE.get(key)
    if found is not None:
        return found
    found_dtypes = {p.dtype for p in parents}
    dtypes = found_dtypes - {"int64"}
    if not (dtypes or op.indices) or ("int64" in found_dtypes and not op.takes_indices):
        raise DTypeError(f"{op.name}: expected real numbers, got row numbers; a table is looked up by them with index")
    if len(dtypes) > 1:
        raise DTypeError(
            f"{op.name}: operands of {' and '.join(sorted(dtypes))} meet; a graph has one dtype, so give the same `dtype=` "
            f"to all of its inputs and parameters"
        )
    try:
        shape = op.shape(*[p.shape for p in parents], **dict(attributes))
    except ValueError as error:
        raise ShapeError(f"{op.name}: {error}") from None
    dtype = "int64" if op.indices else dtypes.pop()
    return _keep(key, Structure(op, parents, attributes, shape, dtype))


def input_structure(kind: Leaf, number: int, shape: Shape, dtype: str) -> Structure:
    """The structure of input ``number`` of a graph."""
    key = (kind, number, shape, dtype)
    found = STORE.get(key)
    if found is not None:
        return found
    return _keep(key, Structure(kind, (), (("number", number),), shape, dtype if kind is INPUT else "int64"))


def parameter_structure(node: ParameterNode, shape: Shape, dtype: str) -> Structure:
    """The structure of a parameter: a new one for each node."""
    return Structure(PARAMETER, (), (), shape, dtype, weakref.ref(node))


def renumbered(structure: Structure, numbers: Mapping[int, int], done: dict[Structure, Structure]) -> Structure:
    """The same structure over inputs with other numbers.

    Parameters
    ----------
    numbers
        The new number of each input; ``KeyError`` is raised where one is missing.
    done
        What has been renumbered so already; added to.
    """
    for s in operands_first([structure], attrgetter("parents"), done):
        if isinstance(s.op, Op):
            done[s] = intern_op(s.op, tuple(done[parent] for parent in s.parents), s.attributes)
        elif s.op is PARAMETER:
            done[s] = s
        else:
            done[s] = input_structure(s.op, numbers[s.number], s.shape, s.dtype)
    return done[structure]
