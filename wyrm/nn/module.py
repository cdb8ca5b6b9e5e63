"""What layers have in common: the parameters in them, by their paths, and copies that share them."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np

from wyrm.arguments import shown
from wyrm.errors import OptionError
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode

__all__ = ["Module", "ModuleList"]

M = TypeVar("M", bound="Module")


class Module:
    """The base of layers: parameters, and layers, among the attributes are trained.

    They may be attributes themselves, also those of ``__slots__``, or stand in lists, tuples, dictionaries and arrays of
    objects, to any depth. If they stand in a set, or in an object that is no module, they would not be trained: that is an
    error. ``layer(x)`` is ``layer.forward(x)``.

    Examples
    --------
    >>> from wyrm import nn
    >>> class Tower(nn.Module):
    ...     def __init__(self):
    ...         self.layers = [nn.Linear(8, 4, rng=1), nn.Linear(4, 1, rng=2)]
    ...
    ...     def forward(self, x):
    ...         first, second = self.layers
    ...         return second(first(x).relu())
    >>> list(Tower().named_parameters())
    ['layers.0.weights', 'layers.0.biases', 'layers.1.weights', 'layers.1.biases']
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`forward`."""
        return self.forward(*args, **kwargs)

    def parameters(self) -> list[ParameterNode]:
        """The parameters, in the order in which their attributes were set, each once."""
        return list(self.named_parameters().values())

    def named_parameters(self) -> dict[str, ParameterNode]:
        """The same by their paths: attributes, numbers in lists and tuples, keys of dictionaries, joined by dots.

        A parameter that several paths lead to, such as one of a shared layer, has the first. Optimizers that are given the
        module, :func:`wyrm.save` and the checkpoints of :func:`wyrm.fit` call it so.

        Raises
        ------
        OptionError
            If two parameters have the same path, because keys of a dictionary read alike or have dots in them; or if some stand
            where they are not looked for.
        """
        named: dict[str, ParameterNode] = {}
        seen: set[int] = {id(self)}
        hidden: list[tuple[str, Any, Any]] = []
        for path, node in _trained("", self, seen, hidden):
            if path in named:
                raise OptionError(
                    f"{type(self).__name__}: two parameters have the path {path!r}; choose other keys for the dictionary"
                )
            named[path] = node
        for path, holder, item in hidden:
            if id(item) not in seen:  # nor is there another path to it
                raise OptionError(
                    f"{type(self).__name__}: {path} is a {type(holder).__name__}, in which parameters are not looked for, and "
                    f"it holds {shown(item)}; put that into a list or dictionary, or let the class be a wyrm.nn.Module"
                )
        return named

    def clone(self: M) -> M:
        """A layer with nodes of its own over the same parameter storage, to be used by another thread."""
        return self._cloned({})

    def _cloned(self: M, twins: dict[int, Any]) -> M:
        """A clone, given the clones that there are already by the ids of what they are clones of."""
        clone = twins[id(self)] = copy.copy(self)
        for name, value in _attributes(self):
            setattr(clone, name, _twin(value, twins))
        return clone


class ModuleList(list[Any], Module):
    """A list of layers that is a layer itself: for who wants to give it to an optimizer or to :func:`wyrm.save`.

    Inside a module, a plain list does as well.

    Examples
    --------
    >>> from wyrm import nn
    >>> list(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 1, bias=False)]).named_parameters())
    ['0.weights', '0.biases', '1.weights']
    """

    def _cloned(self, twins: dict[int, Any]) -> ModuleList:
        clone = super()._cloned(twins)
        clone[:] = [_twin(value, twins) for value in self]
        return clone


def _attributes(module: Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a module, those of ``__slots__`` last."""
    yield from vars(module).items()
    for kind in type(module).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(module, name):
                yield name, getattr(module, name)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """What stands in a module, list, tuple or dictionary, by attribute, number or key."""
    if isinstance(value, Module):
        yield from _attributes(value)
    if isinstance(value, (list, tuple)):
        yield from enumerate(value)
    elif isinstance(value, np.ndarray):
        yield from enumerate(value.reshape(-1).tolist())
    elif isinstance(value, dict):
        yield from value.items()


def _trained(path: str, value: Any, seen: set[int], hidden: list[tuple[str, Any, Any]]) -> Iterator[tuple[str, ParameterNode]]:
    """The parameters in a value by their paths, each once.

    ``seen`` has the ids of what has been gone through; ``hidden`` takes what stands where parameters are not looked for: the
    path to what holds it, that, and what is held.
    """
    for name, item in _items(value):
        if id(item) in seen:
            continue
        here = f"{path}.{name}" if path else str(name)
        if not isinstance(item, (ParameterNode, Module, list, tuple, dict)) and not _is_object_array(item):
            hidden += [(here, item, held) for held in _held(item)]
        else:
            seen.add(id(item))
            if isinstance(item, ParameterNode):
                yield here, item
            else:
                yield from _trained(here, item, seen, hidden)


def _is_object_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object


def _held(value: Any) -> list[Any]:
    """The parameters and modules in something that is not gone through."""
    if isinstance(value, (set, frozenset, deque)):
        inner = list(value)
    elif isinstance(value, (Node, type, FunctionType, ModuleType)) or not hasattr(value, "__dict__"):
        return []
    else:
        inner = list(vars(value).values())
    return [item for item in inner if isinstance(item, (ParameterNode, Module))]


def _twin(value: Any, twins: dict[int, Any]) -> Any:
    """What stands for a value in a clone: the value itself, unless a parameter or layer is in it."""
    if id(value) in twins:
        return twins[id(value)]
    if isinstance(value, ParameterNode):
        twins[id(value)] = ParameterNode.shared(value.storage, name=value.name, trainable=value.trainable)
    elif isinstance(value, Module):
        value._cloned(twins)
    elif _is_object_array(value):
        twins[id(value)] = twin = value.copy()
        for place, item in enumerate(value.reshape(-1).tolist()):
            twin.reshape(-1)[place] = _twin(item, twins)
    elif isinstance(value, (list, tuple, dict)) and next(_trained("", value, {id(value)}, []), None) is not None:
        if isinstance(value, tuple):
            items = [_twin(item, twins) for item in value]
            twins[id(value)] = value._make(items) if hasattr(value, "_make") else type(value)(items)
        else:
            twin = twins[id(value)] = copy.copy(value)
            for key, item in _items(value):
                twin[key] = _twin(item, twins)
    return twins.get(id(value), value)
