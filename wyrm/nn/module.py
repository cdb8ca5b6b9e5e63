"""What layers have in common: the parameters in them, by their paths, and copies that share them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from wyrm.errors import OptionError
from wyrm.frontend.parameters import ParameterNode

__all__ = ["Module", "ModuleList"]

M = TypeVar("M", bound="Module")


class Module:
    """The base of layers: parameters, and layers, among the attributes are trained.

    They may be attributes themselves or stand in lists, tuples and dictionaries, to any depth. ``layer(x)`` is
    ``layer.forward(x)``.

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
            If two parameters have the same path, because keys of a dictionary read alike or have dots in them.
        """
        named: dict[str, ParameterNode] = {}
        for path, node in _trained("", self, {id(self)}):
            if path in named:
                raise OptionError(
                    f"{type(self).__name__}: two parameters have the path {path!r}; choose other keys for the dictionary"
                )
            named[path] = node
        return named

    def clone(self: M) -> M:
        """A layer with nodes of its own over the same parameter storage, to be used by another thread."""
        return self._cloned({})

    def _cloned(self: M, twins: dict[int, Any]) -> M:
        """A clone, given the clones that there are already by the ids of what they are clones of."""
        clone = twins[id(self)] = copy.copy(self)
        for name, value in vars(self).items():
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


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """What stands in a module, list, tuple or dictionary, by attribute, number or key."""
    if isinstance(value, Module):
        yield from vars(value).items()
    if isinstance(value, (list, tuple)):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from value.items()


def _trained(path: str, value: Any, seen: set[int]) -> Iterator[tuple[str, ParameterNode]]:
    """The parameters in a value by their paths, each once; ``seen`` has the ids of what has been gone through."""
    for name, item in _items(value):
        if isinstance(item, (ParameterNode, Module, list, tuple, dict)) and id(item) not in seen:
            seen.add(id(item))
            here = f"{path}.{name}" if path else str(name)
            if isinstance(item, ParameterNode):
                yield here, item
            else:
                yield from _trained(here, item, seen)


def _twin(value: Any, twins: dict[int, Any]) -> Any:
    """What stands for a value in a clone: the value itself, unless a parameter or layer is in it."""
    if id(value) in twins:
        return twins[id(value)]
    if isinstance(value, ParameterNode):
        twins[id(value)] = ParameterNode.shared(value.storage, name=value.name, trainable=value.trainable)
    elif isinstance(value, Module):
        value._cloned(twins)
    elif isinstance(value, (list, tuple, dict)) and next(_trained("", value, {id(value)}), None) is not None:
        if isinstance(value, tuple):
            items = [_twin(item, twins) for item in value]
            twins[id(value)] = value._make(items) if hasattr(value, "_make") else type(value)(items)
        else:
            twin = twins[id(value)] = copy.copy(value)
            for key, item in _items(value):
                twin[key] = _twin(item, twins)
    return twins.get(id(value), value)
